"""Super-resolution models as artifacts: every target and precision, tiles, and what they lose."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evit_cli.errors import EvitError, UsageError
from evit_cli.export import lower as lower_module
from evit_cli.export.fidelity import (
    PSNR_BARS,
    PSNR_LOSS_BARS,
    Likeness,
    Originals,
    centre_tile,
    psnr_on,
)
from evit_cli.export.form import Form
from evit_cli.export.job import ExportJob, ExportReport, run_export
from evit_cli.export.labels import open_labels
from evit_cli.export.lower import ImageModel, lower
from evit_cli.export.onnx import operators
from evit_cli.export.plan import ExportPlan, ExportRequest, make_plan
from evit_cli.export.verdict import Verdict
from evit_cli.export.verify import verify, with_originals
from evit_cli.inference.enlarge import enlarge, fixed_size, scale_of
from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.quantize import Range, equalise, symmetric
from evit_cli.models.superres import SuperResolver
from evit_cli.models.variants import SUPERRES, SUPERRES_PREPROCESS, get_variant
from evit_cli.runtime.description import read_description
from evit_cli.runtime.open import open_artifact
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import (
    Backend,
    ImageSize,
    ModelInfo,
    NoProgress,
    Precision,
    Task,
    TensorSpec,
)
from tests.helpers.cli import evit
from tests.helpers.exports import photos, random_images
from tests.helpers.tensorrt_rules import problems

NAME = "sr-xs-res-x2"
SIZE = ImageSize(36, 52)
HERE = (Backend.ONNX, Backend.TFLITE, Backend.OPENVINO)
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)

LEAST_DB = {Precision.FP32: 75.0, Precision.FP16: 54.0, Precision.INT8: 40.0}
"""PSNR between the pictures of the artifact and of its source. Random weights add to every picture
what trained ones add to edges alone, so that int8 has more to lose."""


@functools.cache
def model_of(name: str) -> SuperResolver:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_model(get_variant(name)).eval()
    assert isinstance(model, SuperResolver)
    return model


def info_of(name: str = NAME) -> ModelInfo:
    return ModelInfo(name, Task.SUPERRES, SUPERRES_PREPROCESS, None, "MIT", "x", "ab12")


def exported(request: ExportRequest, name: str = NAME) -> tuple[ExportPlan, ExportReport]:
    torch.set_num_threads(1)
    plan = make_plan(request, info_of(name))
    calibration = photos(8) if plan.precision is Precision.INT8 else None
    job = ExportJob(plan, model_of(name), calibration, images=photos(), threads=1)
    return plan, run_export(job)


def source_of(name: str = NAME) -> TorchSession:
    return TorchSession(model_of(name), info_of(name), device="cpu")


def between_db(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    likeness = Likeness()
    likeness.add(found, expected)
    return likeness.psnr_db


FORMS = [
    Form(),
    Form("sums", channels_last=False),
    Form("tokens", strips=True, outputs_last=True),
    Form("blocks", whole_rows=True),
    Form(free_size=True, uint8=False),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["sr-xs-x2", "sr-xs-x4", "sr-xs-res-x2", "sr-xs-res-bn-x4"])
def test_every_form_is_the_same_function(
    name: str, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower_module, "PIXELS_PER_CHANNEL", 0)
    model, image = model_of(name), torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8)
    x = (image.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    taken = image if form.channels_last else image.permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = model(x)
        lowered = lower(model, SIZE, form)
        assert torch.allclose(lowered(x), expected, atol=1e-5)
        found = ImageModel(lowered, SUPERRES_PREPROCESS, form, SIZE)(taken)
    found = found.permute(0, 3, 1, 2) if form.outputs_last else found
    assert torch.allclose(found, expected, atol=1e-5)
    # What the head adds is not nothing, so a head that is left out would be seen.
    assert (expected - model.enlarge(x, expected.shape[-2:]) * 0.25 - 0.5).std() > 1e-3


def test_sides_are_multiples_of_four() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        lower(model_of(NAME), ImageSize(36, 50), Form())
    with pytest.raises(UsageError, match="36x50 is no multiple of 4"):
        make_plan(ExportRequest(Backend.ONNX, size_hw=ImageSize(36, 50)), info_of())


def test_a_file_is_for_tiles_where_no_size_is_asked_for() -> None:
    plan = make_plan(ExportRequest(Backend.TFLITE), info_of("sr/mine"))
    assert plan.size_hw == (256, 256)
    assert plan.path == Path("sr-mine-256x256-fp32.tflite")
    assert "tiles" in next(c.why for c in plan.choices if c.what == "size")
    free = ExportRequest(Backend.ONNX, largest_hw=ImageSize(512, 768))
    assert make_plan(free, info_of()).size_hw == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", HERE)
def test_it_runs_and_agrees_with_its_source(
    target: Backend, precision: Precision, tmp_path: Path
) -> None:
    request = ExportRequest(target, precision=precision, size_hw=SIZE, out=tmp_path)
    _, report = exported(request)
    session, source = open_artifact(report.written[0], threads=1), source_of()
    assert session.info.task is Task.SUPERRES
    assert session.outputs[0].name == "upscaled"
    assert session.outputs[0].shape == (1, 3, 72, 104)
    for image in random_images(*SIZE, seed=5, count=2):
        found = session.run({"image": image[None]})["upscaled"]
        expected = source.run({"image": image[None]})["upscaled"]
        assert (found.shape, found.dtype) == (expected.shape, np.float32)
        assert between_db(found, expected) >= LEAST_DB[precision]
    inside = read_description(report.written[0])
    assert (inside.info.name, inside.precision, inside.size_hw) == (NAME, precision, SIZE)
    assert inside.info.preprocess == SUPERRES_PREPROCESS
    assert report.verification is not None
    assert inside.verification == report.verification.document()
    assert inside.verification["psnr_db"] >= LEAST_DB[precision]
    if precision is Precision.INT8:
        assert inside.islands == ("backbone.stem",)
    session.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "precision", "versions"),
    [
        ("orin", Precision.FP16, ("10.3", "11.2")),
        ("orin", Precision.INT8, ("10.3", "11.2")),
        ("nano", Precision.FP32, ("8.2",)),
        ("xavier-nx", Precision.FP16, ("8.5",)),
    ],
)
def test_tensorrt_takes_every_operator(
    device: str, precision: Precision, versions: tuple[str, ...], tmp_path: Path
) -> None:
    request = ExportRequest(
        Backend.TENSORRT, device, precision=precision, size_hw=SIZE, out=tmp_path
    )
    _, report = exported(request)
    graph = onnx.load(str(report.written[0]))
    assert [output.name for output in graph.graph.output] == ["upscaled"]
    assert "DepthToSpace" in operators(graph)
    assert not {"Resize:cubic", "Pad:value"} & operators(graph)
    for version in versions:
        assert problems(graph, version) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "device", "precision"),
    [
        (Backend.ONNX, None, Precision.FP32),
        (Backend.OPENVINO, None, Precision.FP32),
        (Backend.TENSORRT, "orin", Precision.FP16),
    ],
)
def test_free_sizes_in_steps_of_four(
    target: Backend, device: str | None, precision: Precision, tmp_path: Path
) -> None:
    low, high = ImageSize(32, 32), ImageSize(64, 96)
    request = ExportRequest(
        target, device, precision, size_hw=low, largest_hw=high, out=tmp_path
    )  # fmt: skip
    _, report = exported(request)
    session, source = open_artifact(report.written[0], threads=1), source_of()
    for size in (low, ImageSize(36, 92), high):
        image = next(random_images(*size))[None]
        found = session.run({"image": image})["upscaled"]
        assert between_db(found, source.run({"image": image})["upscaled"]) >= LEAST_DB[precision]
    with pytest.raises(EvitError, match=r"takes 32x32 to 64x96 in steps of 4, not "):
        session.run({"image": np.zeros((1, 34, 32, 3), np.uint8)})
    if device is not None:
        assert problems(onnx.load(str(report.written[0])), "10.3") == []


@pytest.mark.slow
def test_xnnpack_takes_all_but_the_cast(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    _, report = exported(ExportRequest(Backend.TFLITE, size_hw=SIZE, out=tmp_path))
    interpreter = Interpreter(model_path=str(report.written[0]), num_threads=1)
    interpreter.allocate_tensors()
    names = [op["op_name"] for op in interpreter._get_ops_details()]
    assert names.count("DELEGATE") == 1
    assert [name for name in names if not name.isupper()] == []


@pytest.mark.slow
def test_an_artifact_of_one_size_takes_any_image_in_tiles(tmp_path: Path) -> None:
    _, report = exported(ExportRequest(Backend.ONNX, size_hw=SIZE, out=tmp_path))
    session = open_artifact(report.written[0], threads=1)
    assert fixed_size(session) == SIZE
    assert scale_of(session) == 2
    for shape in ((50, 130), (9, 7), SIZE):
        image = next(random_images(*shape))
        found = enlarge(session, image)
        assert found.shape == (2 * shape[0], 2 * shape[1], 3)
        assert between_db(found, enlarge(source_of(), image, tile_hw=SIZE)) >= 75
    result = evit(
        "eval", "--model", report.written[0], "--dataset", "superres", "--data",
        written_pairs(tmp_path / "pairs"), "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 2


def written_pairs(folder: Path) -> Path:
    folder.mkdir()
    for index, image in enumerate(random_images(80, 120, count=2)):
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


class Painted:
    """Gives the input's colours at twice the size, with an error of `off` levels in each value."""

    backend, precision = Backend.ONNX, Precision.FP16

    def __init__(self, off: float = 0.0, *, precision: Precision = Precision.FP16) -> None:
        self.off, self.precision = off, precision
        self.info = info_of()
        self.inputs = (TensorSpec("image", (1, None, None, 3), "uint8"),)
        self.outputs = (TensorSpec("upscaled", (1, 3, None, None), "float32"),)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        image = inputs["image"].repeat(2, 1).repeat(2, 2).astype(np.float32)
        shown = np.clip(image, 64, 192) + self.off
        return {"upscaled": np.moveaxis(shown / 255, -1, 1)}

    def close(self) -> None:
        """Nothing to free."""


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pictures_are_judged_by_precision(precision: Precision) -> None:
    def judged(off: float) -> tuple[Verdict, float]:
        found = verify(Painted(off, precision=precision), Painted(), random_images(70, 90))
        assert found.psnr_db is not None
        return found.verdict, found.psnr_db

    assert judged(0.0) == (Verdict.PASS, 100.0)
    for levels in (1.0, 2.0, 4.0, 9.0):
        verdict, value = judged(levels)
        assert value == pytest.approx(20 * math.log10(255 / levels))
        bar = PSNR_BARS[precision]
        worse = Verdict.WARN if value >= bar.least else Verdict.FAIL
        assert verdict is (Verdict.PASS if value >= bar.good else worse)
    nan = verify(Painted(math.nan), Painted(), random_images(70, 90))
    assert (nan.verdict, nan.psnr_db) == (Verdict.FAIL, None)
    assert with_originals(nan, precision, 37.0, 37.0).verdict is Verdict.FAIL


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_loss_against_originals_decides(precision: Precision) -> None:
    before = verify(Painted(9.0, precision=precision), Painted(), random_images(70, 90))
    assert before.verdict is Verdict.FAIL
    bar = PSNR_LOSS_BARS[precision]
    for loss, verdict in (
        (-0.2, Verdict.PASS),
        (0.9 * bar.good, Verdict.PASS),
        (1.1 * bar.good, Verdict.WARN),
        (1.1 * bar.least, Verdict.FAIL),
    ):
        found = with_originals(before, precision, 37.0 - loss, 37.0)
        assert found.verdict is verdict
        assert (found.original_psnr_db, found.source_original_psnr_db) == (37.0 - loss, 37.0)
        assert f"{loss:.3f} dB less" in found.reason


def test_originals_are_opened_and_measured(tmp_path: Path) -> None:
    folder = written_pairs(tmp_path / "pairs")
    originals = open_labels(info_of(), "superres", folder, max_images=1)
    assert isinstance(originals, Originals)
    same, other = psnr_on(Painted(), Painted(), originals, NoProgress())
    assert same == other
    worse, source = psnr_on(Painted(20.0), Painted(), originals, NoProgress())
    assert worse < source
    with pytest.raises(UsageError, match="does not segment"):
        open_labels(info_of(), "camvid", folder)
    with pytest.raises(EvitError, match="no folder"):
        open_labels(info_of(), "superres", tmp_path / "nowhere")


def test_a_tile_is_the_middle_at_the_images_own_scale() -> None:
    image = next(random_images(90, 40))
    assert np.array_equal(centre_tile(image, ImageSize(30, 40)), image[30:60])
    mirrored = centre_tile(image, ImageSize(90, 44))
    assert np.array_equal(mirrored[:, :40], image)
    assert np.array_equal(mirrored[:, 40], image[:, 38])


@pytest.mark.parametrize("name", [name for name in SUPERRES if name.endswith("x2")])
def test_equalised_models_are_the_same_function(name: str) -> None:
    """Stages that keep width and resolution go on with the shortcut of the one before."""
    model = fuse(model_of(name))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):  # channels as uneven as trained ones
                shape = (-1, 1, 1, 1)
                module.weight *= torch.logspace(-0.5, 0.3, len(module.weight)).view(shape)
        x = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
        expected = model(x)
        for islands in ((), ("backbone.stem",)):
            found = equalise(model, [x], islands=islands)(x)
            assert (found - expected).abs().max() <= 2e-3 * expected.std()
    changed = equalise(model, [x])
    assert any(
        not torch.equal(a, b) for a, b in zip(model.parameters(), changed.parameters(), strict=True)
    )


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_symmetric_ranges_hold_what_they_held(low: float, high: float) -> None:
    given_range = Range(min(low, high, 0.0), max(low, high, 0.0), "x")
    found = symmetric({"a": given_range})["a"]
    assert found.zero_point == 0
    assert found.source == "x"
    assert 127 * found.scale >= given_range.high * (1 - 1e-9)
    assert -128 * found.scale <= given_range.low * (1 - 1e-9)


@pytest.mark.slow
def test_random_weights_by_name(tmp_path: Path) -> None:
    common = ("export", "--model", NAME, "--target", "onnx", "--size", "36x52")
    result = evit(*common, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == NAME
    out = tmp_path / "m.onnx"
    result = evit(*common, "--random-weights", "--out", out, "--no-verify")
    assert result.exit_code == 0, result.output
    assert read_description(out).info.sha256 == ""
    result = evit(*common, "--random-weights", "--weights", out, "--out", tmp_path / "n.onnx")
    assert result.exit_code == 2
    assert "no --weights" in result.output
