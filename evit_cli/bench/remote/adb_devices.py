"""Which phone is meant, of those that `adb devices -l` lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evit_cli.errors import EvitError, UsageError

_STATE = re.compile(
    r"^(?P<serial>\S.*?)\s+(?P<state>device|offline|unauthorized|authorizing|connecting|recovery"
    r"|sideload|bootloader|rescue|host|detached|no permissions|no device)\b(?P<rest>.*)$"
)
_SERVER = "* daemon"

_MENDS = {
    "unauthorized": (
        "{phone} has not allowed this computer to debug it",
        "unlock it and accept the question 'Allow USB debugging?'; if none comes, run "
        "`adb kill-server` and plug it in again",
    ),
    "offline": (
        "{phone} does not answer (offline)",
        "plug it in again, or run `adb reconnect offline`; if it stays so, restart the phone",
    ),
    "no permissions": (
        "this account may not open {phone}",
        "install the udev rules (Debian, Ubuntu: sudo apt install "
        "android-sdk-platform-tools-common), then `adb kill-server` and plug it in again",
    ),
}
_BUSY = ("authorizing", "connecting")


@dataclass(frozen=True)
class Device:
    """A line of `adb devices -l`."""

    serial: str
    state: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.serial} ({self.model})" if self.model else self.serial


def parse_devices(text: str) -> list[Device]:
    r"""What `adb devices -l` lists.

    >>> parse_devices("List of devices attached\nAB12 device usb:1-1 model:Pixel_8")
    [Device(serial='AB12', state='device', model='Pixel 8')]
    """
    _, _, listed = text.replace("\r", "").partition("List of devices attached")
    devices = []
    for line in listed.splitlines():
        found = _STATE.match(line)
        if found and not line.startswith(_SERVER):
            model = re.search(r"\bmodel:(\S+)", found["rest"])
            name = model[1].replace("_", " ") if model else ""
            devices.append(Device(found["serial"], found["state"], name))
    return devices


def choose_device(devices: Sequence[Device], serial: str | None) -> Device:
    """The phone that is meant; without a serial the only one that is ready.

    Raises:
        UsageError: it is not clear which.
        EvitError: there is none, or it is not ready.
    """
    if not devices:
        raise EvitError(
            "no phone is connected",
            hint="turn on USB debugging (Settings, Developer options), plug it in, and see whether "
            "`adb devices` lists it",
        )
    if serial:
        named = [device for device in devices if device.serial == serial]
        if not named:
            raise EvitError(
                f"no phone '{serial}' is connected",
                hint=f"connected: {', '.join(map(str, devices))}",
            )
        return _ready(named[0])
    ready = [device for device in devices if device.state == "device"]
    if len(ready) == 1:
        return ready[0]
    if len(devices) == 1:
        return _ready(devices[0])
    raise UsageError(
        f"{len(devices)} phones are connected: {', '.join(map(str, devices))}",
        hint=f"name one: --adb {(ready or devices)[0].serial}",
    )


def _ready(device: Device) -> Device:
    if device.state == "device":
        return device
    if device.state in _MENDS:
        message, hint = _MENDS[device.state]
        raise EvitError(message.format(phone=device), hint=hint)
    if device.state in _BUSY:
        raise EvitError(f"{device} is still connecting", hint="try again in a moment")
    raise EvitError(
        f"Android is not running on {device}: it is in state '{device.state}'",
        hint="start the phone normally",
    )
