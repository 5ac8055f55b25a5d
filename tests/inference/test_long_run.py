"""Days of video in a minute: the whole loop of `evit segment` over cheap frames, memory watched."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from evit_cli.errors import EvitError
from evit_cli.inference.segment_job import SegmentReport, SegmentRequest, segment_source
from evit_cli.inference.segmenter import Segmenter
from evit_cli.media import reconnect
from evit_cli.media.frame import Frame, Problems, Source, SourceKind
from evit_cli.media.pipeline import SourceLost
from evit_cli.media.reconnect import ReconnectingSource
from evit_cli.media.rules import SourceRules
from tests.helpers.media_files import read_video
from tests.helpers.sessions import GreySession

MEGABYTE = 1e6
PICTURES = [np.full((32, 32, 3), value, np.uint8) for value in range(0, 256, 16)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc"),
]


class SameAnswer(GreySession):
    """Costs nothing, and remembers nothing."""

    answer = np.zeros((1, 4, 4, 4), np.float32)

    def __init__(self) -> None:
        super().__init__()
        self.seen = deque(maxlen=1)  # type: ignore[assignment]

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {"logits": self.answer}


class Synthetic:
    """`count` frames with memory of their own.

    A live one gives each when the one before is done with: otherwise most would be overtaken.
    """

    name = "synthetic"
    frame_count: int | None = None
    rate: Fraction | None = Fraction(30)
    path: Path | None = None
    dropped = 0

    def __init__(
        self, count: int, kind: SourceKind, wanted: threading.Semaphore | None = None
    ) -> None:
        self.kind, self._count, self._wanted = kind, count, wanted
        self.skipped = Problems()
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            while self._wanted is not None and not self._wanted.acquire(timeout=1):
                if self._closed.is_set():
                    return
            picture = PICTURES[index % len(PICTURES)].copy()
            yield Frame(picture, index, self.name, time_s=Fraction(index, 30))
        if self.kind is SourceKind.LIVE:
            raise EvitError("the cable was pulled")

    def close(self) -> None:
        self._closed.set()


def resident_mb() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def run_and_watch(source: Source, request: SegmentRequest, total: int, **how: Any) -> SegmentReport:
    """Run the whole loop; from the first tenth to the last frame memory and threads stay."""
    seen: dict[int, tuple[float, int]] = {}

    def after(row: Mapping[str, Any]) -> None:
        if row["frame"] in (total // 10, total - 1):
            seen[row["frame"]] = resident_mb(), threading.active_count()
        if "wanted" in how:
            how["wanted"].release()

    report = segment_source(source, Segmenter(SameAnswer()), request, on_row=after)
    assert report.frames == total
    (early_mb, early_threads), (late_mb, late_threads) = seen.values()
    assert late_mb - early_mb < 4, (early_mb, late_mb)
    assert late_threads <= early_threads
    return report


def numbers_in(report: SegmentReport) -> list[int]:
    with report.written[0].open() as lines:
        return [json.loads(line)["frame"] for line in lines]


def test_100_000_frames(tmp_path: Path) -> None:
    total = 100_000
    source = Synthetic(total, SourceKind.VIDEO)
    report = run_and_watch(source, SegmentRequest(save=("json",), out=tmp_path / "out"), total)
    assert numbers_in(report) == list(range(total))


def test_a_camera_that_is_lost_49_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, connections = 2_000, 50
    monkeypatch.setattr(reconnect, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(reconnect, "LONGEST_WAIT_S", 0.01)
    wanted = threading.Semaphore(1)
    left = [Synthetic(total // connections, SourceKind.LIVE, wanted) for _ in range(connections)]
    said: list[str] = []

    def again() -> Source:
        if not left:
            raise EvitError("it is not there")
        return left.pop()

    rules = SourceRules(reconnect_s=2, stall_s=30, notice=said.append)
    source = ReconnectingSource(left.pop(), again, rules)
    request = SegmentRequest(save=("json",), out=tmp_path / "out")
    report = run_and_watch(source, request, total, wanted=wanted)
    assert report.interrupted is SourceLost  # the last loss was for good
    assert report.reconnects == connections - 1
    assert len(report.told) <= 20 < len(said)
    assert numbers_in(report) == list(range(total))


def test_a_long_movie_costs_its_index_only(tmp_path: Path) -> None:
    """FFmpeg keeps the place of every frame of an MP4 until it is finished: 100 bytes each."""
    total = 10_000
    source = Synthetic(total, SourceKind.VIDEO)
    run_and_watch(source, SegmentRequest(out=tmp_path / "long.mp4", legend=False), total)
    assert len(read_video(tmp_path / "long.mp4")) == total
