"""Keeps OpenCV from talking on standard error about what evit reports in its own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_SILENT = 0


def _set_level(level: int) -> int:
    """Set OpenCV's log level and return the former one; OpenCV 5 moved the functions."""
    if hasattr(cv2, "setLogLevel"):
        former = int(cv2.getLogLevel())  # type: ignore[attr-defined]
        cv2.setLogLevel(level)
        return former
    return int(cv2.utils.logging.setLogLevel(level))


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """No log lines of OpenCV while the context is open."""
    level = _set_level(_SILENT)
    try:
        yield
    finally:
        _set_level(level)
