"""Small readings of /proc and /sys that never raise: unknown is None or empty."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from evit_cli.config.machine import read_text


def read_number(path: Path) -> int | None:
    """The whole number a file starts with, None when there is none to read."""
    words = read_text(path).split(maxsplit=1)
    try:
        return int(words[0]) if words else None
    except ValueError:
        return None


def read_numbers(paths: Iterable[Path]) -> list[int]:
    """The numbers of those files that have one."""
    return [value for path in paths if (value := read_number(path)) is not None]


def read_fields(path: Path) -> dict[str, int]:
    """Lines of "name number" or "name: number kB", as /proc and control groups write them."""
    fields = {}
    for line in read_text(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdecimal():
            fields[words[0].rstrip(":")] = int(words[1])
    return fields


def find(folder: Path, pattern: str) -> list[Path]:
    """Paths below a folder, sorted; none where it cannot be listed."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def hwmon(root: Path) -> Iterator[tuple[str, Path]]:
    """(name of the chip, its folder) of every hardware monitor."""
    for folder in find(root / "sys/class/hwmon", "hwmon*"):
        yield read_text(folder / "name"), folder


def usable_cores() -> set[int]:
    """The CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))
