"""Measuring on the stand-in's phones as `evit bench --adb` does."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from evit_cli.bench.remote.adb import AdbRequest, measure_over_adb
from evit_cli.bench.row import Row
from evit_cli.errors import EvitError
from evit_cli.types import NoProgress
from tests.helpers.adb_standin import AdbStandin

ARTIFACT = Path(str(files("evit_cli") / "assets/models/seg-b0-street.tflite"))


def measure(
    adb: AdbStandin,
    *accelerators: str,
    serial: str | None = None,
    artifact: Path = ARTIFACT,
    notice: Callable[[str], None] = lambda words: None,
    **request: Any,
) -> list[Row]:
    request.setdefault("benchmark_model", adb.tool())
    chosen = AdbRequest(accelerators=accelerators or ("cpu",), **request)
    return measure_over_adb(serial, artifact, chosen, notice=notice, progress=NoProgress())


def refused(adb: AdbStandin, *accelerators: str, **request: Any) -> EvitError:
    """The error, of which message and hint must be what a terminal shows."""
    with pytest.raises(EvitError) as caught:
        measure(adb, *accelerators, **request)
    error = caught.value
    assert error.hint and not error.message.endswith(".") and "\n" not in error.message
    return error
