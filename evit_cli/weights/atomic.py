"""Files that are either whole or not there at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from evit_cli.errors import EvitError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block ends well, and leaves nothing otherwise.

    It is written beside `path` under a name of its own, flushed to the disk and renamed.

    Raises:
        EvitError: the system refused (full disk, permissions); the message names `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise EvitError(
            f"cannot write {path}: {reason}",
            hint="check the free space and the permissions there, or write elsewhere",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
