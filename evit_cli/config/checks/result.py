"""What a check says, and the guard that turns an exception into a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from evit_cli.config.machine import Machine


class Status(str, Enum):
    """How a check came out."""

    OK = "ok"
    MISSING = "missing"
    PROBLEM = "problem"


class Level(str, Enum):
    """Whether evit can do without."""

    REQUIRED = "required"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Check:
    """One line of `evit doctor`.

    Attributes:
        check: what was looked at.
        status: how it came out.
        detail: what was found.
        mend: the command that mends it, empty when all is well or nothing can be done.
        level: whether evit can do without it.
    """

    check: str
    status: Status
    detail: str
    mend: str = ""
    level: Level = Level.OPTIONAL

    @property
    def broken(self) -> bool:
        """Whether evit cannot work because of this."""
        return self.level is Level.REQUIRED and self.status is not Status.OK


@dataclass(frozen=True)
class HubSettings:
    """Where weights come from and are kept, as the weights room sees it."""

    cache: Path
    offline: bool
    endpoint: str


@dataclass(frozen=True)
class Surroundings:
    """What the checks look at; a test gives its own.

    Attributes:
        machine: facts of this machine.
        hub: where weights come from and are kept.
        root: where the file tree starts.
        cwd: where outputs would be written.
        clocks_pinned: of a Jetson, whether CPU and GPU keep one rate, as the bench sees it; None
            where it cannot be seen.
    """

    machine: Machine
    hub: HubSettings
    root: Path = Path("/")
    cwd: Path = Path(".")
    clocks_pinned: bool | None = None


def first_line(error: BaseException) -> str:
    """An exception in one line, with its type where the message alone says little."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def ok(check: str, detail: str, *, level: Level = Level.OPTIONAL) -> Check:
    """A check that found all well."""
    return Check(check, Status.OK, detail, "", level)


def missing(check: str, detail: str, mend: str = "", *, level: Level = Level.OPTIONAL) -> Check:
    """A check that found nothing."""
    return Check(check, Status.MISSING, detail, mend, level)


def problem(check: str, detail: str, mend: str = "", *, level: Level = Level.OPTIONAL) -> Check:
    """A check that found something broken."""
    return Check(check, Status.PROBLEM, detail, mend, level)


def required(check: Check) -> Check:
    """The same finding about something that evit cannot do without."""
    return replace(check, level=Level.REQUIRED)


def guarded(
    name: str, look: Callable[[], Check | list[Check]], *, level: Level = Level.OPTIONAL
) -> list[Check]:
    """Run one check; whatever it raises becomes a problem under `name`."""
    try:
        found = look()
    # SystemExit too: a library that is imported here may call sys.exit.
    except (Exception, SystemExit) as error:
        found = problem(name, f"the check itself failed: {first_line(error)}", level=level)
    return found if isinstance(found, list) else [found]
