"""int8: ranges, equalisation, bias correction, and that LiteRT and ONNX compute what torch does."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evit_cli.export.quantize import explain, for_onnx, litert_config
from evit_cli.models.blocks import EfficientViTModule, MBConv
from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.quantize import (
    DEFAULT_ISLANDS,
    METHODS,
    QuantizedConv2d,
    collect_ranges,
    correct_biases,
    equalise,
    quantise,
    sixfold,
)
from evit_cli.models.quantize.layers import ScaledHardswish
from evit_cli.models.variants import get_variant


def batches(count: int = 3, height: int = 64, width: int = 96) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, height, width, generator=generator) for _ in range(count)]


def uneven(model: nn.Module) -> nn.Module:
    """A model whose channels differ in range by decades, as those of the published B0 do."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = 10 ** (torch.rand_like(module.weight) * 1.5 - 1)
            module.bias.data = torch.randn_like(module.bias)
    return model


class Small(nn.Sequential):
    """An entry, a residual block, attention and a classifier: every kind of quantised layer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        block = MBConv(8, 8, expand=2, norm_eps=1e-5, act="hswish")
        super().__init__()
        self.entry = ConvNorm(3, 8, kernel=3, stride=2, norm_eps=1e-5, act="hswish")
        self.block = Residual(block)
        self.module = EfficientViTModule(
            8, head_dim=4, scales=(5,), expand=2, norm_eps=1e-5, act="hswish"
        )
        self.rectified = ConvNorm(8, 12, norm_eps=1e-5, act="relu")
        self.classifier = nn.Conv2d(12, 5, 1)


class ChannelsLast(nn.Module):
    """NHWC in and out, float at both ends, as exported models are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model((image * 0.5).permute(0, 3, 1, 2)).permute(0, 2, 3, 1) * 2  # type: ignore[no-any-return]


def small() -> nn.Module:
    return fuse(uneven(Small()))


def scaled_small() -> nn.Module:
    """With a scale per channel in its hard-swishes, as `equalise` puts there."""
    model = small()
    for module in list(model.modules()):
        if isinstance(module, ConvNorm) and isinstance(module.act, nn.Hardswish):
            module.act = ScaledHardswish(torch.linspace(0.2, 4, module.conv.out_channels))
    return model


def quantised_small() -> tuple[nn.Module, nn.Module]:
    model = small()
    return model, quantise(model, collect_ranges(model, batches(), method="minmax"))


def relative_error(wanted: Tensor, found: Tensor) -> float:
    return float((wanted - found).square().mean().sqrt() / wanted.std())


@pytest.mark.parametrize("gates", [("backbone", "head"), ("backbone.stages.0",)])
@pytest.mark.parametrize("name", ["seg-b0-cityscapes", "seg-l1-cityscapes", "cls-b0"])
def test_equalising_changes_no_output(name: str, gates: tuple[str, ...]) -> None:
    model = fuse(uneven(build_model(get_variant(name)).eval()))
    images = batches(2)
    equal = equalise(model, images, gates=gates)
    with torch.inference_mode():
        wanted, found = model(images[0]), equal(images[0])
    assert float((wanted - found).abs().max() / wanted.std()) < 1e-3
    changed = [
        not torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), equal.state_dict().values(), strict=False)
    ]
    assert any(changed)


@pytest.mark.parametrize("name", ["seg-b0-cityscapes", "cls-b0"])
def test_leaving_the_sixth_to_the_next_layer_changes_no_output(name: str) -> None:
    model = fuse(uneven(build_model(get_variant(name)).eval()))
    image = batches(1)[0]
    with torch.inference_mode():
        wanted = model(image)
        found = sixfold(copy.deepcopy(model), islands=DEFAULT_ISLANDS)
        assert float((wanted - found(image)).abs().max() / wanted.std()) < 1e-3
    left = {n for n, m in found.named_modules() if isinstance(m, nn.Hardswish)}
    assert all(n.startswith("backbone.stem") for n in left if "final" not in n and "head" not in n)


def test_equalising_leaves_islands_alone() -> None:
    model = fuse(uneven(build_model(get_variant("seg-b0-cityscapes")).eval()))
    equal = equalise(model, batches(1), islands=DEFAULT_ISLANDS)
    before = model.get_submodule("backbone.stem").state_dict()
    after = equal.get_submodule("backbone.stem").state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("method", METHODS)
def test_ranges_contain_zero_and_lie_within_the_values(method: str) -> None:
    model, images = small(), batches()
    seen: list[Tensor] = []
    model.get_submodule("classifier").register_forward_hook(lambda _, __, out: seen.append(out))
    ranges = collect_ranges(model, images, method=method)
    values = torch.cat(seen)
    chosen = ranges["classifier"]
    assert float(values.min()) - 1e-4 <= chosen.low <= 0 <= chosen.high
    assert chosen.high <= float(values.max()) + 1e-4
    assert ranges["entry.conv"].low >= -3 - 1e-6  # hard-swish makes zero of all below


def test_cutting_an_outlier_off_keeps_the_steps_small() -> None:
    model, images = small(), batches()
    images[0][0, :, 10, 10] = 2000.0
    widest = collect_ranges(model, images, method="minmax")["entry.conv:input"]
    cut = collect_ranges(model, images, method="percentile")["entry.conv:input"]
    assert cut.scale < 0.1 * widest.scale


def test_an_unknown_method_and_no_images_are_errors() -> None:
    with pytest.raises(ValueError, match="minmax, percentile, mse"):
        collect_ranges(small(), batches(), method="best")
    with pytest.raises(ValueError, match="no batch"):
        collect_ranges(small(), [], method="mse")


def test_every_tensor_is_rounded_once() -> None:
    _, int8 = quantised_small()
    taken = {n: m.input_range for n, m in int8.named_modules() if isinstance(m, QuantizedConv2d)}
    assert [name for name, given in taken.items() if given is not None] == [
        "entry.conv",
        "module.context.main.proj.conv",  # its input comes from float attention
    ]


def test_weights_and_outputs_hold_256_values() -> None:
    _, int8 = quantised_small()
    conv = int8.get_submodule("classifier")
    assert isinstance(conv, QuantizedConv2d)
    outputs: list[Tensor] = []
    conv.register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.inference_mode():
        int8(batches(1)[0])
    assert len(outputs[0].unique()) <= 256
    codes = conv.snapped_weight() / conv.scales.view(-1, 1, 1, 1)
    torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
    assert float(codes.abs().max()) <= 127 + 1e-3


def test_islands_stay_float_and_their_neighbours_round_their_inputs() -> None:
    model = small()
    ranges = collect_ranges(model, batches(), method="minmax")
    int8 = quantise(model, ranges, islands=["entry"])
    assert type(int8.get_submodule("entry.conv")) is nn.Conv2d
    first = int8.get_submodule("block.main.inverted_conv.conv")
    assert isinstance(first, QuantizedConv2d) and first.input_range is None
    assert int8.get_submodule("block").input_range is not None  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="'nowhere'"):
        quantise(model, ranges, islands=["nowhere"])


def test_equalising_and_correcting_bring_the_output_nearer() -> None:
    model = fuse(uneven(build_model(get_variant("seg-b0-cityscapes")).eval()))
    images, other = batches(), batches(4)[3]

    def error(source: nn.Module, *, correct: bool) -> float:
        int8 = quantise(source, collect_ranges(source, images, method="minmax"))
        if correct:
            correct_biases(source, int8, images)
        with torch.inference_mode():
            return relative_error(source(other), int8(other))

    plain, equal = error(model, correct=False), equalise(model, images)
    assert error(equal, correct=True) < 0.7 * plain


def test_correcting_mends_the_means() -> None:
    model, int8 = quantised_small()
    other = copy.deepcopy(int8)
    correct_biases(model, other, batches())
    with torch.inference_mode():
        wanted = model(batches(1)[0]).mean((0, 2, 3))
        before, after = (m(batches(1)[0]).mean((0, 2, 3)) for m in (int8, other))
    assert (wanted - after).abs().sum() < (wanted - before).abs().sum()


def test_explaining_names_every_layer_in_order() -> None:
    model = small()
    ranges = collect_ranges(model, batches(), method="minmax")
    rows = explain(model, quantise(model, ranges, islands=["rectified"]), batches(1))
    names = [row.name for row in rows]
    assert names.index("entry.conv") < names.index("block") < names.index("classifier")
    by_name = {row.name: row for row in rows}
    assert [row.name for row in rows if row.island] == ["rectified.conv", "rectified.act"]
    assert math.isinf(by_name["rectified.conv"].alone_db)
    last = by_name["classifier"]
    assert 0 < last.cumulative_db < last.alone_db < 80


def steps(wanted: Tensor, found: np.ndarray, step: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.abs(wanted.numpy() - found) / step


@pytest.mark.slow
def test_litert_computes_in_int8_what_torch_does(tmp_path: Path) -> None:
    litert = pytest.importorskip("litert_torch")
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    model = ChannelsLast(scaled_small())
    images = [image.permute(0, 2, 3, 1).contiguous() for image in batches()]
    int8 = quantise(model, collect_ranges(model, images, method="minmax"))
    path = tmp_path / "small.tflite"
    converted = litert.convert(int8, (images[0],), quant_config=litert_config())
    converted.export(str(path))
    runner = interpreters.Interpreter(str(path))
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], images[1].numpy())
    runner.invoke()
    found = runner.get_tensor(runner.get_output_details()[0]["index"])
    with torch.inference_mode():
        wanted = int8(images[1])
    apart = steps(wanted, found, 2 * int8.get_submodule("model.classifier").output_range.scale)  # type: ignore[union-attr]
    assert apart.mean() < 0.6 and apart.max() < 8  # roundings that fall the other way add up
    kinds = {d["name"]: d["dtype"] for d in runner.get_tensor_details()}
    plain = interpreters.Interpreter(
        str(path),
        experimental_op_resolver_type=(
            interpreters.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    operators = [operator["op_name"] for operator in plain._get_ops_details()]
    assert kinds and "HARD_SWISH" not in operators
    for operator in plain._get_ops_details():
        if operator["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            details = {d["index"]: d["dtype"] for d in plain.get_tensor_details()}
            assert {details[i] for i in operator["outputs"]} == {np.int8}


@pytest.mark.slow
def test_onnx_runtime_computes_what_torch_does(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    _, int8 = quantised_small()
    path, image = tmp_path / "small.onnx", batches(1)[0]
    torch.onnx.export(for_onnx(int8), (image,), dynamo=True, verbose=False).save(str(path))
    graph = onnx.load(str(path)).graph
    weights = [t for t in graph.initializer if len(t.dims) == 4]
    assert weights and all(t.data_type == onnx.TensorProto.INT8 for t in weights)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    with torch.inference_mode():
        wanted = int8(image)
    apart = steps(wanted, found, int8.get_submodule("classifier").output_range.scale)  # type: ignore[union-attr]
    assert apart.mean() < 0.6 and apart.max() < 8
