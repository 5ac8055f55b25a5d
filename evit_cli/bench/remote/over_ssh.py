"""`evit bench --host`: an artifact measured on a board, by evit there or by trtexec."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from evit_cli.bench.protocol import NORMAL, QUICK, THOROUGH, Protocol
from evit_cli.bench.remote.board import Board, Finished
from evit_cli.bench.remote.facts import BoardState
from evit_cli.bench.remote.ssh import SshTarget, last_line
from evit_cli.bench.remote.trtexec_run import (
    ENGINES,
    TAKES,
    TrtexecJob,
    engine_for,
    run_trtexec,
)
from evit_cli.bench.row import Kind, Row, decode_row
from evit_cli.errors import EvitError, UsageError
from evit_cli.runtime.container import model_length
from evit_cli.runtime.description import Description, description_path, read_description
from evit_cli.types import ImageSize, Progress

_MARGIN = 32 << 20
_ENGINE_SHARE = 3  # an engine and its building take up to so many times the ONNX file
_TOO_OLD = ("No such command", "No such option")


@dataclass(frozen=True)
class RemoteRequest:
    """How to measure on a board.

    Attributes:
        threads: CPU threads, None for the runtime's choice; trtexec does not use them.
        sizes: of an artifact that takes several; empty for its own.
        parts: which of compute, host and e2e; empty for all that can be had.
        protocol: how long.
        device: the profile trtexec builds by, "" for the artifact's or the board's own.
        evit: the command on the board, or the folder of its virtual environment; "" for what is
            found in $EVIT, in PATH, or in ~/.local/bin.
        folder: where evit's temporary folder is made; "" for one with space.
        limit_c: do not begin on a board hotter than this.
        sysroot: where /sys, /proc and /etc start there; a test gives a fake one.
    """

    threads: tuple[int | None, ...] = (None,)
    sizes: tuple[ImageSize, ...] = ()
    parts: tuple[str, ...] = ()
    protocol: Protocol = NORMAL
    device: str = ""
    evit: str = ""
    folder: str = ""
    limit_c: float = 80.0
    sysroot: str = ""


def measure_over_ssh(
    target: str,
    artifact: Path,
    request: RemoteRequest,
    *,
    notice: Callable[[str], None],
    progress: Progress,
) -> list[Row]:
    """Measure an artifact on a board, and leave the board as it was.

    Args:
        target: "user@board", "user@board:PORT", "ssh://user@board:PORT".
        artifact: a file of `evit export`; what lies beside it goes along.
        request: how.
        notice: told in one sentence what is being done.
        progress: of the bytes that are copied.

    Returns:
        A row for each combination that was asked for; `host_name` says where.

    Raises:
        UsageError: `target` is none, or the artifact does not take a size asked for.
        MissingDependency: there is no OpenSSH client.
        EvitError: no connection, no space, too hot, nothing there that can run it, or the
            connection was lost. The board is clean in each case.
    """
    where = SshTarget.parse(target)
    description = read_description(artifact)
    request = replace(request, sizes=_sizes(artifact, description, request.sizes))
    needed = _needed_bytes(artifact)
    notice(f"connecting to {where}")
    board = Board(
        where,
        need_bytes=needed,
        evit=request.evit,
        folder=request.folder,
        sysroot=request.sysroot,
    )
    try:
        with board:
            rows = _measure(
                board,
                artifact,
                description=description,
                request=request,
                notice=notice,
                progress=progress,
            )
            state = board.state()
    finally:
        if not board.cleaned:
            notice(f"{where} could not confirm that it removed {board.facts.folder}")
    return [_stamped(row, state, request, str(where)) for row in rows]


def _measure(
    board: Board,
    artifact: Path,
    *,
    description: Description,
    request: RemoteRequest,
    notice: Callable[[str], None],
    progress: Progress,
) -> list[Row]:
    facts = board.facts
    _check_tools(board, artifact, request)
    _check_state(board, facts.state, request.limit_c)
    by_trtexec = bool(facts.trtexec) and artifact.suffix in TAKES
    notice(f"copying {artifact.name} to {board.target}")
    _copy(board, artifact, whole=bool(facts.evit), progress=progress)
    if facts.evit:
        notice(f"measuring with {facts.evit_version or 'evit'} on {board.target}")
        rows = _by_evit(board, artifact.name, request, fixed=description.largest_hw is None)
        lacking = all(row.error.get("missing") for row in rows)
        if not (lacking and by_trtexec):
            return rows
        notice(f"evit on {board.target} lacks a library for {artifact.name}; trtexec is there")
        if artifact.suffix in ENGINES:
            _copy(board, artifact, whole=False, progress=progress)
    version = f" of TensorRT {facts.tensorrt}" if facts.tensorrt else ""
    job = TrtexecJob(
        artifact, artifact.name, description, description.size_hw, request.protocol, request.device
    )
    if artifact.suffix == ".onnx":
        notice(f"building the engine with trtexec{version} on {board.target}; this takes minutes")
    engine = engine_for(board, job)
    notice(f"measuring with trtexec{version} on {board.target}")
    return [run_trtexec(board, replace(job, size_hw=size), engine=engine) for size in request.sizes]


def _sizes(
    artifact: Path, own: Description, wanted: tuple[ImageSize, ...]
) -> tuple[ImageSize, ...]:
    """The sizes to measure at."""
    if own.largest_hw is not None:
        return wanted or (own.size_hw,)
    if wanted and own.size_hw not in wanted:
        raise UsageError(f"'{artifact}' runs at {own.size_hw} only", hint="leave --size away")
    return (own.size_hw,)


def _check_tools(board: Board, artifact: Path, request: RemoteRequest) -> None:
    facts, suffix = board.facts, artifact.suffix
    if request.evit and facts.evit not in (request.evit, f"{request.evit}/bin/evit"):
        raise EvitError(
            f"there is no evit at {request.evit} on {board.target}",
            hint="name its command, or the folder of its virtual environment",
        )
    if facts.evit or (facts.trtexec and suffix in TAKES):
        return
    but = f" (trtexec is there, and takes no {suffix} file)" if facts.trtexec else ""
    raise EvitError(
        f"nothing on {board.target} can run {artifact.name}{but}",
        hint='install evit there: pip install "evit-cli", or name it with EVIT=/path/to/venv'
        + ("; trtexec takes .onnx" if facts.trtexec else ""),
    )


def _check_state(board: Board, state: BoardState, limit_c: float) -> None:
    if state.hottest is not None and state.hottest[1] >= limit_c:
        zone, celsius = state.hottest
        raise EvitError(
            f"{board.target} is too hot to measure: {zone} is at {celsius:.0f} °C, "
            f"and {limit_c:.0f} °C is the limit",
            hint="let it cool down, or give it a fan",
        )
    if state.throttled:
        raise EvitError(
            f"{board.target} slows itself down already: {', '.join(state.throttled)}",
            hint="let it cool down, or give it more power",
        )


def _stamped(row: Row, state: BoardState, request: RemoteRequest, host: str) -> Row:
    """With the board's name, and what was seen of it meanwhile."""
    taints = [f"the board slowed itself down: {words}" for words in state.throttled]
    if state.hottest is not None and state.hottest[1] >= request.limit_c:
        taints.append(f"{state.hottest[0]} of the board came to {state.hottest[1]:.0f} °C")
    return replace(row, host_name=host, tainted=(*row.tainted, *taints))


def _parts(artifact: Path) -> list[Path]:
    """The artifact and what belongs to it."""
    beside = [description_path(artifact)]
    if artifact.suffix == ".xml":
        beside.append(artifact.with_suffix(".bin"))
    if artifact.suffix == ".onnx":  # weights of more than 2 GiB
        beside.append(artifact.with_name(f"{artifact.name}.data"))
    return [artifact, *(path for path in beside if path.is_file())]


def _needed_bytes(artifact: Path) -> int:
    size = sum(path.stat().st_size for path in _parts(artifact))
    return size * (_ENGINE_SHARE if artifact.suffix == ".onnx" else 1) + _MARGIN


def _copy(board: Board, artifact: Path, *, whole: bool, progress: Progress) -> None:
    """Bring it over; without evit's description behind an engine where trtexec is to read it."""
    parts = _parts(artifact)
    progress.start(sum(path.stat().st_size for path in parts), "byte")
    try:
        for path in parts:
            cut = path == artifact and artifact.suffix in ENGINES and not whole
            length = model_length(path) if cut else None
            board.copy(path, path.name, length=length, progress=progress)
    finally:
        progress.close()


def _by_evit(board: Board, name: str, request: RemoteRequest, *, fixed: bool) -> list[Row]:
    words = [board.facts.evit, "bench", name, "--json"]
    threads = [str(count) for count in request.threads if count is not None]
    if threads:
        words += ["--threads", ",".join(threads)]
    if not fixed:
        words += ["--size", ",".join(map(str, request.sizes))]
    if request.parts:
        words += ["--parts", ",".join(request.parts)]
    if request.protocol in (THOROUGH, QUICK):
        words.append("--thorough" if request.protocol == THOROUGH else "--quick")
    done = board.run(*words)
    rows = _rows(board, done.out.splitlines())
    if rows:
        return rows
    raise _no_rows(board, done)


def _rows(board: Board, lines: Iterable[str]) -> list[Row]:
    rows = []
    for line in lines:
        try:
            document = json.loads(line)
        except json.JSONDecodeError:
            continue  # a library's greeting
        if not isinstance(document, dict) or not {"kind", "format"} & set(document):
            continue
        try:
            row = decode_row(line)
        except ValueError as error:
            raise _too_old(board, str(error)) from error
        if row.kind in (Kind.MEASURED, Kind.FAILED):
            rows.append(row)
    return rows


def _no_rows(board: Board, done: Finished) -> EvitError:
    said = done.error
    if any(words in said for words in _TOO_OLD):
        return _too_old(board, last_line(said, skip=("Usage:", "Try ", "╭", "╰")).strip("│ "))
    if "No space left" in said:
        return board.full()
    reason = last_line(said, skip=("mend:",)).removeprefix("error: ")
    reason = reason or f"exit code {done.code}"
    return EvitError(
        f"evit on {board.target} measured nothing: {reason}",
        hint=f"try there: {board.facts.evit} doctor",
    )


def _too_old(board: Board, reason: str) -> EvitError:
    version = board.facts.evit_version or "evit"
    return EvitError(
        f"{version} on {board.target} is another than this one, and they do not understand each "
        f"other: {reason.rstrip('.')}",
        hint="there: pip install --upgrade evit-cli",
    )
