"""What evit says when something is wrong: one sentence, the mend, and an exit code."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

_LISTED = 12

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_VERIFICATION = 3
EXIT_TAINTED = 4
EXIT_MISSING = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class EvitError(Exception):
    """An error the user can act on.

    Args:
        message: one sentence that says what is wrong, without a final full stop.
        hint: how to mend it; empty if there is nothing to say.
        exit_code: the process exit code, one of the constants above.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(EvitError):
    """The command line itself is off: exit code 2."""

    exit_code = EXIT_USAGE


class MissingDependency(EvitError):
    """An optional library is not installed: exit code 5."""

    exit_code = EXIT_MISSING


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest of `known`, or lists them when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
    more = f", ... ({len(names) - _LISTED} more)" if len(names) > _LISTED else ""
    return "known: " + ", ".join(names[:_LISTED]) + more


def require(module: str, *, extra: str, why: str = "") -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Raises:
        MissingDependency: `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        what = f"{why} needs {name}" if why else f"{name} is needed"
        if error.name and error.name.partition(".")[0] != name:
            what += f" ({error})"
        raise MissingDependency(
            f"{what}, which is not installed", hint=f'pip install "evit-cli[{extra}]"'
        ) from error
