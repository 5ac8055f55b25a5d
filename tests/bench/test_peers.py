"""The peers are the models they are said to be, and what is in the way of one is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evit_cli.bench.peers.artifact import write_peer_artifact
from evit_cli.bench.peers.build import build_peer, count_params
from evit_cli.bench.peers.catalog import PEERS, Peer, find_peer
from evit_cli.errors import EXIT_MISSING, EvitError, MissingDependency, UsageError
from evit_cli.runtime.description import read_description
from evit_cli.runtime.open import open_artifact
from evit_cli.types import Backend, ImageSize, Precision, Task

torch = pytest.importorskip("torch")

BUILT = [peer for peer in PEERS.values() if peer.library]
ABSENT = [peer for peer in PEERS.values() if not peer.library]
SMALL = ImageSize(64, 96)
QUICK = ("segformer-b1", "segformer-b1-ade20k", "convnext-t")
COUNTED = [
    pytest.param(peer, marks=() if peer.name in QUICK else pytest.mark.slow)
    for peer in BUILT
    if peer.published_gmacs and peer.family != "mask2former"  # which does not run without memory
]


def built(name: str, size_hw: ImageSize, **options: str):
    """A peer, or a skip where this environment lacks its library."""
    try:
        return build_peer(name, size_hw=size_hw, **options)
    except MissingDependency as error:
        pytest.skip(error.message)


@pytest.mark.parametrize("peer", BUILT, ids=lambda peer: peer.name)
def test_a_peer_has_the_published_number_of_parameters(peer: Peer) -> None:
    params = count_params(built(peer.name, peer.size_hw, device="meta"))
    assert params == peer.params
    if peer.published_params is not None:
        assert params == pytest.approx(peer.published_params, rel=0.03)


@pytest.mark.parametrize("peer", COUNTED, ids=lambda peer: peer.name)
def test_macs_at_the_peers_size_are_the_published_ones(peer: Peer) -> None:
    """Which also shows at which size the paper's peers run, since it does not say."""
    from torch.utils.flop_counter import FlopCounterMode

    model = built(peer.name, peer.size_hw, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.empty(1, 3, *peer.size_hw, device="meta"))
    # Attention, positions and rounding are counted differently from paper to paper.
    assert counter.get_total_flops() / 2 == pytest.approx(peer.macs, rel=0.09)


@pytest.mark.parametrize("peer", ABSENT, ids=lambda peer: peer.name)
def test_what_no_library_has_is_said_with_what_is_near(peer: Peer) -> None:
    with pytest.raises(EvitError, match="no well-kept library has") as caught:
        build_peer(peer.name, size_hw=peer.size_hw)
    assert caught.value.exit_code == 1
    assert all(near in caught.value.hint for near in peer.nearest)
    assert all(PEERS[near].library and PEERS[near].task is peer.task for near in peer.nearest)


def test_unknown_peers_are_refused_with_close_names() -> None:
    with pytest.raises(UsageError, match="segformer-b9") as caught:
        find_peer("segformer-b9")
    assert "segformer-b" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "size_hw", "shape"),
    [
        ("segformer-b0", SMALL, (2, 19, 16, 24)),
        ("segformer-b0-ade20k", SMALL, (2, 150, 16, 24)),
        ("convnext-t", ImageSize(64, 64), (2, 1000)),
        ("swin2sr", ImageSize(16, 24), (2, 3, 32, 48)),
        ("swinir", ImageSize(16, 24), (2, 3, 32, 48)),
        ("restormer", ImageSize(16, 24), (2, 3, 16, 24)),
        ("coatnet-0", ImageSize(224, 224), (2, 1000)),
        ("efficientnetv2-s", ImageSize(64, 64), (2, 1000)),
        ("deeplabv3plus-mbv2-smp", SMALL, (2, 19, 64, 96)),
        pytest.param("mask2former-swin-t", SMALL, (2, 150, 16, 24), marks=pytest.mark.slow),
    ],
)
def test_outputs_have_the_documented_shape(
    name: str, size_hw: ImageSize, shape: tuple[int, ...]
) -> None:
    model = built(name, size_hw)
    assert not model.training
    with torch.inference_mode():
        out = model(torch.randn(2, 3, *size_hw))
    assert tuple(out.shape) == shape and bool(out.isfinite().all())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("swin-b", (1, 1000)),
        ("convnext-l", (1, 1000)),
        ("segformer-b5", (1, 19, 256, 512)),
        ("segformer-b4-ade20k", (1, 150, 128, 128)),
        ("maskformer-swin-t", (1, 150, 128, 128)),
        ("sam-vit-h", (1, 256, 64, 64)),
    ],
)
def test_large_peers_have_the_documented_shape_too(name: str, shape: tuple[int, ...]) -> None:
    size_hw = find_peer(name).size_hw
    model = built(name, size_hw, device="meta")
    with torch.inference_mode():
        assert tuple(model(torch.empty(1, 3, *size_hw, device="meta")).shape) == shape


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_the_torch_session_runs_a_peer(precision: Precision) -> None:
    from evit_cli.runtime.torch_session import TorchSession
    from evit_cli.types import ModelInfo, Preprocess

    info = ModelInfo("segformer-b0", Task.SEGMENT, Preprocess(SMALL))
    session = TorchSession(built("segformer-b0", SMALL), info, precision=precision, threads=1)
    image = np.zeros((1, *SMALL, 3), np.uint8)
    assert session.run({"image": image})["logits"].shape == (1, 19, 16, 24)


def test_weights_are_the_same_each_time_and_the_callers_dice_untouched() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = (built("segformer-b0", SMALL) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "size_hw"),
    [("segformer-b0", ImageSize(100, 128)), ("swin-t", ImageSize(224, 256)),
     ("sam-vit-h", ImageSize(512, 1024)), ("swin2sr", ImageSize(12, 16))],
)  # fmt: skip
def test_sizes_that_a_peer_does_not_take(name: str, size_hw: ImageSize) -> None:
    with pytest.raises(UsageError, match=name):
        build_peer(name, size_hw=size_hw)


def test_the_catalog_needs_no_torch() -> None:
    script = (
        "import sys, json, evit_cli.bench.peers.catalog, evit_cli.bench.published\n"
        "import evit_cli.bench.paper, evit_cli.bench.peers.artifact\n"
        "print(json.dumps([m for m in ('torch', 'transformers', 'timm') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(done.stdout) == []


def _build_beside(folder: Path, name: str) -> dict[str, str]:
    """What a fresh interpreter says that finds the packages in `folder` first."""
    script = (
        "import json, sys\n"
        "from evit_cli.bench.peers.build import build_peer\n"
        "from evit_cli.bench.peers.catalog import find_peer\n"
        "from evit_cli.errors import EvitError\n"
        "try:\n"
        f"    build_peer({name!r}, size_hw=find_peer({name!r}).size_hw, device='meta')\n"
        "except EvitError as e:\n"
        "    print(json.dumps([e.message, e.hint, e.exit_code]))\n"
    )
    repository = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), repository])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    message, hint, code = json.loads(done.stdout)
    return {"message": message, "hint": hint, "code": code}


def _package(folder: Path, name: str, version: str, source: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(source)
    (folder / f"{name}-{version}.dist-info").mkdir()
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )


def test_a_torchvision_of_another_build_is_recognised(tmp_path: Path) -> None:
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")'
    _package(tmp_path, "torchvision", "0.28.0", broken)
    _package(tmp_path, "timm", "1.0.31", "import torchvision")
    said = _build_beside(tmp_path, "coatnet-0")
    assert said["code"] == EXIT_MISSING
    assert "torchvision 0.28.0 does not load beside torch" in said["message"]
    assert "torchvision::nms" in said["message"] and "one build" in said["hint"]


def test_a_broken_torchvision_is_named_where_transformers_trips_over_it(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    _package(tmp_path, "torchvision", "0.28.0", 'raise RuntimeError("operator is missing")')
    said = _build_beside(tmp_path, "segformer-b0")
    assert said["code"] == EXIT_MISSING and "transformers" in said["message"]
    assert "pip uninstall torchvision" in said["hint"]


def test_a_library_that_is_not_installed_is_named_with_its_command(tmp_path: Path) -> None:
    try:
        import spandrel  # noqa: F401
    except ImportError:
        said = _build_beside(tmp_path, "swinir")
        assert said["code"] == EXIT_MISSING
        assert "spandrel, which is not installed" in said["message"]
        assert said["hint"].startswith("pip install spandrel")
    else:
        pytest.skip("it is installed here")


def _agrees(path: Path, size_hw: ImageSize, tolerance: float) -> None:
    """The artifact gives what the module gives, and says what it is."""
    session = open_artifact(path, threads=1)
    image = np.random.default_rng(0).integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
    logits = session.run({"image": image})["logits"]
    assert session.info.name == "segformer-b0" and session.info.task is Task.SEGMENT
    x = (torch.from_numpy(image).permute(0, 3, 1, 2) / 255).float()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        expected = build_peer("segformer-b0", size_hw=size_hw)((x - mean) / std).numpy()
    assert np.abs(logits - expected).max() <= tolerance * expected.std()


@pytest.mark.parametrize(
    ("backend", "precision", "needs", "tolerance"),
    [
        pytest.param(Backend.ONNX, Precision.FP32, "onnxscript", 1e-3, marks=pytest.mark.slow),
        pytest.param(Backend.ONNX, Precision.FP16, "onnxscript", 0.1, marks=pytest.mark.slow),
        pytest.param(Backend.OPENVINO, Precision.FP32, "openvino", 1e-3, marks=pytest.mark.slow),
        pytest.param(Backend.TFLITE, Precision.FP32, "litert_torch", 1e-3, marks=pytest.mark.slow),
    ],
)
def test_an_artifact_gives_what_the_module_gives(
    tmp_path: Path, backend: Backend, precision: Precision, needs: str, tolerance: float
) -> None:
    for library in ("transformers", needs):
        pytest.importorskip(library)
    path = write_peer_artifact(
        "segformer-b0", tmp_path, backend=backend, precision=precision, size_hw=SMALL
    )
    assert path.parent == tmp_path and not list(tmp_path.glob(".evit-partial*"))
    assert read_description(path).size_hw == SMALL
    _agrees(path, SMALL, tolerance)


@pytest.mark.slow
def test_for_tensorrt_the_onnx_file_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    onnx = pytest.importorskip("onnx")
    path = write_peer_artifact(
        "segformer-b0",
        tmp_path,
        backend=Backend.TENSORRT,
        precision=Precision.FP16,
        size_hw=SMALL,
        engine=False,
    )
    graph = onnx.load(path).graph
    assert path.suffix == ".onnx" and read_description(path).layout == "NCHW"
    assert onnx.TensorProto.FLOAT16 in {weight.data_type for weight in graph.initializer}


@pytest.mark.parametrize(
    ("backend", "precision", "words"),
    [(Backend.ONNX, Precision.INT8, "int8"), (Backend.TORCH, Precision.FP32, "torch")],
)
def test_what_cannot_be_converted_is_refused(
    tmp_path: Path, backend: Backend, precision: Precision, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        write_peer_artifact(
            "segformer-b0", tmp_path, backend=backend, precision=precision, size_hw=SMALL
        )
    assert not list(tmp_path.iterdir())


def test_more_weights_than_a_file_holds_are_refused_before_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=r"2\.5 GB") as caught:
        write_peer_artifact(
            "sam-vit-h",
            tmp_path,
            backend=Backend.ONNX,
            precision=Precision.FP32,
            size_hw=ImageSize(1024, 1024),
        )
    assert "--backend torch" in caught.value.hint


def test_a_converter_that_fails_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")

    def refuse(*_: object, **__: object) -> None:
        raise EvitError("PyTorch's exporter failed: no such operator")

    monkeypatch.setattr("evit_cli.export.onnx.write_onnx", refuse)
    with pytest.raises(EvitError, match="segformer-b0 cannot be converted for openvino") as caught:
        write_peer_artifact(
            "segformer-b0",
            tmp_path,
            backend=Backend.OPENVINO,
            precision=Precision.FP32,
            size_hw=SMALL,
        )
    assert "--backend torch" in caught.value.hint and not list(tmp_path.iterdir())
