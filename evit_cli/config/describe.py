"""A device profile in words, for people: every choice followed by its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from evit_cli.config.profile import Figure, Peak, Profile

_TRANSPORTS = {
    "local": "evit runs on it",
    "ssh": "over ssh (--host user@board)",
    "adb": "over adb (--adb)",
    "bundle": "a bundle to copy there",
}


def describe(profile: Profile, width: int | None = None) -> list[str]:
    """Explain `profile`, one line of text per list item.

    Args:
        profile: what to explain.
        width: wrap at this many columns; None does not wrap.
    """
    lines: list[str] = []
    for line in _lines(profile):
        indent = " " * (len(line) - len(line.lstrip()))
        wrapped = width and textwrap.wrap(line, width, subsequent_indent=indent + "  ")
        lines += wrapped or [line]
    return lines


def _lines(profile: Profile) -> Iterator[str]:
    also = f" (also: {', '.join(profile.aliases)})" if profile.aliases else ""
    yield f"{profile.name}{also}"
    yield profile.title
    if profile.run_on_hardware_by_us:
        yield "Run on this hardware by us."
    else:
        yield "Not run on this hardware by us: written from documentation and published reports."
    yield from _choices(profile)
    yield from _graph(profile)
    yield from _limits(profile)
    yield from _peak(profile.peak)
    if profile.known_problems:
        yield ""
        yield "Known problems"
        for known in profile.known_problems:
            yield f"  - {known.problem}{_issues(known.issues)}"
            yield f"    evit: {known.evit}"


def _choices(profile: Profile) -> Iterator[str]:
    yield ""
    yield "Backend, best first"
    for backend in profile.backends:
        yield f"  {backend.backend.value}: {backend.why}"
    yield ""
    yield "Precision, best first"
    for precision in profile.precisions:
        yield f"  {precision.precision.value}: {precision.why}"
    if profile.tools:
        yield ""
        yield "Tool versions"
        for tool in profile.tools:
            yield f"  {tool}: {tool.why}"


def _graph(profile: Profile) -> Iterator[str]:
    yield ""
    yield "Graph"
    yield f"  ONNX opset {profile.onnx.opset}: {profile.onnx.why}"
    for avoid in profile.onnx.avoid:
        yield f"  no {avoid.op} ({avoid.when}); instead {avoid.instead}{_issues(avoid.issues)}"
    rules = profile.tensorrt
    if rules:
        yield f"  {rules.typing}ly typed engine, built on the {rules.build_on}: {rules.why}"
        yield f"  {' '.join((rules.trtexec, '--onnx=FILE', *rules.flags))}"
    yield f"  {profile.input.layout} input, {profile.input.shapes} shapes: {profile.input.why}"


def _limits(profile: Profile) -> Iterator[str]:
    memory = profile.memory
    if memory:
        yield ""
        yield "Memory"
        shared = "shared by CPU and GPU" if memory.shared_with_cpu else "on the card"
        yield f"  {memory.usable_gib:g} of {memory.total_gib:g} GiB for a model, {shared}"
        yield f"  {memory.why} ({memory.source})"
    for accelerator in profile.accelerators:
        yield ""
        used = "used" if accelerator.used_by_evit else "not used"
        yield f"{accelerator.kind.upper()}: {accelerator.name}, {used}"
        yield f"  {accelerator.why}"
    transport = profile.transport
    yield ""
    yield "Transport"
    yield f"  {'; or '.join(_TRANSPORTS[way] for way in transport.ways)}"
    python = f" (Python {transport.python})" if transport.python else ""
    runs = "evit runs there" if transport.evit_runs_there else "evit does not run there"
    yield f"  {runs}{python}: {transport.why}"


def _peak(peak: Peak) -> Iterator[str]:
    yield ""
    yield "Peak, for estimates (dense, one multiply-add is two operations)"
    if peak.power_mode:
        yield f"  at {peak.power_mode}"
    for precision, figure in peak.compute_tera_ops_per_s.items():
        yield f"  {precision.value}: {_figure(figure, 'tera-operations/s')}"
    if peak.bandwidth_gb_per_s:
        yield f"  memory: {_figure(peak.bandwidth_gb_per_s, 'GB/s')}"
    if peak.missing:
        yield f"  not given: {peak.missing}"


def _figure(figure: Figure, unit: str) -> str:
    derived = f", derived: {figure.how}" if figure.derived else ""
    return f"{figure.value:g} {unit} [{figure.source}{derived}]"


def _issues(issues: tuple[str, ...]) -> str:
    return f" [{', '.join(issues)}]" if issues else ""
