"""Comparing dotted versions, without a library for it."""

from __future__ import annotations

import re


def version_key(version: str) -> tuple[int, ...]:
    """The numbers of a dotted version, trailing zeros dropped, in an order that compares.

    >>> version_key("10.3.0") == version_key("10.3") < version_key("10.13.3.9")
    True
    """
    numbers = [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
