"""Reading, processing and writing at the same time, in constant memory.

The reader and the writer run in their own threads, which FFmpeg, OpenCV and NumPy let run beside
the model by releasing Python's lock; the model stays in the calling thread. Bounded queues between
them hold at most a few frames, whatever the length of the source.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from evit_cli.media.frame import Frame, Source

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

QUEUE_LENGTH = 3
_POLL_S = 0.1
_END = object()


class Writer(Protocol[R_contra]):
    """Where frames and their results go."""

    def write(self, frame: Frame, result: R_contra) -> None:
        """Write one frame."""

    def close(self) -> None:
        """Finish all files."""

    def abort(self) -> None:
        """Remove unfinished files."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does: with a playable file."""


@dataclass(frozen=True)
class PipelineOutcome:
    """How a run ended: frames processed, and whether it was interrupted and by what."""

    frames: int
    interrupted: type[KeyboardInterrupt] | None = None


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into an exception while the context is open; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Stage(threading.Thread):
    """A thread that keeps the exception which ended it."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


class Pipeline(Generic[R]):
    """One run of a source through a function into a writer.

    Args:
        source: where frames come from; it is read to its end or to `max_frames`.
        process: called in this thread for every frame.
        writer: gets every frame with its result, in order.
        every: process one of this many frames.
        max_frames: stop after this many were processed.
    """

    def __init__(
        self,
        source: Source,
        process: Callable[[Frame], R],
        writer: Writer[R],
        *,
        every: int = 1,
        max_frames: int | None = None,
    ) -> None:
        self._source = source
        self._process = process
        self._writer = writer
        self._every = every
        self._max_frames = max_frames
        self._stop = threading.Event()
        self._read: queue.Queue[Any] = queue.Queue(QUEUE_LENGTH)
        self._done: queue.Queue[Any] = queue.Queue(QUEUE_LENGTH)

    def _put(self, into: queue.Queue[Any], item: Any) -> bool:
        """Put, unless the run is being stopped."""
        while not self._stop.is_set():
            try:
                into.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def _reading(self) -> None:
        taken = 0
        try:
            for frame in self._source.frames():
                if frame.index % self._every:
                    continue
                if not self._put(self._read, frame):
                    return
                taken += 1
                if taken == self._max_frames:
                    return
        finally:
            self._put(self._read, _END)

    def _writing(self) -> None:
        while (item := self._done.get()) is not _END:
            frame, result = item
            self._writer.write(frame, result)

    def _processed(self, reader: _Stage, writing: _Stage) -> Iterator[tuple[Frame, R]]:
        while writing.is_alive():
            try:
                frame = self._read.get(timeout=_POLL_S)
            except queue.Empty:
                if reader.is_alive():
                    continue
                return
            if frame is _END:
                return
            yield frame, self._process(frame)

    def run(self, on_frame: Callable[[Frame, R], None]) -> PipelineOutcome:
        """Run to the end. Ctrl-C and SIGTERM finish the files and are told in the outcome.

        Args:
            on_frame: called in this thread after each frame.

        Raises:
            EvitError: reading, processing or writing failed; unfinished files are removed.
        """
        reader, writing = _Stage("evit-read", self._reading), _Stage("evit-write", self._writing)
        frames = 0
        interrupted: type[KeyboardInterrupt] | None = None
        failed: BaseException | None = None
        with _termination_as_interrupt():
            try:
                reader.start()
                writing.start()
                for frame, result in self._processed(reader, writing):
                    while writing.is_alive():
                        try:
                            self._done.put((frame, result), timeout=_POLL_S)
                            break
                        except queue.Full:
                            continue
                    frames += 1
                    on_frame(frame, result)
            except KeyboardInterrupt as error:
                interrupted = type(error)
            except BaseException as error:
                failed = error
        try:
            self._finish(reader, writing, failed)
        except KeyboardInterrupt:  # asked twice: leave at once, and nothing half-written
            self._writer.abort()
            raise
        return PipelineOutcome(frames, interrupted)

    def _finish(self, reader: _Stage, writing: _Stage, failed: BaseException | None) -> None:
        """Stop the threads, then finish the files, or remove them if anything failed."""
        self._stop.set()
        self._source.close()
        while writing.is_alive():
            try:
                self._done.put(_END, timeout=_POLL_S)
                break
            except queue.Full:
                continue
        writing.join()
        reader.join(timeout=5)  # a network read may hang; the thread is a daemon
        failed = failed or writing.error or reader.error
        if failed is None:
            try:
                self._writer.close()
            except BaseException:
                self._writer.abort()
                raise
            return
        self._writer.abort()
        raise failed
