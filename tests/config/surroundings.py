"""Machines for the checks to look at."""

from __future__ import annotations

from pathlib import Path

from evit_cli.config.checks.result import Check, HubSettings, Surroundings
from tests.config import boards


def settings(
    cache: Path, *, offline: bool = False, endpoint: str = "http://127.0.0.1:9"
) -> HubSettings:
    """Hub settings whose endpoint answers nobody."""
    return HubSettings(cache, offline, endpoint)


def on(board: boards.Board, root: Path) -> Surroundings:
    """The surroundings on a board, laid out under `root`."""
    return Surroundings(board.read(root), settings(root / "hub"), root=root, cwd=root)


def find(checks: list[Check], name: str) -> Check:
    """The finding called `name`."""
    return next(check for check in checks if check.check == name)
