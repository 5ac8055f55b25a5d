"""How sources are opened: on which board's elements, how long to wait, and who is told."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from evit_cli.errors import UsageError

VIDEO, RECONNECT, STALL = "EVIT_VIDEO", "EVIT_RECONNECT_S", "EVIT_STALL_S"
"""Environment variables: the board's elements, and the two limits in seconds."""


class Board(Enum):
    """Whose GStreamer elements capture, decode and encode."""

    SOFTWARE = "software"
    JETSON = "jetson"

    @classmethod
    def here(cls, root: Path = Path("/")) -> Board:
        """What this machine is: a Jetson has NVIDIA's release file, in its containers too."""
        return cls.JETSON if os.path.exists(root / "etc/nv_tegra_release") else cls.SOFTWARE


def _nobody(sentence: str) -> None:
    """The notice that nobody reads."""


@dataclass(frozen=True)
class SourceRules:
    """How a source is opened and kept alive.

    Attributes:
        board: whose elements to use.
        reconnect_s: how long a lost live source is sought before the run ends; 0 does not seek it
            and ends as if a file had ended, infinity never gives up.
        stall_s: without a frame for so long, a live source counts as lost; infinity waits.
        notice: gets one sentence at a time for the user; called from other threads too.
    """

    board: Board = Board.SOFTWARE
    reconnect_s: float = 60.0
    stall_s: float = 10.0
    notice: Callable[[str], None] = _nobody


def rules_here(
    *, board: Board | None = None, notice: Callable[[str], None] | None = None
) -> SourceRules:
    """The rules of this machine and environment.

    Args:
        board: what a device profile says; `EVIT_VIDEO` is stronger, None looks at the machine.
        notice: gets the sentences.

    Raises:
        UsageError: an environment variable holds nonsense.
    """
    wanted = os.environ.get(VIDEO, "").strip().lower()
    if wanted:
        try:
            board = Board(wanted)
        except ValueError as error:
            names = ", ".join(known.value for known in Board)
            raise UsageError(f"{VIDEO} is '{wanted}'", hint=f"one of: {names}") from error
    rules = SourceRules(board=board or Board.here(), notice=notice or _nobody)
    return replace(
        rules,
        reconnect_s=_seconds(RECONNECT, rules.reconnect_s),
        stall_s=_seconds(STALL, rules.stall_s) or math.inf,
    )


def _seconds(name: str, otherwise: float) -> float:
    """A time in seconds from the environment; "inf" is one."""
    text = os.environ.get(name, "").strip()
    try:
        value = float(text) if text else otherwise
    except ValueError:
        value = math.nan
    if not value >= 0:  # also catches "nan"
        raise UsageError(f"{name} is '{text}', which is no number of seconds", hint=f"{name}=30")
    return value
