"""A board over ssh: connected, looked at, given a folder, and left clean."""

from __future__ import annotations

import hashlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from evit_cli.bench.remote.facts import BoardFacts, BoardState
from evit_cli.bench.remote.scripts import KEEP, RUN, TAKE
from evit_cli.bench.remote.ssh import SSH_FAILED, Ssh, SshTarget, connection_error, last_line
from evit_cli.errors import EvitError
from evit_cli.types import Progress

_ANSWER_WITHIN_S = 90.0  # a small board takes long to start Python and trtexec
_BEAT_S = 10.0
_CLEAN_WITHIN_S = 20.0
_CHUNK = 1 << 18
_GONE = 97
_FULL = "No space left"
_KIB = 1024


@dataclass(frozen=True)
class Finished:
    """A command that ended on the board: exit status and what it said."""

    code: int
    out: str
    error: str


class Board:
    """A folder of evit's own on a board, for as long as the connection holds; use it as a context.

    Args:
        target: where it is.
        need_bytes: free space the folder must have.
        evit: the command there, or the folder of its virtual environment, to take before others.
        folder: where the private folder is made; "" for the first of $TMPDIR or /tmp, /var/tmp and
            the home folder that has the space.
        sysroot: where /sys, /proc and /etc start there; a test gives a fake one.

    Attributes:
        facts: what is there.
        cleaned: whether the board confirmed that the folder is gone; known once it is closed.

    Raises:
        MissingDependency: there is no OpenSSH client here.
        EvitError: no connection, or no space there.
    """

    def __init__(
        self,
        target: SshTarget,
        *,
        need_bytes: int,
        evit: str = "",
        folder: str = "",
        sysroot: str = "",
    ) -> None:
        self.target, self.cleaned = target, False
        self._ssh = Ssh(target)
        self._lines: queue.Queue[str] = queue.Queue()
        self._ended = threading.Event()
        self._seen = BoardState()
        self._closing = threading.Event()
        try:
            need = str(-(-need_bytes // _KIB))
            self._keeper = self._ssh.start(KEEP, sysroot, need, evit, folder, first=True, feed=True)
            self._errors = _Collector(_pipe(self._keeper.stderr))
            threading.Thread(target=self._read, daemon=True).start()
            self.facts = self._look(need_bytes)
        except BaseException:
            self.close()
            raise
        self._seen = self.facts.state
        threading.Thread(target=self._beat, daemon=True).start()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _look(self, need_bytes: int) -> BoardFacts:
        """Read what KEEP prints first."""
        lines: list[str] = []
        began = False  # what a login script prints before is not ours
        until = time.monotonic() + _ANSWER_WITHIN_S
        while not lines or lines[-1] != "ready\t1":
            line = self._next_line(until)
            if line is None and self._ended.is_set():
                raise self._no_start(lines, need_bytes)
            if line is None:
                raise EvitError(
                    f"{self.target} did not answer within {_ANSWER_WITHIN_S:.0f} s",
                    hint=f"try by hand: ssh {self.target.login} uname -a",
                )
            began = began or line == "board\t1"
            if began:
                lines.append(line)
        return BoardFacts.parse(lines)

    def _next_line(self, until: float) -> str | None:
        """What KEEP says next; None when it ended, or when the time `until` has come."""
        while True:
            ended = self._ended.is_set()
            try:
                return self._lines.get(timeout=0.05)
            except queue.Empty:
                if ended or time.monotonic() > until:
                    return None

    def _no_start(self, lines: list[str], need_bytes: int) -> EvitError:
        code = self._keeper.wait()
        said = self._errors.text()
        full = next((line for line in lines if line.startswith("full\t")), "")
        if full:
            _, free, where = full.split("\t")
            if not where:
                return EvitError(
                    f"there is no folder to write to on {self.target}",
                    hint="make /tmp writable there, or set TMPDIR",
                )
            if int(free) * _KIB >= need_bytes:
                return EvitError(
                    f"no folder can be made in {where} on {self.target}",
                    hint="check the board's storage",
                )
            return EvitError(
                f"{self.target} has {_mib(int(free) * _KIB)} free in {where}, and "
                f"{_mib(need_bytes)} are needed",
                hint="free some space there",
            )
        if code == SSH_FAILED:
            return connection_error(self.target, said, began=bool(lines))
        reason = last_line(said)
        return EvitError(
            f"{self.target} has no shell that evit could use" + (f": {reason}" if reason else ""),
            hint=f"this must work: ssh {self.target.login} sh -c true",
        )

    def _read(self) -> None:
        for line in _pipe(self._keeper.stdout):
            text = line.decode(errors="replace").rstrip("\r\n")
            if text.partition("\t")[0] == "clean":
                self.cleaned = True
            elif text.startswith("state") and hasattr(self, "facts"):
                self._seen = self._seen.merged(BoardState.parse(text))
            self._lines.put(text)
        self._ended.set()

    def _beat(self) -> None:
        """Tell the board that someone is there; it answers with its state."""
        while not self._closing.wait(_BEAT_S):
            self._ask()

    def _ask(self) -> None:
        try:
            pipe = _pipe(self._keeper.stdin)
            pipe.write(b"\n")
            pipe.flush()
        except (OSError, ValueError):  # it is gone, or was closed in between
            return

    def state(self) -> BoardState:
        """The highest temperatures since it was connected, and all that slowed it down."""
        while not self._lines.empty():
            self._lines.get_nowait()
        self._ask()
        self._next_line(time.monotonic() + _ANSWER_WITHIN_S)
        return self._seen  # of a lost connection, as far as it is known

    def copy(self, path: Path, name: str, *, length: int | None = None, progress: Progress) -> None:
        """Bring a file into the folder and check that it arrived whole.

        Args:
            path: the file here.
            name: what it is called there.
            length: leave away what lies behind so many bytes.
            progress: of the bytes.

        Raises:
            EvitError: the connection is lost, the space there does not do, or what arrived is not
                what was sent.
        """
        process = self._ssh.start(TAKE, f"{self.facts.folder}/{name}", feed=True)
        errors = _Collector(_pipe(process.stderr))
        answer = _Collector(_pipe(process.stdout))
        digest, sent = hashlib.sha256(), 0
        try:
            with _pipe(process.stdin) as pipe:
                for piece in _pieces(path, length):
                    digest.update(piece)
                    pipe.write(piece)
                    sent += len(piece)
                    progress.advance(len(piece))
        except BrokenPipeError:  # the other end says why
            pass
        code = process.wait()
        said = errors.text()
        if code == SSH_FAILED:
            raise self._lost()
        if code or _FULL in said:
            raise self._failed_to_write(path, said)
        facts = dict(line.split(" ", 1) for line in answer.text().splitlines() if " " in line)
        if facts.get("size") != str(sent) or facts.get("sum") not in (None, digest.hexdigest()):
            raise EvitError(
                f"{path.name} arrived damaged on {self.target}: {facts.get('size', 'no')} of "
                f"{sent} bytes, sha256 {facts.get('sum', 'unknown')[:12]}",
                hint="try again; if it stays so, check the board's storage",
            )

    def _failed_to_write(self, path: Path, said: str) -> EvitError:
        if _FULL in said:
            return self.full()
        return EvitError(
            f"{path.name} could not be written on {self.target}: {last_line(said)}",
            hint="check the board's storage",
        )

    def full(self) -> EvitError:
        """The board's storage filled up in the middle."""
        return EvitError(f"no space is left on {self.target}", hint="free some space there")

    def run(self, *words: str, on_line: Callable[[str], None] = lambda line: None) -> Finished:
        """Run a command in the folder and wait for its end.

        Args:
            words: the command and its arguments; they pass through no shell.
            on_line: told of each line of its standard output as it comes.

        Raises:
            EvitError: the connection is lost.
        """
        process = self._ssh.start(RUN, self.facts.folder, *words)
        errors = _Collector(_pipe(process.stderr))
        out: list[str] = []
        for line in _pipe(process.stdout):
            text = line.decode(errors="replace")
            out.append(text)
            on_line(text)
        code = process.wait()
        said = errors.text()
        # A command cannot end with these two by itself while the keeper lives.
        if code in (SSH_FAILED, _GONE) and self._is_lost():
            raise self._lost()
        return Finished(code, "".join(out), said)

    def _is_lost(self) -> bool:
        try:
            self._keeper.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _lost(self) -> EvitError:
        return connection_error(self.target, "", began=True)

    def close(self) -> None:
        """End what runs there, have the folder removed, and close the connection."""
        self._closing.set()
        keeper = getattr(self, "_keeper", None)
        try:
            if keeper is not None:
                _close(keeper.stdin)  # the end of its input is its order to clean
                keeper.wait(timeout=_CLEAN_WITHIN_S)
        except subprocess.TimeoutExpired:
            pass  # the board cleans when it notices that nobody is there
        finally:
            self._ssh.__exit__(None, None, None)
        if keeper is not None:
            self._ended.wait(timeout=1.0)  # for its last word, "clean"


class _Collector:
    """Reads a pipe to its end in the background, keeping the last 64 KiB."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._kept = pipe, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            self._kept = (self._kept + line)[-65536:]

    def text(self) -> str:
        """What came, after the process has ended."""
        self._thread.join(timeout=2.0)
        return self._kept.decode(errors="replace")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _close(pipe: IO[bytes] | None) -> None:
    try:
        _pipe(pipe).close()
    except OSError:  # what was still to be written cannot be any more
        pass


def _pieces(path: Path, length: int | None) -> Iterator[bytes]:
    left = path.stat().st_size if length is None else length
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(_CHUNK, left))):
            left -= len(piece)
            yield piece


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
