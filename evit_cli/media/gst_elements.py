"""Which GStreamer elements this machine has, and whether a pipeline of them runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import lru_cache

Has = Callable[[str], bool]
"""Whether an element of this name is installed."""

INSTALL = (
    "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav"
)
_INSPECT_TIMEOUT_S = 30.0
"""The first question makes GStreamer read all its plugins, which takes a board a while."""
_TRIAL_TIMEOUT_S = 15.0


@lru_cache(maxsize=256)
def has_element(name: str) -> bool:
    """Whether `gst-inspect-1.0` knows the element; False without GStreamer."""
    program = shutil.which("gst-inspect-1.0")
    return program is not None and _succeeds([program, "--exists", name], _INSPECT_TIMEOUT_S)


def runs(words: Sequence[str]) -> bool:
    """Whether a pipeline ends by itself without an error.

    An element that is installed need not work: NVIDIA's encoder is on every Jetson, the circuit
    for it is not.
    """
    program = shutil.which("gst-launch-1.0")
    return program is not None and _succeeds([program, "-q", *words], _TRIAL_TIMEOUT_S)


def _succeeds(command: Sequence[str], timeout_s: float) -> bool:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
