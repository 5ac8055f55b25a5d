"""Reading, processing and writing at the same time, in constant memory.

The reader and the writer run in their own threads, which FFmpeg, OpenCV and NumPy let run beside
the model by releasing Python's lock; the model stays in the calling thread. Bounded queues between
them hold at most a few frames, whatever the length of the source. A live source is asked for a
frame only when the model is free, so that it works on the newest one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from evit_cli.errors import EXIT_FAILED
from evit_cli.media.frame import Frame, Source, SourceKind
from evit_cli.signals import handled

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

QUEUE_LENGTH = 3
_POLL_S = 0.1
_JOIN_S = 5.0
"""A network read may hang for longer; its thread is a daemon."""
_END = object()


class Writer(Protocol[R_contra]):
    """Where frames and their results go."""

    def write(self, frame: Frame, result: R_contra) -> None:
        """Write one frame."""

    def close(self) -> None:
        """Finish all files."""

    def abort(self) -> None:
        """Remove unfinished files."""


class ReaderGone(KeyboardInterrupt):
    """Whoever read our output has closed the pipe: nobody wants more, what is there is finished."""

    exit_code = EXIT_FAILED


class SourceLost(KeyboardInterrupt):
    """A live source went away for good: what is there is finished, and the run has failed.

    It is an interruption and no error, since an error would remove the unfinished files.
    """

    exit_code = EXIT_FAILED


@dataclass(frozen=True)
class PipelineOutcome:
    """How a run ended: frames written, and whether it was interrupted and by what."""

    frames: int
    interrupted: type[KeyboardInterrupt] | None = None


class _Requests:
    """Ctrl-C, SIGTERM and SIGHUP while a run is under way; handled in the main thread only.

    The first request interrupts the processing. If it comes while the files are being finished
    anyway, it is only noted. A second one always interrupts.
    """

    def __init__(self) -> None:
        self.first: type[KeyboardInterrupt] | None = None
        self.finishing = False

    def note(self, kind: type[KeyboardInterrupt]) -> None:
        """What a signal does."""
        repeated = self.first is not None
        self.first = self.first or kind
        if repeated or not self.finishing:
            raise kind


class _Stage(threading.Thread):
    """A thread that keeps the exception which ended it."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            self._ended.set()

    @property
    def working(self) -> bool:
        return not self._ended.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """`join`, which forgets the thread when Ctrl-C comes in between (Python issue 90882)."""
        if self._ended.wait(timeout):
            self.join()


class Pipeline(Generic[R]):
    """One run of a source through a function into a writer.

    Args:
        source: where frames come from; it is read to its end or to `max_frames`.
        process: called in this thread for every frame.
        writer: gets every frame with its result, in order.
        every: process one of this many frames.
        max_frames: stop after this many were processed.
        ahead: how many frames the reader may get before they are wanted; none of a live source.
    """

    def __init__(
        self,
        source: Source,
        process: Callable[[Frame], R],
        writer: Writer[R],
        *,
        every: int = 1,
        max_frames: int | None = None,
        ahead: int = QUEUE_LENGTH,
    ) -> None:
        self._source = source
        self._process = process
        self._writer = writer
        self._every = every
        self._max_frames = max_frames
        self._stop = threading.Event()
        self._abandoned = threading.Event()
        ahead = 0 if source.kind is SourceKind.LIVE else ahead
        self._written = 0
        self._room = threading.Semaphore(ahead)
        """How many frames the reader may still get."""
        self._read: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done: queue.Queue[Any] = queue.Queue(QUEUE_LENGTH)

    def _has_room(self) -> bool:
        """Wait until a frame is wanted; False when the run is being stopped."""
        while not self._stop.is_set():
            if self._room.acquire(timeout=_POLL_S):
                return True
        return False

    def _reading(self) -> None:
        taken = 0
        frames = self._source.frames()
        try:
            while taken != self._max_frames and self._has_room():
                frame = next((f for f in frames if f.index % self._every == 0), None)
                if frame is None:
                    return
                self._read.put(frame)
                del frame  # it may be the last to know it
                taken += 1
        finally:
            self._read.put(_END)

    def _writing(self) -> None:
        while (item := self._done.get()) is not _END and not self._abandoned.is_set():
            self._writer.write(*item)
            self._written += 1
            del item

    def _processed(self, writing: _Stage) -> Iterator[tuple[Frame, R]]:
        self._room.release()
        while writing.working:
            try:
                frame = self._read.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if frame is _END:
                return
            yield frame, self._process(frame)
            del frame
            self._room.release()

    def _put_done(self, item: Any, writing: _Stage) -> None:
        """Hand something to the writer, unless it has failed."""
        while writing.working:
            try:
                self._done.put(item, timeout=_POLL_S)
                return
            except queue.Full:
                continue

    def run(self, on_frame: Callable[[Frame, R], None]) -> PipelineOutcome:
        """Run to the end. Ctrl-C and SIGTERM finish the files and are told in the outcome.

        Args:
            on_frame: called in this thread after each frame.

        Raises:
            EvitError: reading, processing or writing failed; unfinished files are removed.
            KeyboardInterrupt: a second one came while the files were being finished; they are gone.
        """
        reader, writing = _Stage("evit-read", self._reading), _Stage("evit-write", self._writing)
        failed: BaseException | None = None
        requests = _Requests()
        with handled(requests.note):
            writing.start()
            try:
                try:
                    reader.start()
                    for frame, result in self._processed(writing):
                        self._put_done((frame, result), writing)
                        on_frame(frame, result)
                        del frame, result  # not to hold them while the next is processed
                    requests.finishing = True
                except KeyboardInterrupt as error:
                    requests.finishing = True
                    requests.first = requests.first or type(error)
                except BaseException as error:
                    requests.finishing = True
                    failed = error
                self._finish(reader, writing, failed, asked=requests.first is not None)
            except KeyboardInterrupt:  # asked twice: leave at once, and nothing half-written
                self._abandoned.set()
                self._put_done(_END, writing)
                writing.wait()
                self._writer.abort()
                raise
        lost = SourceLost if isinstance(reader.error, SourceLost) else None
        return PipelineOutcome(self._written, requests.first or lost)

    def _finish(
        self, reader: _Stage, writing: _Stage, failed: BaseException | None, *, asked: bool
    ) -> None:
        """Stop the threads, then finish the files, or remove them if anything failed."""
        self._stop.set()
        self._source.close()
        if failed is not None:
            self._abandoned.set()
        self._put_done(_END, writing)
        writing.wait()
        if reader.ident is not None:
            reader.wait(_JOIN_S)
        ends_it = None if asked or isinstance(reader.error, SourceLost) else reader.error
        failed = failed or writing.error or ends_it
        try:
            if failed is not None:
                raise failed
            self._writer.close()
        except BaseException:
            self._writer.abort()
            raise
