"""The promptable model that travels with evit: it needs no torch, and cuts better than its box."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.data.instances import open_instances
from evit_cli.inference.evaluate_sam import evaluate_sam
from evit_cli.runtime.description import read_description
from evit_cli.runtime.sam import open_sam, other_half
from evit_cli.types import Backend, Precision
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.paths import shared_dir

MODEL = EMBEDDED["sam-b0"]


def test_both_halves_travel_and_describe_themselves() -> None:
    for file in (MODEL.artifact, other_half(MODEL.artifact)):
        description = read_description(file)
        assert description.info.name == "sam-b0"
        assert description.info.licence == MODEL.licence
        assert description.verification["verdict"] == "PASS"


def test_evit_sam_needs_neither_torch_nor_a_network(tmp_path: Path) -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    cv2.circle(image, (160, 120), 60, (30, 60, 160), -1)
    cv2.imwrite(str(tmp_path / "disc.png"), image)
    code = "import sys; sys.modules['torch'] = None; from evit_cli.app import main; main()"
    command = [sys.executable, "-c", code, "sam", "disc.png", "--box", "100,60,220,180"]
    done = subprocess.run(
        [*command, "--offline", "--json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout.splitlines()[0])["objects"]
    assert len(found) == 1
    mask = cv2.imread(str(tmp_path / "evit-out" / "disc_mask.png"), cv2.IMREAD_UNCHANGED) > 0
    disc = (image[:, :, 0] < 100).astype(bool)
    assert (mask & disc).sum() / (mask | disc).sum() > 0.75


def test_another_precision_is_run_by_torch() -> None:
    for precision, backend in ((None, Backend.TFLITE), (Precision.FP32, Backend.TORCH)):
        with closing(open_sam("sam-b0", precision=precision, offline=True)) as session:
            assert session.backend is backend
            assert session.precision is (precision or Precision.FP16)


@pytest.mark.slow
def test_its_figure_holds() -> None:
    objects = open_instances("coco", shared_dir("data", "coco128"), part="kept_out")
    with closing(open_sam("sam-b0", offline=True)) as session:
        found = evaluate_sam(session, objects, prompts=("box",)).mean_iou["box"]["all"]
    said = float(MODEL.metric.split()[1])
    assert 100 * found == pytest.approx(said, abs=0.5)
