from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, Problems, SourceKind
from evit_cli.media.images import ImageSource
from evit_cli.media.pipeline import QUEUE_LENGTH, Pipeline, PipelineOutcome
from evit_cli.signals import Terminated


class Numbers:
    """A source of frames that hold their number."""

    name = "numbers"
    rate: Fraction | None = Fraction(25)
    path: Path | None = None
    dropped = 0

    def __init__(self, count: int, *, kind: SourceKind = SourceKind.VIDEO) -> None:
        self.frame_count: int | None = count
        self.kind = kind
        self.skipped = Problems()
        self.closed = False
        self.given = 0
        self.work: Callable[[int], None] = lambda number: None
        self._references: list[weakref.ref[Frame]] = []

    @property
    def alive(self) -> int:
        """How many of the frames given so far are still in memory."""
        return sum(reference() is not None for reference in self._references)

    def frames(self) -> Iterator[Frame]:
        for number in range(self.frame_count or 0):
            if self.closed:
                return
            self.work(number)
            frame = Frame(np.full((2, 2, 3), number % 256, np.uint8), number, self.name)
            self._references.append(weakref.ref(frame))
            self.given += 1
            yield frame
            del frame

    def close(self) -> None:
        self.closed = True


class Writer:
    """Notes what happens to it."""

    def __init__(self, work: Callable[[int], None] = lambda number: None) -> None:
        self.numbers: list[int] = []
        self.results: list[object] = []
        self.ends: list[str] = []
        self.work = work

    def write(self, frame: Frame, result: object) -> None:
        self.work(frame.index)
        self.numbers.append(frame.index)
        self.results.append(result)

    def close(self) -> None:
        self.ends.append("closed")

    def abort(self) -> None:
        self.ends.append("aborted")


def nothing(frame: Frame, result: object) -> None:
    pass


def run(source: Numbers, writer: Writer, **options: int) -> PipelineOutcome:
    return Pipeline(source, lambda frame: frame.index * 2, writer, **options).run(nothing)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("evit-")]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == handlers


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 30),
    every=st.integers(1, 7),
    max_frames=st.none() | st.integers(1, 12),
    kind=st.sampled_from(SourceKind),
)
def test_order_every_and_max_frames(
    count: int, every: int, max_frames: int | None, kind: SourceKind
) -> None:
    source, writer = Numbers(count, kind=kind), Writer()
    options = {} if max_frames is None else {"max_frames": max_frames}
    outcome = run(source, writer, every=every, **options)
    wanted = list(range(0, count, every))[:max_frames]
    assert writer.numbers == wanted
    assert writer.results == [number * 2 for number in wanted]
    assert outcome == PipelineOutcome(len(wanted))
    assert writer.ends == ["closed"] and source.closed


def test_on_frame_is_called_in_this_thread() -> None:
    seen = []
    Pipeline(Numbers(5), lambda frame: frame.index, Writer()).run(
        lambda frame, result: seen.append((frame.index, result, threading.current_thread()))
    )
    assert seen == [(n, n, threading.main_thread()) for n in range(5)]


@pytest.mark.parametrize("slow", ["reader", "model", "writer"])
def test_frames_in_memory_are_bounded(slow: str) -> None:
    source = Numbers(60)
    most = 0

    def wait(name: str) -> None:
        nonlocal most
        most = max(most, source.alive)
        if name == slow:
            time.sleep(0.002)

    source.work = lambda number: wait("reader")
    writer = Writer(lambda number: wait("writer"))
    Pipeline(source, lambda frame: wait("model"), writer).run(nothing)
    assert writer.numbers == list(range(60))
    assert most <= 2 * QUEUE_LENGTH + 4  # both queues, and one in each of three hands, one coming
    gc.collect()
    assert source.alive == 0


def test_a_live_source_is_not_read_ahead() -> None:
    source = Numbers(20, kind=SourceKind.LIVE)
    ahead = []
    Pipeline(source, lambda frame: ahead.append(source.given - frame.index), Writer()).run(nothing)
    assert set(ahead) == {1}


def test_reading_the_model_and_writing_overlap() -> None:
    source, step = Numbers(25), 0.02
    source.work = lambda number: time.sleep(step)
    writer = Writer(lambda number: time.sleep(step))
    started = time.perf_counter()
    Pipeline(source, lambda frame: time.sleep(step), writer).run(nothing)
    assert time.perf_counter() - started < 2 * 25 * step


def fail(at: int, error: BaseException) -> Callable[[int], None]:
    def work(number: int) -> None:
        if number == at:
            raise error

    return work


@pytest.mark.parametrize("at", [0, 7, 29])
@pytest.mark.parametrize("where", ["reader", "model", "on_frame", "writer", "close"])
@pytest.mark.parametrize(
    "error", [EvitError("no"), ValueError("no"), BrokenPipeError(), MemoryError()]
)
def test_errors_end_the_run_and_remove_the_files(where: str, at: int, error: Exception) -> None:
    source, writer = Numbers(30), Writer()
    work = fail(at, error)
    if where == "reader":
        source.work = work
    if where == "writer":
        writer.work = work
    if where == "close":
        writer.close = lambda: fail(0, error)(0)  # type: ignore[method-assign]
    with pytest.raises(type(error)) as caught:
        Pipeline(
            source,
            lambda frame: work(frame.index) if where == "model" else None,
            writer,
        ).run(lambda frame, result: work(frame.index) if where == "on_frame" else None)
    assert caught.value is error
    assert writer.ends == ["aborted"]
    assert source.closed


@pytest.mark.parametrize("where", ["model", "on_frame"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_an_interrupt_finishes_the_files(where: str, kind: type[KeyboardInterrupt]) -> None:
    source, writer = Numbers(1000), Writer()
    work = fail(10, kind())
    outcome = Pipeline(
        source, lambda frame: work(frame.index) if where == "model" else None, writer
    ).run(lambda frame, result: work(frame.index) if where == "on_frame" else None)
    assert outcome.interrupted is kind
    assert writer.ends == ["closed"]
    written = 10 if where == "model" else 11
    assert writer.numbers == list(range(written))
    assert outcome.frames == written
    assert source.given < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(number: signal.Signals) -> None:
    source, writer = Numbers(10**6), Writer()

    def on_frame(frame: Frame, result: object) -> None:
        if frame.index == 10:
            os.kill(os.getpid(), number)

    outcome = Pipeline(source, lambda frame: None, writer).run(on_frame)
    assert outcome.interrupted is (KeyboardInterrupt if number is signal.SIGINT else Terminated)
    assert writer.ends == ["closed"]
    assert outcome.frames == len(writer.numbers) < 10**5


def test_nohup_is_heeded() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        source, writer = Numbers(20), Writer()
        source.work = lambda number: os.kill(os.getpid(), signal.SIGHUP)
        assert run(source, writer) == PipelineOutcome(20)
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_asked_twice_it_leaves_at_once(second: signal.Signals) -> None:
    source = Numbers(1000)
    busy = threading.Event()

    def write(number: int) -> None:
        if number == 3:
            busy.set()
            time.sleep(0.3)

    def model(frame: Frame) -> None:
        if frame.index == 5:
            busy.wait(5)
            threading.Timer(0.05, os.kill, (os.getpid(), second)).start()
            raise KeyboardInterrupt

    writer = Writer(write)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(source, model, writer).run(nothing)
    assert writer.ends == ["aborted"]
    assert writer.numbers == [0, 1, 2, 3]  # the frame in hand is finished, no more are begun


def test_an_interrupted_source_may_fail_while_it_is_closed() -> None:
    source, writer = Numbers(1000), Writer()

    def read(number: int) -> None:
        if source.closed:
            raise EvitError("closed under its reader")

    source.work = read
    outcome = Pipeline(source, lambda frame: fail(3, KeyboardInterrupt())(frame.index), writer).run(
        nothing
    )
    assert (outcome.frames, writer.ends) == (3, ["closed"])


def test_runs_in_a_thread_without_signals() -> None:
    writer = Writer()
    thread = threading.Thread(target=lambda: run(Numbers(10), writer))
    thread.start()
    thread.join()
    assert writer.numbers == list(range(10))


class SlowToClose:
    """A writer that is asked to stop while it finishes its file, once or twice."""

    def __init__(self, signals: list[signal.Signals]) -> None:
        self.signals = signals
        self.closed = self.aborted = False

    def write(self, frame: Frame, result: object) -> None:
        """Nothing."""

    def close(self) -> None:
        for number in self.signals:
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # handlers run between two instructions of the main thread
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class OneFrame(ImageSource):
    def __init__(self) -> None:
        super().__init__([], name="one", root=Path())

    def frames(self) -> Iterator[Frame]:
        yield Frame(np.zeros((2, 2, 3), np.uint8), 0, "one")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_request_while_finishing_lets_the_file_be_finished(number: signal.Signals) -> None:
    writer = SlowToClose([number])
    outcome = Pipeline(OneFrame(), lambda frame: None, writer).run(lambda frame, result: None)
    assert writer.closed and not writer.aborted
    expected = KeyboardInterrupt if number == signal.SIGINT else Terminated
    assert (outcome.frames, outcome.interrupted) == (1, expected)


def test_a_second_request_while_finishing_gives_up() -> None:
    writer = SlowToClose([signal.SIGINT, signal.SIGTERM])
    with pytest.raises(Terminated):
        Pipeline(OneFrame(), lambda frame: None, writer).run(lambda frame, result: None)
    assert writer.aborted and not writer.closed
