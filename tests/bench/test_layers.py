"""The layers of a model: their work as published, and what is fused into what."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evit_cli.bench.estimates.layers import Layer, model_layers, model_macs, model_params
from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.variants import VARIANTS
from tests.models.test_published_numbers import PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_and_macs(name: str) -> None:
    params, macs_by_size = PUBLISHED[name]
    size_hw, macs = next(iter(macs_by_size.items()))
    assert model_params(VARIANTS[name]) == params
    assert model_macs(VARIANTS[name], size_hw) / 1e9 == pytest.approx(macs, rel=5e-3)


@pytest.mark.parametrize("name", ["cls-b0", "cls-l1", "seg-b0-cityscapes", "seg-l1-ade20k"])
@pytest.mark.parametrize("size_hw", [(224, 224), (75, 101)])
def test_macs_are_those_that_torch_counts(name: str, size_hw: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = build_model(VARIANTS[name]).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, *size_hw))
    assert 2 * model_macs(VARIANTS[name], size_hw) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["cls-b1", "seg-l1-ade20k"])
def test_weights_are_those_of_the_fused_model(name: str) -> None:
    layers = model_layers(VARIANTS[name], (128, 128))
    fused = fuse(build_model(VARIANTS[name]))
    assert sum(layer.weights for layer in layers) == sum(p.numel() for p in fused.parameters())


def test_activations_go_with_the_batch_and_weights_do_not() -> None:
    one = model_layers(VARIANTS["cls-b0"], (224, 224))
    four = model_layers(VARIANTS["cls-b0"], (224, 224), batch=4)
    assert len(one) == len(four)
    for single, many in zip(one, four, strict=True):
        assert (many.weights, many.kind, many.name) == (single.weights, single.kind, single.name)
        assert many.macs == 4 * single.macs
        assert many.outputs == 4 * single.outputs


def test_nothing_but_layers_remains_of_a_backbone() -> None:
    variant = VARIANTS["seg-b1-cityscapes"]
    kinds = Counter(layer.kind for layer in model_layers(variant, (512, 1024)))
    modules = sum(stage.depth for stage in variant.backbone.stages if stage.kind == "att")
    # Activations, norms and residual additions run inside the convolution before them.
    assert kinds["norm"] == 0
    assert kinds["matmul"] == kinds["elementwise"] == 2 * modules
    assert kinds["grouped"] == modules
    assert kinds["resize"] == 2
    assert kinds["conv"] == 1


def find(layers: list[Layer], end: str) -> Layer:
    return next(layer for layer in layers if layer.name.endswith(end))


def test_a_residual_addition_is_read_by_the_layer_that_makes_its_other_half() -> None:
    layers = model_layers(VARIANTS["seg-b0-cityscapes"], (512, 1024))
    plain = find(layers, "stages.1.0.point_conv.conv")
    residual = find(layers, "stages.1.1.main.point_conv.conv")
    assert plain.inputs == find(layers, "stages.1.0.depth_conv.conv").outputs
    expanded = find(layers, "stages.1.1.main.depth_conv.conv").outputs
    assert residual.inputs == expanded + residual.outputs
    assert residual.size_hw == (64, 128)
    assert (residual.depth, residual.width) == (128, 32)


class Foreign(nn.Module):
    """What others build of: a norm of its own after a convolution, softmax attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)  # (B, N, 8)
        x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]
        out: Tensor = self.head(x.mean(1))
        return out


def test_a_module_of_anyone() -> None:
    model = Foreign().train()
    before = model.conv.weight.clone()
    macs = {kind: 0 for kind in ("conv", "matmul", "linear")}
    layers = model_layers(model, (32, 32))
    for layer in layers:
        if layer.macs:
            macs[layer.kind] += layer.macs
    assert macs == {"conv": 64 * 8 * 48, "matmul": 2 * 64 * 64 * 8, "linear": 8 * 5}
    assert layers[0].kind == "conv" and layers[1].kind != "norm"
    assert model.training and model.norm.training
    assert torch.equal(before, model.conv.weight)
    assert not model.conv._forward_hooks
    assert model_params(model) == sum(p.numel() for p in model.parameters())
