"""One accelerator of a phone measured: the call that proves it, the phone's state, and a row."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from evit_cli.bench.facts import model_facts
from evit_cli.bench.protocol import NORMAL, Protocol
from evit_cli.bench.remote.adb_client import Adb, Done, PhoneLost
from evit_cli.bench.remote.benchmark_model import (
    BOUNDS,
    BenchmarkOutput,
    latency_from,
    parse_benchmark,
)
from evit_cli.bench.remote.benchmark_run import (
    ACCELERATORS,
    CPU,
    RunPlan,
    flags_of,
    memory_flags_of,
    partial,
    refusal,
    wants_part,
)
from evit_cli.bench.remote.phone import Phone, read_state
from evit_cli.bench.remote.phone_folder import PhoneFolder
from evit_cli.bench.row import Kind, Latency, Point, Row
from evit_cli.errors import EvitError, UsageError, suggest

TOOL = "benchmark_model"
"""Its name in the folder on the phone."""
MODEL = "model.tflite"
"""The artifact's name there."""
_UNSTEADY = 0.05
_INIT_WITHIN_S = 600.0  # an NPU's compiler can take minutes


@dataclass(frozen=True)
class AdbRequest:
    """How to measure on a phone.

    Attributes:
        accelerators: of "cpu", "gpu" and "npu"; each makes a row.
        threads: CPU threads, None for the tool's choice; the GPU and the NPU do not use them.
        protocol: how long.
        benchmark_model: LiteRT's tool for the phone; None for what EVIT_BENCHMARKMODEL names.
        libraries: a folder of shared libraries that it needs there (a vendor's NPU libraries, or
            LiteRT's GPU accelerator); None for what EVIT_PHONE_LIBRARIES names, if anything.
        nnapi: the accelerator NNAPI shall take where the NPU is reached by it, "" for its choice.
    """

    accelerators: tuple[str, ...] = (CPU,)
    threads: tuple[int | None, ...] = (None,)
    protocol: Protocol = NORMAL
    benchmark_model: Path | None = None
    libraries: Path | None = None
    nnapi: str = ""

    def __post_init__(self) -> None:
        for name in self.accelerators:
            if name not in ACCELERATORS:
                raise UsageError(
                    f"a phone has no accelerator '{name}'", hint=suggest(name, ACCELERATORS)
                )


@dataclass(frozen=True)
class Session:
    """A phone with everything on it.

    Attributes:
        adb: of the phone.
        phone: what it is.
        folder: on it, with the tool and the model.
        point: the model's; accelerator and threads are those of each row.
        request: how to measure.
        file_bytes: of the artifact.
        libraries: names of shared libraries in the folder.
        tool: a code for the tool's build.
    """

    adb: Adb
    phone: Phone
    folder: PhoneFolder
    point: Point
    request: AdbRequest
    file_bytes: int
    libraries: tuple[str, ...]
    tool: str

    def plan(self, point: Point) -> RunPlan:
        """The call that measures a point."""
        return RunPlan(
            point.form,
            self.folder.path,
            MODEL,
            point.precision,
            point.threads,
            self.request.protocol,
            self.libraries,
            self.request.nnapi,
        )


def measure_on_phone(session: Session, point: Point) -> Row:
    """Measure one accelerator.

    Raises:
        PhoneLost: the phone went away.
        EvitError: it is too hot, or the accelerator does not run the model.
    """
    before = read_state(session.adb)
    before.refuse_heat()
    plan = session.plan(point)
    output, strict = _run(session, plan)
    assert output.runs is not None
    latency, taints = latency_from(output.runs)
    after = read_state(session.adb)
    taints += (*before.taints, *after.taints, *_unsteady(latency, session.request.protocol))
    peak = None
    with suppress(EvitError):  # what is measured is not lost for it
        peak = parse_benchmark(_call(session, memory_flags_of(plan, strict=strict)).out).peak_bytes
    facts = model_facts(point)
    return replace(
        base_row(session, Kind.MEASURED, point),
        compute=latency,
        params=facts.params,
        macs=facts.macs,
        metric=facts.metric,
        file_bytes=session.file_bytes,
        peak_rss_bytes=peak,
        tainted=tuple(dict.fromkeys(filter(None, (partial(output, point.form), *taints)))),
        environment=_environment(session, output),
    )


def _run(session: Session, plan: RunPlan) -> tuple[BenchmarkOutput, bool]:
    """The timed call that proves what it says, and whether it was a strict one."""
    strict = plan.accelerator != CPU
    done = _call(session, flags_of(plan, strict=strict))
    output = parse_benchmark(done.out)
    if strict and wants_part(output):
        unsupported = output.unsupported
        strict = False
        done = _call(session, flags_of(plan, strict=False))
        output = parse_benchmark(done.out)
        output = replace(output, unsupported=output.unsupported or unsupported)
    error = refusal(output, plan.accelerator, code=done.code, strict=strict)
    if error is not None:
        raise error
    return output, strict


def _call(session: Session, flags: list[str]) -> Done:
    script = session.folder.command([f"{session.folder.path}/{TOOL}", *flags])
    # The tool's limit holds for the warm-up and for the measurement, each.
    within = _INIT_WITHIN_S + 2 * session.request.protocol.limit_s
    try:
        return session.adb.shell(script, within_s=within)
    except PhoneLost:
        raise
    except EvitError:  # it is late, and must not run beside the next
        session.folder.stop()
        raise


def base_row(session: Session, kind: Kind, point: Point) -> Row:
    """What is known of a row without measuring it."""
    return Row(
        kind,
        point,
        device=session.phone.profile,
        environment=session.phone.environment() | {"tool": TOOL},
        host_name=session.phone.name,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _environment(session: Session, output: BenchmarkOutput) -> dict[str, Any]:
    kind = "CompiledModel" if output.compiled else "Interpreter"
    facts: dict[str, Any] = session.phone.environment() | {
        "tool": TOOL,
        "tool_notes": [BOUNDS],
        "versions": {"android": session.phone.android, TOOL: f"{kind} {session.tool}"},
        "init_ms": output.init_ms,
    }
    delegates = [f"{d.delegate}: {d.taken} of {d.nodes} nodes" for d in output.delegations]
    if delegates:
        facts["delegates"] = delegates
    if output.nnapi:
        facts["nnapi"] = list(output.nnapi)
    return {name: value for name, value in facts.items() if value is not None}


def _unsteady(latency: Latency, protocol: Protocol) -> list[str]:
    taints = []
    if latency.iqr_ratio > _UNSTEADY:
        taints.append(
            f"the middle half of the runs differs by {latency.iqr_ratio:.0%} of the median"
        )
    if latency.n < NORMAL.runs:
        taints.append(f"only {latency.n} runs were measured, not {NORMAL.runs}")
    elif protocol.seconds < NORMAL.seconds:
        taints.append(f"measured for less than {NORMAL.seconds:.0f} s")
    return taints
