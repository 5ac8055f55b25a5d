"""Running engines, against a stand-in that follows TensorRT's documented 10.x and 11.x."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evit_cli.errors import EvitError, MissingDependency
from evit_cli.export.tensorrt import EngineRequest, build_engine
from evit_cli.inference.segmenter import Segmenter
from evit_cli.runtime import cuda_memory, tensorrt_api
from evit_cli.runtime.description import describe_artifact, description_path
from evit_cli.runtime.tensorrt_session import TensorRTSession
from evit_cli.types import EXPORTED, Backend, ImageSize, Precision
from tests.helpers.cuda_standin import FakeCudart, Queued, give_cuda_python
from tests.helpers.tensorrt_engine import A100, ORIN, SIZES, HostMemory
from tests.helpers.tensorrt_models import Tiny
from tests.helpers.tensorrt_standin import VERSIONS, Board, install

FREE = ImageSize(128, 256)


@pytest.fixture(params=VERSIONS)
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Board:
    return install(monkeypatch, request.param)


def engine_of(tiny: Tiny, folder: Path) -> Path:
    path = folder / "tiny.engine"
    onnx_file = tiny.save(folder / "tiny.onnx")
    build_engine(onnx_file, path, request=EngineRequest(tiny.description))
    return path


def picture(height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("precision", EXPORTED)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_engine_answers_as_its_model(
    board: Board, tmp_path: Path, precision: Precision, layout: str, dtype: str
) -> None:
    tiny = Tiny(precision, layout=layout, dtype=dtype)
    session = TensorRTSession(engine_of(tiny, tmp_path))
    assert session.backend is Backend.TENSORRT
    assert session.precision is precision
    assert session.info.name == "tiny"
    assert session.inputs[0].shape == (1, 32, 48, 3)
    assert session.inputs[0].dtype == "uint8"
    assert session.outputs[0].shape == (1, 4, 4, 6)
    for seed in (0, 1):
        image = picture(seed=seed)
        logits = session.run({"image": image})["logits"]
        assert logits.dtype == np.float32
        expected = tiny.logits(image)
        tolerance = 1e-2 if precision is Precision.FP16 else 1e-5
        assert np.abs(logits - expected).max() <= tolerance * expected.std()
    session.close()
    assert board.leaked == 0


def test_any_size_of_the_range(board: Board, tmp_path: Path) -> None:
    tiny = Tiny(largest_hw=FREE)
    session = TensorRTSession(engine_of(tiny, tmp_path))
    assert session.inputs[0].shape == (1, None, None, 3)
    assert session.outputs[0].shape == (1, 4, None, None)
    for size in ((32, 48), (128, 256), (64, 64), (32, 48)):
        image = picture(*size)
        found = session.run({"image": image})["logits"]
        assert found.shape == (1, 4, size[0] // 8, size[1] // 8)
        np.testing.assert_allclose(found, tiny.logits(image), atol=1e-2)
    with pytest.raises(EvitError, match="takes 32x48 to 128x256"):
        session.run({"image": picture(256, 256)})
    image = picture()
    np.testing.assert_allclose(
        session.run({"image": image})["logits"], tiny.logits(image), atol=1e-2
    )
    # Buffers grow to the largest size and are used again.
    assert len(board.memories[-1].buffers) == 2


def test_an_answer_is_not_overwritten_by_the_next(board: Board, tmp_path: Path) -> None:
    session = TensorRTSession(engine_of(Tiny(), tmp_path))
    first = session.run({"image": picture(seed=0)})["logits"]
    kept = first.copy()
    session.run({"image": picture(seed=1)})
    np.testing.assert_array_equal(first, kept)


def test_the_computation_alone(board: Board, tmp_path: Path) -> None:
    session = TensorRTSession(engine_of(Tiny(), tmp_path))
    expected = session.run({"image": picture()})["logits"]
    compute = session.prepare({"image": picture()})
    compute()
    compute()
    np.testing.assert_array_equal(session.run({"image": picture()})["logits"], expected)


def test_an_image_that_is_not_contiguous(board: Board, tmp_path: Path) -> None:
    tiny = Tiny(layout="NHWC", dtype="uint8")
    session = TensorRTSession(engine_of(tiny, tmp_path))
    bgr = picture()
    found = session.run({"image": bgr[..., ::-1]})["logits"]
    np.testing.assert_allclose(found, tiny.logits(bgr[..., ::-1]), atol=1e-2)


def test_an_engine_of_a_smaller_range_than_its_description(board: Board, tmp_path: Path) -> None:
    path = engine_of(Tiny(largest_hw=ImageSize(64, 64)), tmp_path)
    describe_artifact(path, Tiny(largest_hw=FREE).description)
    session = TensorRTSession(path)
    with pytest.raises(EvitError, match=r"takes \(1, 3, 32, 48\) to \(1, 3, 64, 64\), not"):
        session.run({"image": picture(128, 128)})
    assert session.run({"image": picture(64, 64)})["logits"].shape == (1, 4, 8, 8)


def test_a_wrong_image_is_refused(board: Board, tmp_path: Path) -> None:
    session = TensorRTSession(engine_of(Tiny(), tmp_path))
    with pytest.raises(ValueError, match=r"image must be \(1, 32, 48, 3\) uint8, got \(1, 8, 8"):
        session.run({"image": picture(8, 8)})
    with pytest.raises(ValueError, match="float32"):
        session.run({"image": picture().astype(np.float32)})


def test_the_segmenter_runs_it(board: Board, tmp_path: Path) -> None:
    tiny = Tiny(largest_hw=FREE)
    session = TensorRTSession(engine_of(tiny, tmp_path))
    result = Segmenter(session, size_hw=ImageSize(64, 96))(picture(60, 90)[0])
    assert result.class_map.shape == (60, 90)


def test_an_engine_of_another_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, "10.3.0")
    path = engine_of(Tiny(), tmp_path)
    board = install(monkeypatch, "10.13.2")
    with pytest.raises(EvitError) as caught:
        TensorRTSession(path)
    assert "was built with another TensorRT than the 10.13.2 here" in caught.value.message
    assert "got 10.3.0, please rebuild" in caught.value.message
    assert "evit export --model tiny" in caught.value.hint
    assert board.leaked == 0


def test_an_engine_of_another_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, "11.4.1", A100)
    path = engine_of(Tiny(), tmp_path)
    board = install(monkeypatch, "11.4.1", ORIN)
    with pytest.raises(EvitError, match=r"another kind of GPU than the Orin .*8\.7") as caught:
        TensorRTSession(path)
    assert "build it again on this machine" in caught.value.hint
    assert board.leaked == 0


@pytest.mark.parametrize("content", [b"", b"no engine at all" * 100])
def test_a_damaged_engine(board: Board, tmp_path: Path, content: bytes) -> None:
    path = engine_of(Tiny(), tmp_path)
    path.write_bytes(content)
    with pytest.raises(EvitError, match=f"is no engine that TensorRT {board.version} can read"):
        TensorRTSession(path)
    assert board.leaked == 0


def test_an_engine_cut_short(board: Board, tmp_path: Path) -> None:
    path = engine_of(Tiny(), tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EvitError, match="is no engine that TensorRT"):
        TensorRTSession(path)


def test_a_description_of_another_input(board: Board, tmp_path: Path) -> None:
    path = engine_of(Tiny(), tmp_path)
    describe_artifact(path, replace(Tiny().description, layout="NHWC"))
    with pytest.raises(EvitError, match=r"takes float32 \(1, 3, 32, 48\), and its description"):
        TensorRTSession(path)
    describe_artifact(path, replace(Tiny().description, dtype="uint8"))
    with pytest.raises(EvitError, match=r"its description says uint8 \(1, 3, 32, 48\)"):
        TensorRTSession(path)


def test_missing_files(board: Board, tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="there is no file"):
        TensorRTSession(tmp_path / "gone.engine")
    (tmp_path / "bare.engine").write_bytes(b"engine")
    with pytest.raises(EvitError, match=r"bare\.engine\.json is missing beside it"):
        TensorRTSession(tmp_path / "bare.engine")


def test_the_description_beside_is_not_needed(board: Board, tmp_path: Path) -> None:
    path = engine_of(Tiny(), tmp_path)
    description_path(path).unlink()
    assert TensorRTSession(path).info.name == "tiny"


def test_a_gpu_without_memory_left(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = engine_of(Tiny(), tmp_path)
    memory = HostMemory(board.gpu, size_bytes=1000)
    monkeypatch.setattr(cuda_memory, "open_device_memory", lambda: memory)
    session = TensorRTSession(path)
    with pytest.raises(EvitError, match="the GPU is out of memory") as caught:
        session.run({"image": picture()})
    assert "--size" in caught.value.hint
    memory.size_bytes = 1 << 20
    assert session.run({"image": picture()})["logits"].shape == (1, 4, 4, 6)
    session.close()
    assert not memory.buffers


@pytest.mark.parametrize("jetson", [False, True])
def test_without_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jetson: bool) -> None:
    install(monkeypatch, "10.3.0")
    path = engine_of(Tiny(), tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    release = tmp_path / "nv_tegra_release"
    monkeypatch.setattr(tensorrt_api, "_TEGRA_RELEASE", release)
    if jetson:
        release.write_text("# R36 (release), REVISION: 4.3")
    with pytest.raises(MissingDependency, match="running an engine needs TensorRT") as caught:
        TensorRTSession(path)
    assert ("apt-get install python3-libnvinfer" in caught.value.hint) is jetson
    assert ("pip install" in caught.value.hint) is not jetson


def test_the_mends_are_those_of_doctor() -> None:
    from evit_cli.config.checks.libraries import RUNTIMES

    (runtime,) = [one for one in RUNTIMES if one.backend is Backend.TENSORRT]
    assert (tensorrt_api._PIP, tensorrt_api._APT) == (runtime.mend, runtime.mend_on_jetson)


@pytest.mark.parametrize(
    ("logged", "said"),
    [
        ("6: The engine plan file is not compatible.", "6: The engine plan file is not compatible"),
        ("[runtime.cpp::deserializeCudaEngine::50] broken\n here.", "broken here"),
        ("3: [runtime.cpp::x::5] Error Code 3: API Usage Error (No (really) good.)",
         "No (really) good"),
    ],
)  # fmt: skip
def test_messages_lose_what_only_nvidia_can_use(logged: str, said: str) -> None:
    assert tensorrt_api.plain(logged) == said


@pytest.mark.parametrize("name", ["cuda.bindings.runtime", "cuda.cudart"])
def test_cuda_python_carries_an_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    real = cuda_memory.open_device_memory
    install(monkeypatch, "10.3.0")
    tiny = Tiny()
    path = engine_of(tiny, tmp_path)
    cudart = FakeCudart()
    give_cuda_python(monkeypatch, cudart, name)
    monkeypatch.setattr(cuda_memory, "open_device_memory", real)
    assert real().gpu == ORIN
    session = TensorRTSession(path)
    image = picture()
    np.testing.assert_allclose(
        session.run({"image": image})["logits"], tiny.logits(image), atol=1e-2
    )
    session.close()
    assert cudart.destroyed
    assert not cudart.host.buffers


def test_what_cuda_says_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    give_cuda_python(monkeypatch, FakeCudart(error=100), "cuda.bindings.runtime")
    with pytest.raises(EvitError, match="CUDA failed: no CUDA-capable device is detected"):
        cuda_memory.open_device_memory()
    give_cuda_python(monkeypatch, FakeCudart(), "cuda.bindings.runtime")
    memory = cuda_memory.open_device_memory()
    with pytest.raises(EvitError, match="the GPU is out of memory"):
        memory.allocate(1 << 30)
    with pytest.raises(ValueError, match="contiguous"):
        memory.copy_in(memory.allocate(8), np.zeros((4, 4), np.uint8)[:, ::2])


def test_torch_carries_an_engine_where_cuda_python_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Real tensors, on the CPU: what is CUDA's is replaced."""
    queue = HostMemory()
    stream = types.SimpleNamespace(cuda_stream=queue.stream, synchronize=queue.synchronise)

    def empty(size: int, *, dtype: torch.dtype, device: str) -> torch.Tensor:
        assert device == "cuda"
        buffer = torch.empty(size, dtype=dtype)
        SIZES[buffer.data_ptr()] = size
        return buffer

    fake = types.SimpleNamespace(
        uint8=torch.uint8,
        empty=empty,
        from_numpy=torch.from_numpy,
        cuda=types.SimpleNamespace(
            is_available=lambda: True,
            current_device=lambda: 0,
            get_device_properties=lambda device: types.SimpleNamespace(
                name="Orin", major=8, minor=7
            ),
            Stream=lambda: stream,
            stream=lambda chosen: Queued(queue, monkeypatch),
            OutOfMemoryError=torch.cuda.OutOfMemoryError,
        ),
    )
    real = cuda_memory.open_device_memory
    install(monkeypatch, "10.3.0")
    tiny = Tiny(largest_hw=FREE)
    path = engine_of(tiny, tmp_path)
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(cuda_memory, "open_device_memory", real)
    session = TensorRTSession(path)
    for size in ((64, 64), (32, 48)):
        image = picture(*size)
        found = session.run({"image": image})["logits"]
        np.testing.assert_allclose(found, tiny.logits(image), atol=1e-2)
    session.close()


def test_nothing_that_reaches_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match="needs cuda-python or PyTorch with CUDA") as caught:
        cuda_memory.open_device_memory()
    assert caught.value.exit_code == 5
    assert "cuda-python" in caught.value.hint
