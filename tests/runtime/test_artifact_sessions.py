"""Sessions over .onnx and .xml files: what they take, and what is said of those they do not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from evit_cli.errors import EvitError, MissingDependency, UsageError
from evit_cli.runtime.description import describe_artifact, description_path
from evit_cli.runtime.open import open_artifact, open_session
from evit_cli.types import Backend, ImageSize, Precision
from tests.helpers.tensorrt_models import SIZE, Tiny

BACKENDS = [Backend.ONNX, Backend.OPENVINO]
LIBRARIES = {Backend.ONNX: "onnxruntime", Backend.OPENVINO: "openvino"}


def write(folder: Path, backend: Backend, tiny: Tiny) -> Path:
    """`tiny` as a described artifact."""
    path = tiny.save(folder / "tiny.onnx")
    if backend is Backend.OPENVINO:
        openvino = pytest.importorskip("openvino")
        model = openvino.convert_model(str(path))
        path = path.with_suffix(".xml")
        openvino.save_model(model, str(path), compress_to_fp16=False)
    describe_artifact(path, tiny.description)
    return path


def image(size_hw: ImageSize = SIZE, batch: int = 1) -> np.ndarray:
    shape = (batch, *size_hw, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("largest", [None, ImageSize(64, 96)])
def test_every_kind_of_input_is_fed_from_uint8_images(
    backend: Backend, layout: str, dtype: str, largest: ImageSize | None, tmp_path: Path
) -> None:
    tiny = Tiny(layout=layout, dtype=dtype, largest_hw=largest)
    session = open_artifact(write(tmp_path, backend, tiny), threads=1)
    assert session.backend is backend
    assert session.inputs[0].dtype == "uint8"
    assert session.inputs[0].shape == (1, *((None, None) if largest else SIZE), 3)
    for size in (SIZE, largest or SIZE):
        given = image(size)
        found = session.run({"image": given})["logits"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, tiny.logits(given), rtol=1e-4, atol=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_the_callers_own(backend: Backend, tmp_path: Path) -> None:
    """The next image does not change what the last one gave."""
    session = open_artifact(write(tmp_path, backend, Tiny()), threads=1)
    first = session.run({"image": image()})["logits"]
    kept = first.copy()
    session.run({"image": 255 - image()})
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_computation_alone_leaves_the_session_usable(backend: Backend, tmp_path: Path) -> None:
    session = open_artifact(write(tmp_path, backend, Tiny()), threads=1)
    expected = session.run({"image": image()})["logits"]
    compute = session.prepare({"image": image()})
    compute()
    compute()
    np.testing.assert_array_equal(session.run({"image": image()})["logits"], expected)
    with pytest.raises(ValueError, match="uint8"):
        session.prepare({"image": image().astype(np.float32)})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "given",
    [
        image(ImageSize(32, 56)),
        image(batch=2),
        image().astype(np.float32),
        image()[0],
        image()[..., :1],
        image()[:0],
    ],
    ids=["size", "batch", "dtype", "dimensions", "channels", "none"],
)
def test_other_images_are_refused(backend: Backend, given: np.ndarray, tmp_path: Path) -> None:
    session = open_artifact(write(tmp_path, backend, Tiny()), threads=1)
    with pytest.raises(ValueError, match=r"image must be \(1, 32, 48, 3\) uint8, got "):
        session.run({"image": given})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "wrong",
    [{"size_hw": ImageSize(64, 48)}, {"layout": "NHWC"}, {"dtype": "uint8"}, {"batch": 2}],
)
def test_a_description_of_another_file(
    backend: Backend, wrong: dict[str, object], tmp_path: Path
) -> None:
    path = write(tmp_path, backend, Tiny())
    describe_artifact(path, replace(Tiny().description, **wrong))
    with pytest.raises(EvitError, match=r"takes float32 .*, and its description says"):
        open_artifact(path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_damaged_file(backend: Backend, tmp_path: Path) -> None:
    path = write(tmp_path, backend, Tiny())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EvitError, match=f"{path.name} is not a .* that ") as caught:
        open_artifact(path)
    assert "\n" not in caught.value.message
    assert "export it again" in caught.value.hint


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_library(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, backend, Tiny())
    monkeypatch.setitem(sys.modules, LIBRARIES[backend], None)
    with pytest.raises(MissingDependency, match=f"needs {LIBRARIES[backend]}") as caught:
        open_artifact(path)
    assert caught.value.hint == f"pip install {LIBRARIES[backend]}"
    assert caught.value.exit_code == 5


def test_openvino_without_its_weights(tmp_path: Path) -> None:
    path = write(tmp_path, Backend.OPENVINO, Tiny())
    path.with_suffix(".bin").unlink()
    with pytest.raises(EvitError, match=r"tiny\.bin is missing beside"):
        open_artifact(path)


@pytest.mark.parametrize("name", ["x.onnx", "x.xml", "x.tflite", "x.engine"])
def test_a_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=f"there is no file .*{name}"):
        open_artifact(tmp_path / name)


def test_a_foreign_onnx_file(tmp_path: Path) -> None:
    path = Tiny().save(tmp_path / "foreign.onnx")
    with pytest.raises(EvitError, match="does not say what it is") as caught:
        open_artifact(path)
    assert "evit export" in caught.value.hint


def test_a_suffix_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="is no artifact"):
        open_artifact(tmp_path / "x.pb")


def test_the_description_beside_serves_where_none_is_inside(tmp_path: Path) -> None:
    path = write(tmp_path, Backend.ONNX, Tiny())
    bare = onnx.load(str(path))
    del bare.metadata_props[:]
    onnx.save(bare, str(path))
    assert open_artifact(path).info.name == "tiny"
    document = json.loads(description_path(path).read_text())
    description_path(path).write_text(json.dumps(document | {"name": "beside"}))
    assert open_artifact(path).info.name == "beside"


def test_an_artifact_decides_backend_and_precision(tmp_path: Path) -> None:
    path = str(write(tmp_path, Backend.ONNX, Tiny()))
    assert open_session(path).backend is Backend.ONNX
    assert open_session(path, backend=Backend.ONNX, precision=Precision.FP32).info.name == "tiny"
    with pytest.raises(UsageError, match="is for onnx, which tflite cannot run"):
        open_session(path, backend=Backend.TFLITE)
    with pytest.raises(UsageError, match="is fp32, not int8"):
        open_session(path, precision=Precision.INT8)
