"""A folder of evit's own on a phone: made, used, and removed with what still runs in it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shlex
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from evit_cli.bench.remote.adb_client import Adb, no_space
from evit_cli.bench.remote.phone import PLACE
from evit_cli.errors import EvitError

_NAME = re.compile(r"evit-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,9})-[0-9a-f]{6}")
_OLD_MINUTES = 24 * 60
_LIST = f"""
cd {PLACE} || exit 1
for name in evit-*; do [ -d "$name" ] && echo "any $name"; done
find . -maxdepth 1 -type d -name 'evit-*' -mmin +{_OLD_MINUTES} | sed 's,^\\./,old ,'
true
"""
# A process number may have come to mean another process: its command line tells.
_STOP = """
folder={folder}
for pid in $(cat "$folder/pid" 2>/dev/null); do
  grep -qF "$folder" "/proc/$pid/cmdline" 2>/dev/null && kill "$pid"
done
"""
_REMOVE = """
rm -rf "$folder"
[ ! -e "$folder" ]
"""
_RUN = """
cd {folder} || exit 1
LD_LIBRARY_PATH={folder} ADSP_LIBRARY_PATH={folder} {command} &
echo $! >pid
wait $!
"""


class PhoneFolder:
    """A private folder on the phone; use it as a context.

    Folders that earlier runs on this computer could not remove, because the cable was pulled, go
    first; those of other computers when they are a day old.

    Args:
        adb: of the phone.
        notice: told when the folder could not be removed.

    Attributes:
        path: of the folder on the phone.
    """

    _mine: set[str] = set()  # noqa: RUF012 (what this process has open, in all its threads)

    def __init__(self, adb: Adb, notice: Callable[[str], None]) -> None:
        self._adb, self._notice = adb, notice
        self._name = f"evit-{_host()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.path = f"{PLACE}/{self._name}"

    def __enter__(self) -> PhoneFolder:
        self._mine.add(self._name)
        try:
            for name in self._stale():
                self._remove(f"{PLACE}/{name}")
            done = self._adb.shell(f"mkdir -m 700 {self.path}")
            if done.code:
                raise _cannot_make(done.out)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._mine.discard(self._name)
        try:
            removed = self._remove(self.path)
        except EvitError:
            removed = False
        if not removed:
            self._notice(f"{self.path} could not be removed from the phone; the next run does it")

    def command(self, words: list[str]) -> str:
        """A script that runs a command in the folder, so that `__exit__` can end it."""
        return _RUN.format(folder=self.path, command=shlex.join(words))

    def stop(self) -> None:
        """End what still runs in it, as far as the phone can be reached."""
        with suppress(EvitError):
            self._adb.shell(_STOP.format(folder=self.path))

    def _stale(self) -> list[str]:
        said = self._adb.shell(_LIST).out.split("\n")
        listed = [line.partition(" ") for line in said]
        old = {name for kind, _, name in listed if kind == "old"}
        names = dict.fromkeys(name for kind, _, name in listed if kind in ("any", "old"))
        return [name for name in names if self._is_stale(name, old=name in old)]

    def _is_stale(self, name: str, *, old: bool) -> bool:
        found = _NAME.fullmatch(name)
        if found is None or name in self._mine:
            return False
        return old or (found["host"] == _host() and not _runs(int(found["pid"])))

    def _remove(self, folder: str) -> bool:
        return self._adb.shell(_STOP.format(folder=folder) + _REMOVE).code == 0


def _host() -> str:
    """A code for this computer that does not tell its name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    """Whether another process of that number runs here; where that cannot be asked, yes."""
    if pid == os.getpid():
        return False
    if os.name != "posix":  # elsewhere signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _cannot_make(said: str) -> EvitError:
    if "No space left" in said:
        return no_space()
    reason = said.strip().splitlines()[-1:] or ["no reason given"]
    return EvitError(
        f"no folder can be made in {PLACE} on the phone: {reason[0]}",
        hint="restart the phone; check that `adb shell` may write there",
    )
