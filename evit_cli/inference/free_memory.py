"""How much memory there is to work with."""

from __future__ import annotations

from pathlib import Path

_UNLIMITED = 1 << 60
"""Control groups of version 1 write a number beyond this where nothing is limited."""


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and int(text) < _UNLIMITED else None


def _available(root: Path) -> int | None:
    """What the machine can give without swapping, bytes."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("MemAvailable:")), [])
    return int(words[1]) << 10 if len(words) > 1 and words[1].isdecimal() else None


def _granted(root: Path) -> int | None:
    """What is left of the limit of the container or service, bytes; None without a limit."""
    groups = root / "sys/fs/cgroup"
    places = (
        (groups / "memory.max", groups / "memory.current", groups / "memory.stat"),
        (
            groups / "memory/memory.limit_in_bytes",
            groups / "memory/memory.usage_in_bytes",
            groups / "memory/memory.stat",
        ),
    )
    for limit_file, used_file, stat_file in places:
        limit, used = _number(limit_file), _number(used_file)
        if limit is not None and used is not None:
            return max(limit - used + _cached(stat_file), 0)
    return None


def _cached(stat_file: Path) -> int:
    """Bytes of files that the kernel keeps in memory and can drop."""
    try:
        lines = stat_file.read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split()[:2] for line in lines if len(line.split()) == 2)
    value = fields.get("inactive_file", fields.get("total_inactive_file", "0"))
    return int(value) if value.isdecimal() else 0


def free_memory_bytes(*, root: Path = Path("/")) -> int | None:
    """Memory that can be had: of the machine, or of the container if that is less.

    Args:
        root: where `proc` and `sys` are.

    Returns:
        Bytes, or None where the system does not say (it is no Linux).
    """
    known = [value for value in (_available(root), _granted(root)) if value is not None]
    return min(known, default=None)
