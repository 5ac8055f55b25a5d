"""Where an artifact or a bundle is made before it is renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evit_cli.signals import handled


@contextmanager
def workshop(goal: Path) -> Iterator[Path]:
    """A hidden folder beside `goal`, on the same disk, gone afterwards however it ended."""
    folder = goal.with_name(f".evit-partial-{goal.name}-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        with handled(lambda _: None):  # a second Ctrl-C would leave the rest of it
            shutil.rmtree(folder, ignore_errors=True)
