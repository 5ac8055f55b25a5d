"""Promptable models: encoder images/s, decoder ms by prompts, everything mode, peak memory.

    python -m benchmarks.sam_speed --models sam-b0,sam-l0,out/sam-l0-512x512-fp32-encoder.onnx
    python -m benchmarks.sam_speed --against-vit-h --ours sam-l0 --rounds 3

A name is a model with random weights in PyTorch, or the embedded one where it travels with evit; a
file is an artifact, whose other half lies beside it. Every model has a process of its own, whose
peak memory is told. With random weights hardly a mask passes the filters of everything mode: its
time is then that of encoder and decoder alone.

The second line times encoders alone: ours beside SAM-ViT-H's (transformers), both with random
weights, in float32 PyTorch, in turns in one process. The ratio is of throughputs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.timing import medians_ms
from evit_cli.bench.subject import photographs
from evit_cli.inference.sam_frame import FRAME_SIDE, encoder_input
from evit_cli.runtime.sam import SamSession, open_sam
from evit_cli.types import ImageSize

PROMPTS = (1, 16, 64)
VIT_H = "sam-vit-h"


def opened(name: str, threads: int) -> SamSession:
    """An artifact, the embedded model, or random weights in PyTorch."""
    from evit_cli.runtime.open import backend_of
    from evit_cli.weights.embedded import EMBEDDED

    if backend_of(name) is not None or name in EMBEDDED:
        return open_sam(name, threads=threads, offline=True)
    import torch

    from evit_cli.runtime.torch_sam import torch_halves
    from evit_cli.weights.untrained import untrained_model

    torch.set_num_threads(threads)
    model: Any
    model, info = untrained_model(name)
    return SamSession(*torch_halves(model, info, device="cpu"))


def decoder_call(session: SamSession, embedding: Any, prompts: int) -> Callable[[], Any]:
    """One point each, and the padding point."""
    rng = np.random.default_rng(0)
    points = np.zeros((prompts, 2, 2), np.float32)
    points[:, 0] = rng.uniform(0, FRAME_SIDE, (prompts, 2))
    labels = np.tile(np.array([1, -1], np.float32), (prompts, 1))
    return lambda: session.decode(embedding, points, labels)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model, in this process."""
    from evit_cli.bench.machine.memory import peak_rss_bytes
    from evit_cli.inference.mask_generator import GeneratorOptions, MaskGenerator

    session = opened(name, options.threads)
    image = photographs(ImageSize(FRAME_SIDE, FRAME_SIDE), 1)[0]
    square = encoder_input(image, session.input_side, session.info.preprocess.mean_rgb)
    embedding = session.encode(square)
    ms = medians_ms({"encoder": lambda: session.encode(square)}, options.rounds)
    calls = {str(p): decoder_call(session, embedding, p) for p in PROMPTS}
    decoder = medians_ms(calls, options.rounds)
    row = {
        "model": name,
        "backend": session.backend.value,
        "precision": session.precision.value,
        "input_side": session.input_side,
        "encoder_images_per_s": 1e3 / ms["encoder"],
        "decoder_ms": decoder,
        "decoder_ms_per_prompt": {p: value / int(p) for p, value in decoder.items()},
        "peak_mb": (peak_rss_bytes(os.getpid()) or 0) / 1e6,
    }
    if options.everything:
        started = time.perf_counter()
        found = MaskGenerator(session, GeneratorOptions()).generate(image)
        row |= {
            "everything_s": time.perf_counter() - started,
            "rated": found.counts.rated,
            "kept": found.counts.kept,
            "everything_peak_mb": (peak_rss_bytes(os.getpid()) or 0) / 1e6,
        }
    return row


def in_its_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """`measure` there, so that the peak memory is this model's alone."""
    command = [sys.executable, "-m", "benchmarks.sam_speed", "--child", name]
    command += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    command += [] if options.everything else ["--no-everything"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def show(row: dict[str, Any]) -> None:
    """One model in words."""
    decoder = ", ".join(
        f"{p}: {row['decoder_ms'][p]:.1f} ({row['decoder_ms_per_prompt'][p]:.1f} each)"
        for p in row["decoder_ms"]
    )
    print(f"{row['model']} on {row['backend']} {row['precision']}, {row['input_side']} pixels")
    print(f"  encoder {row['encoder_images_per_s']:.2f} images/s")
    print(f"  decoder ms by prompts {decoder}")
    if "everything_s" in row:
        print(
            f"  everything {row['everything_s']:.1f} s, {row['rated']} masks above the rating, "
            f"{row['kept']} kept, peak {row['everything_peak_mb']:.0f} MB"
        )
    print(f"  peak {row['peak_mb']:.0f} MB with one image and {max(PROMPTS)} prompts")


def encoder_call(name: str, threads: int) -> Callable[[], Any]:
    """The encoder alone, input and output in memory."""
    import torch

    if name != VIT_H:
        session = opened(name, threads)
        image = photographs(ImageSize(FRAME_SIDE, FRAME_SIDE), 1)[0]
        square = encoder_input(image, session.input_side, session.info.preprocess.mean_rgb)
        return session.encoder.prepare({"image": square})
    from evit_cli.bench.peers.build import build_peer

    model = build_peer(name, size_hw=ImageSize(FRAME_SIDE, FRAME_SIDE))
    x = torch.randn(1, 3, FRAME_SIDE, FRAME_SIDE)

    def run() -> None:
        with torch.inference_mode():
            model(x)

    return run


def timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def against_vit_h(options: argparse.Namespace) -> None:
    """In turns: ours several times, ViT-H once; a ratio per turn."""
    import torch

    torch.set_num_threads(options.threads)
    names = options.ours.split(",")
    ours = {name: encoder_call(name, options.threads) for name in names}
    theirs = encoder_call(VIT_H, options.threads)
    for run in (theirs, *ours.values()):
        run()
    ratios: dict[str, list[float]] = {name: [] for name in names}
    slow, fast = [], {name: list[float]() for name in names}
    for _ in range(options.rounds):
        before = {name: [timed(run) for _ in range(5)] for name, run in ours.items()}
        slow.append(timed(theirs))
        for name, run in ours.items():
            # Ours right before and right after, as the machine may have changed meanwhile.
            times = before[name] + [timed(run) for _ in range(5)]
            fast[name] += times
            ratios[name].append(slow[-1] / float(np.median(times)))
    print(f"{VIT_H} {np.median(slow):.1f} s ({min(slow):.1f} to {max(slow):.1f})")
    for name in names:
        r, ms = ratios[name], 1e3 * float(np.median(fast[name]))
        print(f"{name} {ms:.0f} ms; {np.median(r):.1f} times ({min(r):.1f} to {max(r):.1f})")
    print(json.dumps({"vit_h_s": slow, "ours_s": fast, "ratio": ratios}))


def main() -> None:
    """Measure what was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="", metavar="A,B")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--no-everything", dest="everything", action="store_false")
    parser.add_argument("--against-vit-h", action="store_true")
    parser.add_argument("--ours", default="sam-l0", metavar="A,B")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    if options.child is not None:
        print(json.dumps(measure(options.child, options)))
        return
    for name in options.models.split(",") if options.models else ():
        row = in_its_own_process(str(Path(name)) if "/" in name else name, options)
        show(row)
        print(json.dumps(row))
    if options.against_vit_h:
        against_vit_h(options)


if __name__ == "__main__":
    main()
