"""int8 artifacts on every runtime that is here: real weights, and a model without hard-swish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from evit_cli.errors import EvitError
from evit_cli.export.images import load_images
from evit_cli.export.job import ExportJob, ExportReport, run_export
from evit_cli.export.plan import ExportRequest, make_plan
from evit_cli.export.verify import Verdict
from evit_cli.runtime.open import open_artifact
from evit_cli.types import Backend, ImageSize, Precision
from evit_cli.weights.embedded import EMBEDDED
from evit_cli.weights.load import load_model
from tests.helpers.cli import evit
from tests.helpers.exports import healthy_model, info_of, photos, random_images, tiny_job

pytestmark = pytest.mark.slow

STREET = EMBEDDED["seg-b0-street"].weights
SIZE = ImageSize(128, 224)
TARGETS = [Backend.TFLITE, Backend.ONNX, Backend.OPENVINO]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> dict[Backend, ExportReport]:
    """The model that travels with evit, calibrated on the photographs that do."""
    loaded, reports = load_model(weights=STREET), {}
    for target in TARGETS:
        folder = tmp_path_factory.mktemp(target.value)
        request = ExportRequest(target, precision=Precision.INT8, size_hw=SIZE, out=folder)
        plan = make_plan(request, loaded.info)
        job = ExportJob(plan, loaded.model, photos(8), photos(8), explain=True, threads=1)
        reports[target] = run_export(job)
    return reports


@pytest.mark.parametrize("target", TARGETS)
def test_real_weights_hold(street: dict[Backend, ExportReport], target: Backend) -> None:
    report = street[target]
    found = report.verification
    assert found is not None
    assert found.verdict in (Verdict.PASS, Verdict.WARN)
    assert found.decided >= 0.9  # minimum and maximum ranges alone keep a quarter
    assert report.size_bytes <= 1_550_000
    assert report.description.precision is Precision.INT8
    assert report.description.islands == ("backbone.stem", "backbone.stages.0")
    assert report.description.calibration["sha256"] == load_images(None, limit=8).sha256
    assert report.description.calibration["images"] == 8


def test_the_runtimes_agree_with_each_other(street: dict[Backend, ExportReport]) -> None:
    sessions = [open_artifact(street[target].written[0], threads=1) for target in TARGETS]
    for image in random_images(*SIZE, count=2):
        first, *others = (s.run({"image": image[None]})["logits"] for s in sessions)
        code = np.diff(np.unique(first)).min()  # the step of the int8 output
        second, best = np.sort(first, axis=1)[:, -2:].swapaxes(0, 1)
        clear = best - second > 2.5 * code
        assert clear.mean() > 0.85
        for other in others:
            same = first.argmax(axis=1) == other.argmax(axis=1)
            assert same[clear].all()  # near ties of codes they and processors round in other ways
            assert same.mean() >= 0.96


def test_every_layer_is_explained(street: dict[Backend, ExportReport]) -> None:
    layers = {e.name.removeprefix("model."): e for e in street[Backend.TFLITE].layers}
    assert layers["backbone.stages.0.0.depth_conv.conv"].island
    assert not layers["head.classifier"].island
    assert 5 < layers["head.classifier"].cumulative_db < layers["head.classifier"].alone_db


def test_onnx_holds_int8_weights_between_quantisers(street: dict[Backend, ExportReport]) -> None:
    graph = onnx.load(str(street[Backend.ONNX].written[0])).graph
    kinds = [node.op_type for node in graph.node]
    assert "QuantizeLinear" in kinds and "DequantizeLinear" in kinds
    codes = sum(
        t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4 for t in graph.initializer
    )
    assert codes >= 40


@pytest.mark.parametrize("target", TARGETS)
def test_a_model_with_gelu_runs(tmp_path: Path, target: Backend) -> None:
    """Random weights have no margins to keep classes by, so it is the outputs that are compared."""
    name = "cls-l1"
    request = ExportRequest(target, precision=Precision.INT8, out=tmp_path)
    plan = make_plan(request, info_of(name))
    report = run_export(ExportJob(plan, healthy_model(name), photos(8), photos(), threads=1))
    assert report.description.islands == ("backbone.stem",)
    assert report.verification is not None
    assert report.verification.cosine >= 0.85
    assert report.verification.agreement == 1.0


def test_without_images_or_with_too_few(tmp_path: Path) -> None:
    common = ("export", "--weights", STREET, "--target", "tflite", "--precision", "int8")
    result = evit(*common, "--size", "64x64", "--out", tmp_path / "a")
    assert result.exit_code == 1
    assert "int8 needs real images" in result.output
    few = tmp_path / "few"
    few.mkdir()
    (few / "one.jpg").write_bytes(photos(1).files[0].read_bytes())
    result = evit(*common, "--size", "64x64", "--out", tmp_path / "a", "--calib", few)
    assert result.exit_code == 1
    assert "8" in result.output


def test_an_unknown_island_is_named(tmp_path: Path) -> None:
    loaded = load_model(weights=STREET)
    request = ExportRequest(Backend.ONNX, precision=Precision.INT8, size_hw=SIZE, out=tmp_path)
    job = ExportJob(
        make_plan(request, loaded.info), loaded.model, photos(8), islands=("head.clasifier",)
    )
    with pytest.raises(EvitError, match=r"no layer 'head\.clasifier'") as caught:
        run_export(job)
    assert "head.classifier" in caught.value.hint


def test_a_job_needs_no_calibration_in_float(tmp_path: Path) -> None:
    assert run_export(tiny_job(tmp_path / "m.onnx")).description.calibration == {}
