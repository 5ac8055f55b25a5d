"""Super-resolution by two: ms of our variants beside bicubic and peers, in one run.

    python -m benchmarks.superres_speed [--backends torch,onnx] [--sizes 160x240,512x512]
    python -m benchmarks.superres_speed --weights sr.safetensors --pairs set5/   # and its PSNR

Per size and backend the candidates take turns, so that a machine that slows down slows all of them;
read the ratios. Weights are random: they do not change the time. Peers that are not installed, or
that a converter does not take, are named and left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.timing import medians_ms
from evit_cli.bench.estimates.layers import model_macs
from evit_cli.bench.peers.artifact import write_peer_artifact
from evit_cli.bench.peers.build import build_peer
from evit_cli.bench.peers.catalog import find_peer
from evit_cli.bench.subject import photographs
from evit_cli.errors import EvitError
from evit_cli.export.job import ExportJob, run_export
from evit_cli.export.plan import ExportRequest, make_plan
from evit_cli.models.variants import get_variant
from evit_cli.runtime.open import open_artifact
from evit_cli.runtime.torch_session import TorchSession, load_torch_session
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess
from evit_cli.weights.untrained import untrained_model

OURS = "sr-xs-res-x2,sr-xs-x2,sr-s-w075-x2,sr-s-x2"
PEERS = "swinir,swin2sr,restormer"
"""Of the paper's Table 5, and SwinIR's successor, which installs without torchvision."""


@contextmanager
def left_out(name: str, lost: list[str]) -> Iterator[None]:
    """What cannot be built or converted is named, not fatal."""
    try:
        yield
    except EvitError as error:
        lost.append(f"{name}: {error.message}")


def torch_session(name: str, size: ImageSize, threads: int, *, peer: bool) -> TorchSession:
    """Random weights in PyTorch."""
    if peer:
        found = find_peer(name)
        info = ModelInfo(name, found.task, Preprocess(size, stride=found.stride))
        return TorchSession(build_peer(name, size_hw=size), info, threads=threads, device="cpu")
    return TorchSession(*untrained_model(name), threads=threads, device="cpu")


def artifact(name: str, backend: Backend, size: ImageSize, folder: Path, *, peer: bool) -> Path:
    """The same as a float32 file."""
    if peer:
        precision = Precision.FP32
        return write_peer_artifact(name, folder, backend=backend, precision=precision, size_hw=size)
    model, info = untrained_model(name)
    request = ExportRequest(backend, precision=Precision.FP32, size_hw=size, out=folder)
    return run_export(ExportJob(make_plan(request, info), model, force=True)).written[0]


def macs_of(name: str, size: ImageSize, *, peer: bool) -> int:
    """Multiply-accumulates at a size, counted the same way for all."""
    if not peer:
        return model_macs(get_variant(name), size)
    return model_macs(build_peer(name, size_hw=size, device="meta"), size)


def candidates(
    options: argparse.Namespace, backend: Backend, size: ImageSize, folder: Path
) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """What is timed, by name, and what was left out."""
    image, lost = photographs(size, 1), list[str]()
    runs: dict[str, Callable[[], Any]] = {}
    ours, peers = (text.split(",") if text else [] for text in (options.ours, options.peers))
    for name in [*ours, *peers]:
        peer = name in peers
        with left_out(name, lost):
            if backend is Backend.TORCH:
                session: Any = torch_session(name, size, options.threads, peer=peer)
            else:
                path = artifact(name, backend, size, folder, peer=peer)
                session = open_artifact(path, threads=options.threads)
            runs[name] = session.prepare({"image": image})
    large = (2 * size.width, 2 * size.height)
    runs["bicubic"] = lambda: cv2.resize(image[0], large, interpolation=cv2.INTER_CUBIC)
    return runs, lost


def measure(options: argparse.Namespace, backend: Backend, size: ImageSize) -> None:
    """Print a row per candidate, and one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        runs, lost = candidates(options, backend, size, Path(folder))
        result = medians_ms(runs, options.rounds)
    base = next(iter(result.values()))
    print(f"\n{backend.value} {size} -> {ImageSize(2 * size.height, 2 * size.width)}")
    rows = []
    peers = options.peers.split(",")
    for name, ms in result.items():
        macs = None if name == "bicubic" else macs_of(name, size, peer=name in peers)
        work = "" if macs is None else f"{macs / 1e9:8.2f} GMACs {macs / ms / 1e6:7.1f} GMACs/s"
        print(f"  {name:15} {ms:9.2f} ms {ms / base:7.2f}x {work}")
        rows.append({"model": name, "ms": ms, "macs": macs})
    for line in lost:
        print(f"  left out: {line}")
    print(json.dumps({"backend": backend.value, "size_hw": size, "rows": rows, "left_out": lost}))


def fidelity(weights: Path, folder: Path) -> None:
    """PSNR of trained weights, and per multiply-accumulate."""
    from evit_cli.data.superres import Pairs
    from evit_cli.inference.evaluate_superres import evaluate_superres

    session = load_torch_session(None, weights=weights)
    score = evaluate_superres(session, Pairs(folder, 2))
    gain = score.psnr_db - score.bicubic_psnr_db
    print(
        f"{weights}: {score.psnr_db:.2f} dB on {folder}, {gain:.2f} dB above bicubic "
        f"({score.protocol})"
    )


def main() -> None:
    """Measure every size on every backend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--backends", default="torch,onnx")
    parser.add_argument("--sizes", default="160x240,512x512")
    parser.add_argument("--ours", default=OURS, metavar="A,B")
    parser.add_argument("--peers", default=PEERS, metavar="A,B")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--pairs", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    for size in map(ImageSize.parse, options.sizes.split(",")):
        for backend in map(Backend, options.backends.split(",")):
            measure(options, backend, size)
    if options.weights is not None and options.pairs is not None:
        fidelity(options.weights, options.pairs)


if __name__ == "__main__":
    main()
