"""Both halves of a SAM model as artifacts, run by what runs them, against torch."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evit_cli.errors import EvitError, UsageError
from evit_cli.export.images import load_images
from evit_cli.export.job import ExportJob, run_export
from evit_cli.export.plan import ExportRequest, make_plan
from evit_cli.models.build import build_model
from evit_cli.models.sam.model import Sam
from evit_cli.models.variants import get_variant, own_info
from evit_cli.runtime.description import read_description
from evit_cli.runtime.sam import SamSession, open_sam, other_half
from evit_cli.runtime.torch_sam import torch_halves
from evit_cli.types import Backend, ImageSize, Precision
from evit_cli.weights.checkpoint import save_weights
from tests.helpers.cli import evit
from tests.helpers.tensorrt_standin import install

INFO = own_info(get_variant("sam-b0"))
KINDS = [
    (Backend.ONNX, Precision.FP32),
    (Backend.ONNX, Precision.FP16),
    (Backend.TFLITE, Precision.FP32),
    (Backend.TFLITE, Precision.FP16),
    (Backend.OPENVINO, Precision.FP32),
    (Backend.TENSORRT, Precision.FP32),
    (Backend.TENSORRT, Precision.FP16),
]


@cache
def model() -> Sam:
    """Random weights whose masks are no noise: their logits lie off zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_model(get_variant("sam-b0")).eval()
    assert isinstance(built, Sam)
    return built


@pytest.fixture(scope="module")
def source() -> SamSession:
    return SamSession(*torch_halves(model(), INFO, device="cpu"))


def export(folder: Path, backend: Backend, precision: Precision, **more: Any) -> tuple[Path, ...]:
    request = ExportRequest(target=backend, precision=precision, out=folder)
    folder.mkdir(exist_ok=True)
    job = ExportJob(make_plan(request, INFO), model(), images=load_images(None, limit=2), **more)
    return run_export(job).written


def prompts() -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[[200, 300], [0, 0]], [[700, 100], [0, 0]], [[90, 80], [900, 700]]])
    labels = np.array([[1, -1], [0, -1], [2, 3]])
    return points.astype(np.float32), labels.astype(np.float32)


@pytest.mark.parametrize(("backend", "precision"), KINDS)
def test_the_pair_equals_its_source(
    backend: Backend,
    precision: Precision,
    tmp_path: Path,
    source: SamSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if backend is Backend.TENSORRT:  # its parser refuses what TensorRT's documents do
        install(monkeypatch, "10.3.0")
    written = export(tmp_path / "out", backend, precision)
    encoder = next(p for p in written if "encoder" in p.name and p.suffix != ".json")
    decoder = other_half(encoder)
    assert decoder.is_file()
    for path, part in ((encoder, "encoder"), (decoder, "decoder")):
        description = read_description(path)
        assert description.sam is not None and description.sam.part == part
        assert description.info.name == "sam-b0" and description.precision is precision
        assert description.verification["verdict"] == "PASS"
    session = open_sam(str(decoder))  # either half may be named
    assert session.backend is backend and session.input_side == 512
    image = np.random.default_rng(0).uniform(0, 255, (1, 512, 512, 3)).astype(np.float32)
    found, expected = session.encode(image), source.encode(image)
    near = 1e-3 if precision is Precision.FP32 else 3e-2
    assert np.abs(found - expected).max() <= near * expected.std() * 4
    masks, iou = session.decode(expected, *prompts())
    wanted, scores = source.decode(expected, *prompts())
    assert masks.shape == wanted.shape == (3, 4, 256, 256)
    assert np.abs(masks - wanted).max() <= near * wanted.std() * 4
    assert np.abs(iou - scores).max() <= 4 * near
    hint = np.random.default_rng(1).standard_normal((3, 1, 256, 256)).astype(np.float32)
    masks, _ = session.decode(expected, *prompts(), hint)
    wanted, _ = source.decode(expected, *prompts(), hint)
    assert np.abs(masks - wanted).max() <= near * wanted.std() * 4
    session.close()


def test_a_fixed_number_of_points_is_filled_up_and_has_an_end(
    tmp_path: Path, source: SamSession
) -> None:
    written = export(tmp_path / "out", Backend.TFLITE, Precision.FP32)
    session = open_sam(str(written[0]))
    most = session.part.points[1]
    assert session.part.points == (8, 8) and session.part.prompts == (1, 1)
    embedding = np.random.default_rng(0).standard_normal((1, 128, 64, 64)).astype(np.float32)
    points = np.full((1, most + 1, 2), 300, np.float32)
    labels = np.ones((1, most + 1), np.float32)
    with pytest.raises(EvitError, match=f"was exported for {most} points per prompt, got"):
        session.decode(embedding, points, labels)
    found, _ = session.decode(embedding, points[:, :1], labels[:, :1])
    wanted, _ = source.decode(embedding, points[:, :1], labels[:, :1])
    assert np.abs(found - wanted).max() <= 4e-3 * wanted.std()


@pytest.mark.slow
def test_an_int8_encoder_says_how_near_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    job = {"calibration": load_images(None, limit=8), "force": True}
    try:
        written = export(folder, Backend.TFLITE, Precision.INT8, **job)
        reached = read_description(written[0]).verification["decided"]
    except EvitError as error:  # random weights may fail the bar: then it says by how much
        assert error.exit_code == 3 and "mean IoU" in error.message
        return
    assert reached >= 0.75


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes 512x512, not 256x256"):
        make_plan(ExportRequest(target=Backend.ONNX, size_hw=ImageSize(256, 256)), INFO)
    with pytest.raises(UsageError, match="takes one image, not 2"):
        make_plan(ExportRequest(target=Backend.ONNX, batch=2), INFO)
    written = export(tmp_path / "out", Backend.ONNX, Precision.FP32)
    other_half(written[0]).unlink()
    with pytest.raises(EvitError, match=r"needs .* beside it, which is missing"):
        open_sam(str(written[0]))


def test_the_command_writes_both_halves_and_the_plan_names_them(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    variant = get_variant("sam-b0")
    save_weights(weights, model().state_dict(), INFO, variant)
    export = ("export", "--weights", weights, "--target")
    plan = evit(*export, "tensorrt", "--device", "orin", "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "encoder" in plan.stdout and "decoder" in plan.stdout
    command = [*export, "openvino", "--out", tmp_path / "x", "--max-images", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "evit_cli", *map(str, command)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "x").iterdir()}
    assert {n for n in names if n.endswith(".xml")} == {
        "sam-b0-encoder-512x512-fp32.xml",
        "sam-b0-decoder-512x512-fp32.xml",
    }
    json.loads(done.stdout)
