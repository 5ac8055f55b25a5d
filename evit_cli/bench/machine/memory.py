"""How much memory a process has held."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evit_cli.bench.machine.nvidia import process_bytes
from evit_cli.bench.machine.sysfs import read_fields
from evit_cli.config.machine import Runner, run_tool


def peak_rss_bytes(pid: int, *, root: Path = Path("/")) -> int | None:
    """The most resident memory that a living process has held, None where unknown."""
    kibibytes = read_fields(root / f"proc/{pid}/status").get("VmHWM")
    if kibibytes is not None:
        return kibibytes << 10
    if pid == os.getpid() and root == Path("/") and sys.platform == "darwin":
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return None


def peak_gpu_bytes(pid: int, *, run: Runner = run_tool) -> int | None:
    """GPU memory of a process, None where unknown or none.

    With PyTorch in this process: the most that its tensors took. Otherwise what nvidia-smi says the
    process holds now, the CUDA context included; runtimes keep what they once allocated.
    """
    torch = sys.modules.get("torch")
    if pid == os.getpid() and torch is not None and torch.cuda.is_available():
        peak = int(torch.cuda.max_memory_allocated())
        if peak:
            return peak
    return process_bytes(run, pid)
