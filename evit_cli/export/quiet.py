"""Converters announce much on standard output and error; what goes wrong comes as an exception."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No output on file descriptors 1 and 2, from C++ either, and no Python log below errors."""
    disabled = logging.root.manager.disable
    sys.stdout.flush()
    sys.stderr.flush()
    kept: list[tuple[int, int]] = []
    with contextlib.suppress(OSError):  # a closed descriptor has nothing to keep quiet
        kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.ERROR)
    try:
        for descriptor, _ in kept:
            os.dup2(nowhere, descriptor)
        with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
            with contextlib.redirect_stderr(sink):
                yield
    finally:
        logging.disable(disabled)
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
