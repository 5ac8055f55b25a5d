"""Questions to nvidia-smi about the GPU that is measured."""

from __future__ import annotations

import os
import re

from evit_cli.config.machine import Runner


def gpu_index() -> str:
    """Which GPU: the first of CUDA_VISIBLE_DEVICES, else the first there is."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    return first if re.fullmatch(r"\d+|GPU-[\w-]+", first) else "0"


def query_gpu(run: Runner, *fields: str) -> list[str] | None:
    """The values of some fields, None when there is no GPU or the driver lacks one of them."""
    command = ("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits")
    first = run((*command, "-i", gpu_index())).partition("\n")[0]
    values = [value.strip() for value in first.split(",")]
    return values if first and len(values) == len(fields) else None


def number(text: str) -> float | None:
    """A value without its unit, None for "[N/A]"."""
    match = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*", text)
    return float(match[1]) if match else None


def power_w(run: Runner) -> float | None:
    """What the GPU draws now, in watts."""
    values = query_gpu(run, "power.draw")
    return number(values[0]) if values else None


def process_bytes(run: Runner, pid: int) -> int | None:
    """Memory that a process holds on GPUs; in a container nvidia-smi may not know its processes."""
    command = ("nvidia-smi", "--query-compute-apps=pid,used_memory")
    found = None
    for line in run((*command, "--format=csv,noheader,nounits")).splitlines():
        owner, _, mebibytes = line.partition(",")
        size = number(mebibytes)
        if owner.strip() == str(pid) and size is not None:
            found = (found or 0) + int(size) * (1 << 20)
    return found
