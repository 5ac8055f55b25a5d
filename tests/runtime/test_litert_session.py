"""The artifact that travels with evit, and what is said of damaged ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.errors import EvitError, MissingDependency, UsageError
from evit_cli.inference.segmenter import Segmenter
from evit_cli.runtime import litert_session
from evit_cli.runtime.container import model_length
from evit_cli.runtime.description import (
    description_path,
    encode_description,
    read_description,
)
from evit_cli.runtime.litert_session import LitertSession
from evit_cli.runtime.open import open_session
from evit_cli.types import Backend, ImageSize, Precision, Task
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.cli import evit

STREET = EMBEDDED["seg-b0-street"]
SIZE = ImageSize(544, 960)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth scene: random noise would leave every pixel undecided."""
    small = np.random.default_rng(0).integers(0, 256, (17, 30, 3), dtype=np.uint8)
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the artifact that may be spoilt; its description lies beside it alone."""
    path = tmp_path / "model.tflite"
    path.write_bytes(STREET.artifact.read_bytes()[: model_length(STREET.artifact)])
    description_path(path).write_text(encode_description(read_description(STREET.artifact)))
    return path


def test_the_name_alone_opens_the_artifact() -> None:
    session = open_session("seg-b0-street")
    assert session.backend is Backend.TFLITE
    assert session.precision is Precision.FP32
    assert session.inputs[0].shape == (1, *SIZE, 3)
    assert session.outputs[0].shape == (1, 11, 68, 120)
    assert session.info.classes is not None
    assert session.info.classes.classes[3] == "road"


def test_the_artifact_answers_as_the_weights_do(picture: np.ndarray) -> None:
    found = open_session("seg-b0-street").run({"image": picture[None]})["logits"]
    torch_session = open_session("seg-b0-street", backend=Backend.TORCH)
    expected = torch_session.run({"image": picture[None]})["logits"]
    assert np.abs(found - expected).max() <= 1e-3 * expected.std()


@pytest.mark.parametrize("image_hw", [(360, 480), (1080, 1920), (700, 300), (16, 16)])
def test_any_image_fits_the_only_size(image_hw: tuple[int, int]) -> None:
    image = np.full((*image_hw, 3), 127, np.uint8)
    result = Segmenter(open_session("seg-b0-street"))(image)
    assert result.class_map.shape == image_hw
    assert result.input_hw == SIZE


def test_another_size_or_precision_takes_the_weights() -> None:
    assert open_session("seg-b0-street", size_hw=ImageSize(64, 64)).backend is Backend.TORCH
    assert open_session("seg-b0-street", precision=Precision.FP16).backend is Backend.TORCH
    assert open_session("seg-b0-street", size_hw=SIZE).backend is Backend.TFLITE
    with pytest.raises(UsageError, match="no tflite artifact that fits"):
        open_session("seg-b0-street", backend=Backend.TFLITE, size_hw=ImageSize(64, 64))


def test_an_artifact_decides_backend_and_precision(copied: Path) -> None:
    assert open_session(str(copied)).backend is Backend.TFLITE
    with pytest.raises(UsageError, match="is for tflite, which torch cannot run"):
        open_session(str(copied), backend=Backend.TORCH)
    with pytest.raises(UsageError, match="is fp32"):
        open_session(str(copied), precision=Precision.FP16)
    with pytest.raises(UsageError, match="only on tflite"):
        Segmenter(LitertSession(copied), size_hw=ImageSize(64, 64))


def test_without_its_description(copied: Path) -> None:
    description_path(copied).unlink()
    with pytest.raises(EvitError, match=r"model\.tflite\.json is missing beside it"):
        LitertSession(copied)


def test_a_description_of_another_size_or_format(copied: Path) -> None:
    document = json.loads(description_path(copied).read_text())
    other = document | {"input": document["input"] | {"size_hw": [64, 64]}}
    description_path(copied).write_text(json.dumps(other))
    with pytest.raises(EvitError, match=r"its description says uint8 \(1, 64, 64, 3\)"):
        LitertSession(copied)
    description_path(copied).write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(EvitError, match="has format 99"):
        LitertSession(copied)
    description_path(copied).write_text("{}")
    with pytest.raises(EvitError, match="lacks or garbles 'format'"):
        LitertSession(copied)


def test_a_damaged_artifact(copied: Path) -> None:
    copied.write_bytes(b"no flatbuffer at all" * 50)
    with pytest.raises(EvitError, match=r"not a \.tflite file that LiteRT can run"):
        LitertSession(copied)


def test_a_wrong_image_is_refused(copied: Path) -> None:
    with pytest.raises(ValueError, match="uint8"):
        LitertSession(copied).run({"image": np.zeros((1, 8, 8, 3), np.uint8)})


def test_without_a_runtime_the_weights_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_session, "_RUNTIMES", ("no_such_module.interpreter",))
    assert open_session("seg-b0-street").backend is Backend.TORCH
    with pytest.raises(MissingDependency, match="needs ai-edge-litert"):
        LitertSession(STREET.artifact)


def test_segment_needs_neither_torch_nor_a_network(tmp_path: Path, picture: np.ndarray) -> None:
    """As on a board with the base installation: torch cannot be imported, no hub is reachable."""
    image = tmp_path / "street.png"
    cv2.imwrite(str(image), picture)
    code = "import sys; sys.modules['torch'] = None; from evit_cli.app import main; main()"
    command = [sys.executable, "-c", code, "segment", image, "--offline", "--out", tmp_path / "o"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_file()
    assert "tflite" in done.stderr
    assert "XNNPACK" not in done.stderr


def test_what_travels_is_small_and_has_a_card() -> None:
    for model in EMBEDDED.values():
        files = model.card.parent.glob(f"{model.name}[.-]*")
        most = 12_000_000 if model.task is Task.SAM else 6_000_000
        assert sum(path.stat().st_size for path in files) <= most
        card = model.card.read_text()
        for heading in ("Data", "Licence", "Recipe", "Metric", "Command"):
            assert f"## {heading}" in card, f"{model.card.name} lacks {heading}"
        assert model.metric.split()[1] in card
        description = read_description(model.artifact)
        assert description.info.name == model.name
        assert description.info.licence == model.licence


def test_models_show_and_ls_know_it() -> None:
    shown = json.loads(evit("models", "show", "seg-b0-street", "--json").stdout)
    assert Path(shown["weights"]).is_file()
    assert shown["params"] == 705_659
    first = evit("models", "ls").stdout.splitlines()[1].split("\t")
    assert first[0] == "seg-b0-street"
    assert first[-1] == "with evit"
