"""Writing to disk: what to say when that fails, and leaving no empty folders behind."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from evit_cli.errors import EvitError


def cannot_write(path: Path, error: BaseException) -> EvitError:
    """The sentence for an operating-system error while writing `path`."""
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    elsewhere = "write elsewhere with --out"
    return EvitError(
        f"{path} cannot be written: {reason}",
        hint=f"free some space, or {elsewhere}" if full else elsewhere,
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn operating-system errors into a sentence about `path`.

    Raises:
        EvitError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


class NewFolders:
    """Makes folders when they are needed and remembers which ones are new."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def make(self, folder: Path) -> None:
        """Make `folder` and what is missing above it.

        Raises:
            EvitError: it cannot be made.
        """
        if folder.is_dir():
            return
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)

    def remove_empty(self) -> None:
        """Remove the new folders that hold nothing."""
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()
