"""The machines that stand behind rows: one block for each that differs in what matters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evit_cli.bench.row import Row

_CHANGES = ("load", "temperatures_c", "clocks_mhz", "threads", "tegrastats")
"""What differs from one row to the next on one machine, and is shown as what was seen."""
_LABELS = {
    "cpu": "CPU",
    "gpu": "GPU",
    "os": "OS",
    "memory_gib": "memory, GiB",
    "clocks_mhz": "clocks, MHz",
    "temperatures_c": "temperatures, °C",
    "jetson_clocks": "clocks pinned",
    "tegrastats": "before the runs",
}
_FIRST = ("cpu", "gpu", "cores", "memory_gib", "power_mode", "governor", "turbo", "clocks_mhz")
_SHOWN = 4


@dataclass(frozen=True)
class Environment:
    """One machine in one state.

    Attributes:
        number: 1, 2, ...; by it the rows refer to their machine.
        title: short words for it.
        facts: label and value, in the order in which they are shown.
        rows: those measured there.
    """

    number: int
    title: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


def environments(rows: Sequence[Row]) -> list[Environment]:
    """The distinct machines of the rows that say where they were measured, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.environment:
            groups.setdefault(machine_key(row), []).append(row)
    return [
        Environment(number, _title(group[0]), tuple(_facts(group)), tuple(group))
        for number, group in enumerate(groups.values(), 1)
    ]


def machine_key(row: Row) -> str:
    """Equal for rows measured on one machine in one state, "" where none is recorded."""
    if not row.environment:
        return ""
    # Each backend's rows carry the version of their own runtime only.
    left_out = (*_CHANGES, "versions")
    fixed = {key: value for key, value in row.environment.items() if key not in left_out}
    return json.dumps([row.host_name, fixed], default=str, sort_keys=True)


def processor(row: Row) -> str:
    """The processors of a row's machine: CPU, and GPU where there is one."""
    environment = row.environment
    gpu = environment.get("gpu")
    names = (
        environment.get("cpu") or environment.get("architecture"),
        gpu.get("name") if isinstance(gpu, Mapping) else gpu,
    )
    return ", ".join(dict.fromkeys(str(name) for name in names if name))


def _title(row: Row) -> str:
    name = processor(row) or "unknown machine"
    return f"{name} ({row.host_name})" if row.host_name else name


def _facts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    keys = dict.fromkeys(key for row in rows for key in row.environment)
    ordered = [key for key in _FIRST if key in keys] + [key for key in keys if key not in _FIRST]
    facts = []
    for key in ordered:
        found = [row.environment[key] for row in rows if key in row.environment]
        value = _versions(found) if key == "versions" else _values(found)
        if value:
            facts.append((_LABELS.get(key, key.replace("_", " ")), value))
    return facts


def _values(found: Sequence[Any]) -> str:
    distinct = list(dict.fromkeys(_words(value) for value in found if value not in (None, "")))
    if len(distinct) > _SHOWN:
        return f"{'; '.join(distinct[:_SHOWN])}; and {len(distinct) - _SHOWN} more"
    return "; ".join(distinct)


def _versions(found: Sequence[Any]) -> str:
    """The versions of all rows together: "evit 0.1.0, onnxruntime 1.22 and 1.23"."""
    seen: dict[str, dict[str, None]] = {}
    for versions in found:
        for name, version in versions.items() if isinstance(versions, Mapping) else ():
            seen.setdefault(str(name), {})[str(version)] = None
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in seen.items())


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        named = {"": value["name"], **value} if "name" in value else value
        pairs = (f"{key} {_words(item)}".strip() for key, item in named.items() if key != "name")
        return ", ".join(pairs)
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    return str(value)
