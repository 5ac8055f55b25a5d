"""Rounding to float16: what the biases take back, and that nothing else changes."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evit_cli.export import lower as lower_module
from evit_cli.export.attention import BlockAttention
from evit_cli.export.form import Attention, Form
from evit_cli.export.graph import build_graph
from evit_cli.export.images import load_images
from evit_cli.export.lower import ImageModel, lower
from evit_cli.export.plan import ExportRequest, make_plan
from evit_cli.export.rounding import absorb_rounding
from evit_cli.inference.class_map import class_map
from evit_cli.media.images import read_image
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.layers import ConvNorm
from evit_cli.models.variants import VARIANTS
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess, Task
from evit_cli.weights.load import load_model
from tests.helpers.paths import shared_dir

SIZE = ImageSize(64, 96)


def trained(name: str) -> nn.Module:
    """A model whose BatchNorms leave large biases, as those of the published ones do."""
    torch.manual_seed(0)
    model = build_model(VARIANTS[name]).eval()
    for module in model.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            nn.init.uniform_(module.norm.bias, -20, 20)
            nn.init.uniform_(module.norm.weight, 0.5, 2)
    return model


def network(name: str, attention: Attention = "means") -> nn.Module:
    return lower(trained(name), SIZE, Form(attention))


@pytest.fixture(autouse=True)
def _blocks_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_module, "PIXELS_PER_CHANNEL", 0)


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn((3, 3, 8, 12), generator=generator)
    return nn.functional.interpolate(coarse, size=SIZE, mode="bicubic")


def run(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(inputs)
    return out


def plainly_rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(model).to(dtype).float()


@pytest.mark.parametrize("name", ["seg-b0-cityscapes", "cls-b1"])
def test_float32_changes_nothing(name: str, inputs: Tensor) -> None:
    model = network(name)
    before = run(model, inputs)
    after = run(absorb_rounding(model, inputs, dtype=torch.float32), inputs)
    assert float((after - before).abs().max()) <= 1e-5 * float(before.std())


@pytest.mark.parametrize("name", ["seg-b0-cityscapes", "cls-b1", "seg-l1-cityscapes"])
@pytest.mark.parametrize(
    ("dtype", "attention"),
    [(torch.float16, "means"), (torch.bfloat16, "means"), (torch.bfloat16, "blocks")],
)
def test_outputs_stay_closer_than_with_plain_rounding(
    name: str, dtype: torch.dtype, attention: Attention, inputs: Tensor
) -> None:
    """On inputs whose means the biases were not made for."""
    model = network(name, attention)
    unseen = inputs.flip(-1) * 0.8 + 0.1
    before = run(model, unseen)
    plain = run(plainly_rounded(model, dtype), unseen) - before
    mended = run(absorb_rounding(model, inputs, dtype=dtype), unseen) - before
    assert float(mended.square().mean()) < 0.75 * float(plain.square().mean())


def test_attention_in_blocks_keeps_its_mean_output(inputs: Tensor) -> None:
    source = fuse(MultiScaleLinearAttention(32, 16, (5,), 1e-5)).eval()
    nn.init.uniform_(source.proj.conv.bias, -20, 20)
    x = inputs.repeat(1, 11, 1, 1)[:, :32]
    model = BlockAttention(source)
    before = run(model, x)
    kept = (run(absorb_rounding(model, x, dtype=torch.bfloat16), x) - before).mean((0, 2, 3))
    bias = model.shift.bias
    assert torch.equal(bias, bias.bfloat16().float()) and bias.abs().max() > 10
    assert bool((kept.abs() <= torch.finfo(torch.bfloat16).eps * bias.abs() + 1e-5).all())


def test_the_mean_output_is_kept_up_to_the_last_rounding(inputs: Tensor) -> None:
    model = network("seg-b0-cityscapes")
    before = run(model, inputs)
    plain = plainly_rounded(model, torch.bfloat16)
    shifted = (run(plain, inputs) - before).mean((0, 2, 3)).abs()
    absorb_rounding(model, inputs, dtype=torch.bfloat16)
    kept = (run(model, inputs) - before).mean((0, 2, 3)).abs()
    bias = model.get_submodule("head.classifier").bias
    assert isinstance(bias, Tensor)
    step = torch.finfo(torch.bfloat16).eps * bias.abs()  # of the last layer's own rounding
    assert bool((kept <= step + 1e-5 * before.std()).all())
    assert not bool((shifted <= step + 1e-5 * before.std()).all())


def test_rounding_the_result_again_changes_nothing(inputs: Tensor) -> None:
    model = absorb_rounding(network("cls-b1"), inputs, dtype=torch.float16)
    norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    for value in model.parameters():
        if id(value) not in norms:
            assert torch.equal(value, value.half().float())


def test_layer_norms_stay_float32(inputs: Tensor) -> None:
    model = network("cls-b1")
    norm = next(m for m in model.modules() if isinstance(m, nn.LayerNorm))
    norm.weight.data.fill_(1 / 3)
    absorb_rounding(model, inputs, dtype=torch.float16)
    assert torch.equal(norm.weight, torch.full_like(norm.weight, 1 / 3))


def test_a_layer_that_runs_twice_is_rounded_and_not_corrected() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Twice()
    expected = model.layer.weight.half().float(), model.layer.bias.half().float()
    absorb_rounding(model, torch.randn(5, 4), dtype=torch.float16)
    assert torch.equal(model.layer.weight, expected[0])
    assert torch.equal(model.layer.bias, expected[1])


@pytest.mark.shared
@pytest.mark.slow
def test_float16_keeps_the_classes_of_a_street_frame() -> None:
    """The published B0 on a frame of Frankfurt at 512x1024, as `evit export` writes it."""
    weights = shared_dir("data", "weights", "efficientvit_seg_b0_cityscapes.pt")
    frame = shared_dir("data", "frames", "cityscapes_frankfurt_000294.png")
    loaded = load_model(None, weights=weights)
    size = ImageSize(512, 1024)
    request = ExportRequest(Backend.ONNX, precision=Precision.FP16, size_hw=size)
    plan = make_plan(request, loaded.info)
    half = build_graph(plan, loaded.model, None).model
    full = ImageModel(lower(loaded.model, size, plan.form), loaded.info.preprocess, plan.form, size)
    rgb = read_image(frame)[0]
    image = torch.from_numpy(cv2.resize(rgb, (1024, 512), interpolation=cv2.INTER_AREA))[None]
    labels = [class_map(run(model, image)[0].numpy(), size) for model in (half, full)]
    assert float(np.mean(labels[0] == labels[1])) >= 0.999


def test_float16_export_stays_closer_than_plain_rounding() -> None:
    """Through `build_graph`, on a photograph, for both kinds of input."""
    model = trained("seg-b0-cityscapes")
    info = ModelInfo("seg-b0-cityscapes", Task.SEGMENT, Preprocess(SIZE))
    photo = next(iter(load_images(None, limit=1)))[100 : 100 + SIZE.height, : SIZE.width]
    for layout in ("NHWC", "NCHW"):
        image = torch.from_numpy(np.ascontiguousarray(photo))[None]
        image = image if layout == "NHWC" else image.permute(0, 3, 1, 2)
        request = ExportRequest(Backend.ONNX, precision=Precision.FP16, size_hw=SIZE, layout=layout)
        plan = make_plan(request, info)
        built = build_graph(plan, model, None).model
        assert {p.dtype for p in built.parameters()} == {torch.float16}
        full = ImageModel(lower(model, SIZE, plan.form), info.preprocess, plan.form, SIZE)
        expected = run(full, image)
        plain = run(full.half(), image) - expected
        mended = run(built, image) - expected
        assert float(mended.square().mean()) < float(plain.square().mean())
