"""Live sources that go away and come back, and the watchdog that notices."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from evit_cli.errors import EXIT_FAILED, EvitError, UsageError
from evit_cli.media import reconnect
from evit_cli.media.frame import (
    Frame,
    Notes,
    Problems,
    Source,
    SourceKind,
    live_counts,
    reconnects,
    source_notes,
)
from evit_cli.media.live import NewestFrame, Stalled
from evit_cli.media.open import open_source
from evit_cli.media.outputs import MovieOutput, OutputNames
from evit_cli.media.pipeline import Pipeline, SourceLost
from evit_cli.media.reconnect import ReconnectingSource
from evit_cli.media.rules import RECONNECT, STALL, VIDEO, Board, SourceRules, rules_here
from tests.helpers.media_files import number_of, numbers_in
from tests.helpers.rtsp_server import Camera, End, RtspServer

PICTURE = np.zeros((4, 6, 3), np.uint8)


class Flaky:
    """One connection: `count` frames, then an end, an error or silence until it is closed."""

    kind = SourceKind.LIVE
    name = "flaky"
    frame_count: int | None = None
    rate: Fraction | None = Fraction(30)
    path: Path | None = None
    dropped = 0

    def __init__(
        self, count: int, *, fails: str = "", silent: bool = False, corrupt: bool = False
    ) -> None:
        self.skipped = Problems()
        self._count, self._fails, self._silent = count, fails, silent
        self.closed = threading.Event()
        if corrupt:
            self.skipped.add("one frame is corrupt")

    def frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            yield Frame(PICTURE, index, self.name, time_s=Fraction(index, 30))
            self.closed.wait(0.02)  # the reader takes each: none is overtaken
        if self._silent:
            self.closed.wait(30)
        if self._fails:
            raise EvitError(self._fails)

    def close(self) -> None:
        self.closed.set()


class Places:
    """Gives one connection after another; an EvitError is a failed attempt."""

    def __init__(self, *given: Flaky | EvitError) -> None:
        self.left, self.attempts = list(given), 0

    def __call__(self) -> Source:
        self.attempts += 1
        if not self.left:
            raise EvitError("it is not there")
        found = self.left.pop(0)
        if isinstance(found, EvitError):
            raise found
        return found


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(reconnect, "LONGEST_WAIT_S", 0.05)


def rules(
    said: list[str] | None = None, *, reconnect_s: float = 60, stall_s: float = 20
) -> SourceRules:
    heard: Callable[[str], None] = [].append if said is None else said.append
    return SourceRules(reconnect_s=reconnect_s, stall_s=stall_s, notice=heard)


def test_a_source_that_ends_is_opened_again() -> None:
    said: list[str] = []
    again = Places(EvitError("not yet"), Flaky(2), EvitError("not yet"), Flaky(3))
    source = ReconnectingSource(Flaky(4), again, rules(said, reconnect_s=3), ended=lambda s: False)
    frames = []
    with pytest.raises(SourceLost):
        for frame in source.frames():
            frames.append(frame)
    assert [frame.index for frame in frames] == list(range(9))  # all, and none invented
    times = [frame.time_s for frame in frames]
    assert times[0] == 0 and times == sorted(set(times))  # type: ignore[type-var]
    assert source.reconnects == reconnects(source) == 2
    assert live_counts(source) == {"dropped": 0, "reconnects": 2}
    assert [sentence.partition(" after")[0] for sentence in said] == [
        "flaky was lost", "flaky is back", "flaky was lost", "flaky is back", "flaky was lost",
        "flaky did not come back for 3 s: it is not there",
    ]  # fmt: skip
    assert said == source_notes(source)
    assert source.skipped.count == 0


def test_an_outage_is_a_pause_in_the_times() -> None:
    def again() -> Source:
        time.sleep(0.4)
        return Flaky(1)

    source = ReconnectingSource(Flaky(1), again, rules(reconnect_s=60), ended=lambda s: True)
    source._ended = lambda s: s is not source._first  # the second end is the end
    first, second = source.frames()
    assert float(second.time_s or 0) - float(first.time_s or 0) >= 0.4


@pytest.mark.parametrize("fails", ["unplugged", ""])
def test_why_it_was_lost(fails: str) -> None:
    said: list[str] = []
    source = ReconnectingSource(Flaky(1, fails=fails), Places(), rules(said, reconnect_s=0.05))
    with pytest.raises(SourceLost):
        list(source.frames())
    assert said[0] == f"flaky was lost after 1 frames: {fails or 'it ended'}"


def test_silence_is_a_loss() -> None:
    said: list[str] = []
    silent = Flaky(2, silent=True)
    source = ReconnectingSource(
        silent, Places(Flaky(1, fails="x")), rules(said, reconnect_s=0.5, stall_s=0.2)
    )
    count = 0
    with pytest.raises(SourceLost):
        for _ in source.frames():
            count += 1
    assert count == 3
    assert said[0] == "flaky was lost after 2 frames: flaky gave no frame for 0.2 s"
    assert silent.closed.is_set()


def test_a_reader_that_hangs_is_left_behind() -> None:
    class Deaf(Flaky):
        def close(self) -> None:
            """A driver that does not let go."""

    deaf = Deaf(1, silent=True)
    newest = NewestFrame(deaf, stall_s=0.1)
    frames = newest.frames()
    next(frames)
    with pytest.raises(Stalled, match=r"gave no frame for 0\.1 s"):
        next(frames)
    deaf.closed.set()


def test_a_slow_consumer_is_no_stall() -> None:
    newest = NewestFrame(Flaky(30), stall_s=5)
    newest.heard_s = -math.inf
    frames = newest.frames()
    next(frames)
    time.sleep(0.3)
    assert next(frames).index == 1
    newest.close()


def test_the_first_connection_fails_as_it_always_did() -> None:
    again = Places(Flaky(1))
    source = ReconnectingSource(Flaky(0, fails="gives no picture"), again, rules())
    with pytest.raises(EvitError, match="gives no picture"):
        list(source.frames())
    assert list(ReconnectingSource(Flaky(0), again, rules()).frames()) == []
    assert again.attempts == 0


def test_without_reconnecting() -> None:
    again = Places(Flaky(1))
    source = ReconnectingSource(Flaky(2, fails="unplugged"), again, rules(reconnect_s=0))
    assert len(list(source.frames())) == 2
    assert source.skipped.first == ["unplugged"]
    assert again.attempts == 0


def test_problems_of_all_connections_are_kept() -> None:
    source = ReconnectingSource(
        Flaky(1, corrupt=True), Places(Flaky(1, corrupt=True)), rules(reconnect_s=0.1)
    )
    with pytest.raises(SourceLost):
        list(source.frames())
    assert source.skipped.first == ["one frame is corrupt"] * 2


def test_closing_while_it_is_away() -> None:
    lost = threading.Event()
    told = SourceRules(reconnect_s=math.inf, notice=lambda sentence: lost.set())
    source = ReconnectingSource(Flaky(1), Places(), told)
    rest: list[Frame] = []
    reader = threading.Thread(target=lambda: rest.extend(source.frames()), daemon=True)
    reader.start()
    assert lost.wait(20)
    source.close()
    reader.join(20)
    assert not reader.is_alive() and len(rest) == 1


def test_what_was_opened_too_late_is_closed() -> None:
    late = Flaky(5)
    source = ReconnectingSource(Flaky(1), Places(), rules(reconnect_s=math.inf))

    def again() -> Source:
        source._stop.set()
        return late

    source._again = again
    assert len(list(source.frames())) == 1
    assert late.closed.is_set()


def test_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_WAIT_S", 0.5)
    monkeypatch.setattr(reconnect, "LONGEST_WAIT_S", 10.0)
    source = ReconnectingSource(Flaky(1), Places(), rules(reconnect_s=61))
    now, waits = [1000.0], []

    def wait(seconds: float | None = None) -> bool:
        waits.append(seconds)
        now[0] += seconds or 0
        return False

    monkeypatch.setattr(source._stop, "wait", wait)
    monkeypatch.setattr(reconnect.time, "monotonic", lambda: now[0])
    source._last_s = 1000.0
    with pytest.raises(SourceLost):
        source._seek(0.5)
    assert waits == [0.5, 1, 2, 4, 8, 10, 10, 10, 10, 5.5]  # the last is what is left


def test_notes_stay_short() -> None:
    notes = Notes()
    for number in range(100):
        notes.add(f"lost {number}")
    assert len(notes) == Notes.KEPT


def test_rules_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (RECONNECT, STALL, VIDEO):
        monkeypatch.delenv(name, raising=False)
    usual = rules_here(board=Board.JETSON)
    assert (usual.board, usual.reconnect_s, usual.stall_s) == (Board.JETSON, 60, 10)
    monkeypatch.setenv(RECONNECT, "inf")
    monkeypatch.setenv(STALL, "0")
    monkeypatch.setenv(VIDEO, "software")
    mine = rules_here(board=Board.JETSON)
    assert (mine.board, mine.reconnect_s, mine.stall_s) == (Board.SOFTWARE, math.inf, math.inf)


@pytest.mark.parametrize(
    ("name", "value"), [(RECONNECT, "soon"), (RECONNECT, "-1"), (STALL, "nan"), (VIDEO, "tpu")]
)
def test_nonsense_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name} is '{value}'"):
        rules_here()


class _Movie:
    """The writer of a run: a movie, as `evit segment` writes it."""

    def __init__(self, path: Path, source: Source) -> None:
        names = OutputNames(source, ["overlay"], path)
        self._movie = MovieOutput(names, "overlay", source=source)

    def write(self, frame: Frame, result: object) -> None:
        self._movie.write(frame, frame.image_rgb_u8)

    def close(self) -> None:
        self._movie.close()

    def abort(self) -> None:
        self._movie.abort()


@pytest.mark.slow
def test_an_rtsp_server_is_killed_and_restarted(tmp_path: Path) -> None:
    said: list[str] = []
    numbers: list[int] = []
    first = RtspServer(Camera(frames=200, rate=30))
    camera = first.__enter__()
    port = int(camera.url.rpartition(":")[2].partition("/")[0])
    second = RtspServer(Camera(frames=600, rate=30, end=End.CLOSE, port=port))
    with open_source(camera.url, rules(said, reconnect_s=6)) as source:

        def after(frame: Frame, number: int) -> None:
            numbers.append(number)
            if len(numbers) == 10:
                first.__exit__()
                second.__enter__()
            if len(numbers) == 25:
                second.__exit__()

        pipeline = Pipeline(
            source, lambda frame: number_of(frame.image_rgb_u8), _Movie(tmp_path / "a.mp4", source)
        )
        outcome = pipeline.run(after)
    assert outcome.interrupted is SourceLost and SourceLost.exit_code == EXIT_FAILED
    assert source.reconnects >= 1  # type: ignore[attr-defined]
    assert said[0].startswith("127.0.0.1 was lost after ")
    assert said[1].startswith("127.0.0.1 is back after ")
    assert said[-1].startswith("127.0.0.1 did not come back for 6 s: rtsp://127.0.0.1:")
    assert numbers_in(tmp_path / "a.mp4") == numbers  # playable, and no frame invented
    assert outcome.frames == len(numbers) >= 25


@pytest.mark.slow
def test_a_silent_rtsp_camera_is_a_loss() -> None:
    said: list[str] = []
    camera = Camera(frames=20, rate=100, end=End.SILENT)
    with RtspServer(camera), open_source(camera.url, rules(said, reconnect_s=0.2, stall_s=1)) as s:
        with pytest.raises(SourceLost):
            list(s.frames())
    assert "gave no frame for 1 s" in said[0]
