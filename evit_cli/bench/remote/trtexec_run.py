"""A row by trtexec, on a board where evit itself does not run.

An .onnx file is built into an engine there first, by the command that an export's bundle carries.
Then the engine is timed one run at a time, transfers in and out included.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from evit_cli.bench.facts import model_facts
from evit_cli.bench.protocol import Protocol
from evit_cli.bench.remote.board import Board, Finished
from evit_cli.bench.remote.trtexec_output import TrtexecOutput, parse_times, parse_trtexec
from evit_cli.bench.row import Kind, Latency, Point, Row
from evit_cli.config.device import load_profile
from evit_cli.config.profile import Profile, ToolRange
from evit_cli.config.versions import version_key
from evit_cli.errors import EvitError
from evit_cli.export.trtexec import INPUT, trtexec_command
from evit_cli.runtime.description import Description
from evit_cli.types import Backend, ImageSize
from evit_cli.weights.checkpoint import sha256_of

ENGINES = (".engine", ".plan")
TAKES = (".onnx", *ENGINES)
"""What trtexec runs."""

_BUILT, _TIMES = "built.engine", "times.json"
_STRONG_FROM = (10,)
_UNSTEADY = 0.05
_WARM_UP_MS = 500


@dataclass(frozen=True)
class TrtexecJob:
    """What trtexec shall time.

    Attributes:
        artifact: the file here.
        name: what it is called in the board's folder.
        description: what it says of itself.
        size_hw: of the input.
        protocol: how long.
        device: a profile to build by; "" for the artifact's own, or the board's.
    """

    artifact: Path
    name: str
    description: Description
    size_hw: ImageSize
    protocol: Protocol
    device: str = ""


def engine_for(board: Board, job: TrtexecJob) -> str:
    """The engine's name in the board's folder; built there if the artifact is none.

    Raises:
        EvitError: the connection is lost, or trtexec cannot build it.
    """
    if job.artifact.suffix in ENGINES:
        return job.name
    words = trtexec_command(
        job.name, _BUILT, description=job.description, profile=_profile(board, job)
    )
    _finish(board, "build", board.run(*words))
    return _BUILT


def run_trtexec(board: Board, job: TrtexecJob, *, engine: str) -> Row:
    """Time an engine of the board's folder.

    Raises:
        EvitError: the connection is lost, or trtexec cannot run it.
    """
    own = job.description
    sides = (*job.size_hw, 3) if own.layout == "NHWC" else (3, *job.size_hw)
    shape = "x".join(map(str, (own.batch, *sides)))
    said = _finish(
        board,
        "run",
        board.run(
            board.facts.trtexec,
            f"--loadEngine={engine}",
            f"--exportTimes={_TIMES}",
            f"--warmUp={_WARM_UP_MS}",
            f"--duration={max(1, round(job.protocol.seconds))}",
            f"--iterations={job.protocol.runs}",
            "--exposeDMA",  # one run at a time: the next transfer waits for this run
            "--useSpinWait",
            *([f"--shapes={INPUT}:{shape}"] if own.largest_hw is not None else []),
        ),
    )
    # Both are text of another program: what is no list of times leaves the summary's numbers.
    times = board.run("cat", _TIMES)
    compute, host, taints = _latencies(said, times.out)
    if host is None:
        raise EvitError(
            f"trtexec on {board.target} ended without a time", hint="run it there by hand"
        )
    return _row(board, job, said, compute=compute, host=host, taints=taints)


def _latencies(
    said: TrtexecOutput, times: str
) -> tuple[Latency | None, Latency | None, tuple[str, ...]]:
    """(compute, host, what may be off)."""
    unstable = tuple(words for words in said.taints if "unstable" in words)
    try:
        compute, host = parse_times(times)
    except ValueError:
        return said.compute, said.host, said.taints
    return compute, host, unstable


def _row(
    board: Board,
    job: TrtexecJob,
    said: TrtexecOutput,
    *,
    compute: Latency | None,
    host: Latency,
    taints: tuple[str, ...],
) -> Row:
    own = job.description
    point = Point(
        own.info.name,
        own.info.task,
        Backend.TENSORRT,
        own.precision,
        job.size_hw,
        batch=own.batch,
        weights=sha256_of(job.artifact),
    )
    facts = model_facts(point)
    profile = board.facts.profile()
    taints += _unsteady(host, job.protocol)
    return Row(
        Kind.MEASURED,
        point,
        compute=compute,
        host=host,
        device=profile.name if profile else "",
        params=facts.params,
        macs=facts.macs,
        file_bytes=job.artifact.stat().st_size,
        metric=facts.metric,
        tainted=tuple(dict.fromkeys(taints)),
        environment=_environment(board, said),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _unsteady(host: Latency, protocol: Protocol) -> tuple[str, ...]:
    taints = []
    if host.iqr_ratio > _UNSTEADY:
        taints.append(f"the middle half of the runs differs by {host.iqr_ratio:.0%} of the median")
    if host.n < 100:
        taints.append(f"only {host.n} runs were measured, not 100")
    if protocol.seconds < 1:
        taints.append("measured for a first look only")
    return tuple(taints)


def _environment(board: Board, said: TrtexecOutput) -> dict[str, Any]:
    facts = board.facts.environment()
    facts["tool"] = "trtexec"
    if said.version:
        facts["versions"] = {"tensorrt": said.version}
    if said.gpu:
        facts["gpu"] = said.gpu
    if said.notes:
        facts["tool_notes"] = list(said.notes)
    return facts


def _finish(board: Board, what: str, done: Finished) -> TrtexecOutput:
    """Read a call's output; one that failed becomes an error with trtexec's own words."""
    said = parse_trtexec(done.out + "\n" + done.error)
    if done.code == 0 and said.passed is not False:
        return said
    if "No space left" in done.error + done.out:
        raise board.full()
    why = said.error or _killed(done.code) or f"exit code {done.code}"
    version = said.version or board.facts.tensorrt
    raise EvitError(
        f"trtexec{' ' + version if version else ''} on {board.target} could not {what} the "
        f"engine: {why.rstrip('.')}",
        hint="" if "memory" in why else "export for that board: evit export --device PROFILE",
    )


def _killed(code: int) -> str:
    return "the system ended it, out of memory most likely" if code == 137 else ""


def _profile(board: Board, job: TrtexecJob) -> Profile:
    """The profile to build by, brought to the TensorRT that is there."""
    version = board.facts.tensorrt
    named = job.device or job.description.profile
    profile = load_profile(named) if named else board.facts.profile()
    if profile is None or profile.tensorrt is None:
        # Any NVIDIA GPU: typed by the file from 10 on, by flags before; no limit of memory.
        old = bool(version) and version_key(version) < _STRONG_FROM
        profile = load_profile("jetson-nano" if old else "a100")
        profile = profile.model_copy(update={"memory": None})
    assert profile.tensorrt is not None
    rules = profile.tensorrt.model_copy(update={"trtexec": board.facts.trtexec})
    update: dict[str, Any] = {"tensorrt": rules}
    if version:
        there = ToolRange(name="TensorRT", at_least=version, why="it is what the board has")
        others = tuple(tool for tool in profile.tools if tool.name != "TensorRT")
        update["tools"] = (*others, there)
    return profile.model_copy(update=update)
