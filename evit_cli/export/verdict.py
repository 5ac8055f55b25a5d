"""What a comparison can end with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """Whether an artifact may be used."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Bar:
    """Agreement that is asked for: `good` passes, below `least` fails, between them warns."""

    good: float
    least: float


def against(bar: Bar, value: float, said: str, form: str) -> tuple[Verdict, str]:
    """The verdict on a value, and what was `said` with the bar that it missed."""
    if value >= bar.good:
        return Verdict.PASS, said
    if value >= bar.least:
        return Verdict.WARN, f"{said}; less than {bar.good:{form}}"
    return Verdict.FAIL, f"{said}; less than {bar.least:{form}}"
