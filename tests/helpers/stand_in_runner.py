"""`evit` with a stand-in for hardware that is not here, as a process of its own.

`python -m tests.helpers.stand_in_runner camera=FILE segment 0` has a camera that is plugged in as
long as FILE exists, and writes the time of day that it sees into FILE.seen.
`... tensorrt=10.13.2 segment v.mp4 --model x.engine` has that TensorRT.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.media_files import numbered

RATE = 15


class PluggedCamera:
    """Stands in for `cv2.VideoCapture` while its file exists."""

    plug: Path

    def __init__(self, index: int) -> None:
        self._number = 0

    def isOpened(self) -> bool:
        return self.plug.exists()

    def get(self, what: int) -> float:
        return float(RATE)

    def read(self) -> tuple[bool, npt.NDArray[Any] | None]:
        # Not time.sleep, which libfaketime 0.9.10 breaks.
        threading.Event().wait(1 / RATE)
        self.plug.with_name(f"{self.plug.name}.seen").write_text(str(time.time()))
        if not self.plug.exists():
            return False, None
        self._number += 1
        return True, np.ascontiguousarray(numbered(self._number % 256, (96, 128)))

    def release(self) -> None:
        pass


def main() -> None:
    what, _, value = sys.argv.pop(1).partition("=")
    if what == "camera":
        import cv2

        PluggedCamera.plug = Path(value)
        cv2.VideoCapture = PluggedCamera
    else:
        from tests.helpers.tensorrt_standin import install

        install(pytest.MonkeyPatch(), value)
    from evit_cli.app import main as evit

    sys.argv[0] = "evit"
    evit()


if __name__ == "__main__":
    main()
