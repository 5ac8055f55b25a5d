"""The user's adb: which phone, what is run on it, and in plain words what went wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evit_cli.bench.remote.adb_devices import choose_device, parse_devices
from evit_cli.errors import EvitError, MissingDependency

_ANSWER_WITHIN_S = 60.0
_PUSH_BYTES_PER_S = 200_000  # the slowest that is waited for: a bad cable, or Wi-Fi
_MARK = "evit-exit:"

_LOST = re.compile(
    r"device '[^']*' not found|no devices/emulators found|device (?:still )?(?:offline|not found"
    r"|unauthorized|authorizing)|error: closed|failed to get feature set|protocol fault"
    r"|connection reset|no response: |device disconnected",
    re.IGNORECASE,
)
_FULL = "No space left on device"
_SERVER = "* daemon"


class PhoneLost(EvitError):
    """The phone went away in the middle."""

    def __init__(self) -> None:
        super().__init__(
            "the phone was disconnected in the middle",
            hint="check the cable and run it again; what was left on the phone is removed then",
        )


@dataclass(frozen=True)
class Done:
    """What a command printed, both streams together, and its exit status."""

    code: int
    out: str


def find_adb() -> str:
    """The adb in PATH, or else of the Android SDK in ANDROID_HOME or ANDROID_SDK_ROOT.

    Raises:
        MissingDependency: there is none.
    """
    found = shutil.which("adb")
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        root = os.environ.get(name)
        if not found and root:
            found = shutil.which("adb", path=str(Path(root) / "platform-tools"))
    if not found:
        raise MissingDependency(
            "measuring on a phone needs adb, which is not installed",
            hint="install Android's platform-tools (Debian, Ubuntu: sudo apt install adb), or set "
            "ANDROID_HOME to the SDK",
        )
    return found


class Adb:
    """adb for one phone.

    Args:
        serial: of the phone; None for the only one, or for ANDROID_SERIAL.

    Attributes:
        serial: of the chosen phone. It identifies its owner's phone: it belongs in no row.

    Raises:
        MissingDependency: there is no adb.
        UsageError: several phones are connected and none is named.
        EvitError: there is no phone, or it is not ready.
    """

    def __init__(self, serial: str | None = None) -> None:
        self._adb = find_adb()
        done = self._call(["devices", "-l"], within_s=_ANSWER_WITHIN_S)
        if done.code or "List of devices attached" not in done.out:
            raise EvitError(
                f"adb does not work: {_last(done.out)}", hint="try: adb kill-server; adb devices"
            )
        wanted = serial or os.environ.get("ANDROID_SERIAL")
        self.serial = choose_device(parse_devices(done.out), wanted).serial

    def shell(
        self,
        script: str,
        *,
        within_s: float = _ANSWER_WITHIN_S,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> Done:
        """Run a shell script on the phone and wait for its end.

        Args:
            script: for the phone's sh.
            within_s: when it is given up.
            on_line: told of each line as it comes.

        Raises:
            PhoneLost: the phone went away.
            EvitError: it did not end in time.
        """
        # adb of old phones gives no exit status, and none tells a lost phone from a failed command.
        whole = f"({script}\n) 2>&1 </dev/null; code=$?; echo; echo {_MARK}$code"
        done = self._call(["-s", self.serial, "shell", whole], within_s=within_s, on_line=on_line)
        text, mark, code = done.out.rpartition(f"\n{_MARK}")
        if not mark or not code.strip().isdecimal():
            raise PhoneLost()
        return Done(int(code), text)

    def push(self, path: Path, remote: str) -> None:
        """Copy a file to the phone.

        Raises:
            PhoneLost: the phone went away.
            EvitError: it has no space, or the file could not be copied.
        """
        within = _ANSWER_WITHIN_S + path.stat().st_size / _PUSH_BYTES_PER_S
        done = self._call(["-s", self.serial, "push", str(path), remote], within_s=within)
        if done.code == 0:
            return
        if _FULL in done.out:
            raise no_space()
        if _LOST.search(done.out) or not self._is_there():
            raise PhoneLost()
        raise EvitError(
            f"{path.name} could not be copied to the phone: {_last(done.out)}",
            hint="check the cable, and whether `adb shell` works",
        )

    def _is_there(self) -> bool:
        try:
            done = self._call(["-s", self.serial, "get-state"], within_s=_ANSWER_WITHIN_S)
        except EvitError:
            return False
        return done.code == 0 and _last(done.out) == "device"

    def _call(
        self,
        words: Sequence[str],
        *,
        within_s: float,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> Done:
        try:
            process = subprocess.Popen(
                [self._adb, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # Ctrl-C goes to this process, which then still needs adb to clean up.
                start_new_session=True,
            )
        except OSError as error:
            raise EvitError(
                f"adb does not start: {error.strerror}", hint=f"check the file {self._adb}"
            ) from error
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(within_s, give_up)
        timer.start()
        lines: list[str] = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.replace("\r", ""))
                on_line(lines[-1].rstrip("\n"))
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        if late.is_set():
            verb = words[2] if words[0] == "-s" else words[0]
            raise EvitError(
                f"the phone did not finish `adb {verb}` within {within_s:.0f} s",
                hint="unlock it and keep its screen on; see whether `adb shell` answers",
            )
        return Done(code, "".join(lines))


def no_space() -> EvitError:
    """The phone is full."""
    return EvitError(
        "the phone has no space left in /data/local/tmp", hint="free some space on the phone"
    )


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_SERVER)]
    return (telling or ["it said nothing"])[-1]
