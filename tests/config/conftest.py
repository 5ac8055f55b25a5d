"""Fixtures of the configuration room."""

from __future__ import annotations

from pathlib import Path

import pytest

from evit_cli.config.checks.result import Surroundings
from tests.config import boards
from tests.config.surroundings import on


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    """A desktop machine under tmp_path."""
    return on(boards.DESKTOP, tmp_path)
