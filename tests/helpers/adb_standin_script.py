"""What the `adb` of `adb_standin.py` does, and benchmark_model on the phone behind it.

It follows the real tool's command line, what it prints and its exit statuses. A shell command runs
in the real sh, with the phone's paths mapped to a folder here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

HOME = Path(os.environ.get("ADB_STANDIN") or Path(__file__).resolve().parents[1])
PLACE = "/data/local/tmp"
MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64"}


def load() -> dict:
    return json.loads((HOME / "adb.json").read_text("utf-8"))


def save(state: dict) -> None:
    (HOME / "adb.json").write_text(json.dumps(state), "utf-8")


def fail(text: str, code: int = 1) -> int:
    sys.stderr.write(text + "\n")
    return code


def devices(state: dict) -> int:
    if state["cold"]:
        sys.stderr.write("* daemon not running; starting now at tcp:5037\n")
        sys.stderr.write("* daemon started successfully\n")
    print("List of devices attached")
    for number, phone in enumerate(state["phones"], 1):
        if phone["gone"]:
            continue
        words = f"{phone['serial']:<22} {phone['state']}"
        if phone["state"] == "no permissions":
            words += (
                " (missing udev rules? user is in the plugdev group); see "
                "[http://developer.android.com/tools/device.html]"
            )
        words += f" usb:1-{number}"
        if phone["state"] == "device":
            words += f" product:p model:{phone['model'].replace(' ', '_')} device:d"
        print(f"{words} transport_id:{number}")
    print()
    return 0


def main(words: list[str]) -> int:
    state = load()
    with (HOME / "calls.txt").open("a", encoding="utf-8") as file:
        file.write(json.dumps(words) + "\n")
    if state["server"]:
        return fail(state["server"])
    if words == ["devices", "-l"]:
        return devices(state)
    assert words[0] == "-s", words
    phone = next((p for p in state["phones"] if p["serial"] == words[1]), None)
    if phone is None or phone["gone"]:
        return fail(f"adb: device '{words[1]}' not found")
    if phone["state"] == "unauthorized":
        return fail(
            "adb: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
            "Try 'adb kill-server' if that seems wrong.\n"
            "Otherwise check for a confirmation dialog on your device."
        )
    if phone["state"] == "offline":
        return fail("adb: device offline")
    if words[2] == "get-state":
        print(phone["state"])
        return 0
    if words[2] == "push":
        return push(state, phone, Path(words[3]), words[4])
    if words[2] == "pull":
        return pull(phone, words[3], Path(words[4]))
    assert words[2] == "shell" and len(words) == 4, words
    return shell(state, phone, words[3])


def push(state: dict, phone: dict, local: Path, remote: str) -> int:
    if phone["vanishes_in"] and phone["vanishes_in"] in f"push {remote}":
        phone["gone"] = True
        save(state)
        return fail(
            f"adb: error: failed to copy '{local}' to '{remote}': no response: "
            "Connection reset by peer"
        )
    assert remote.startswith(PLACE)
    target = Path(phone["root"] + remote)
    if phone["full"]:
        target.write_bytes(local.read_bytes()[:100])
        return fail(
            f"adb: error: failed to copy '{local}' to '{remote}': remote No space left on device"
        )
    target.write_bytes(local.read_bytes())
    size = target.stat().st_size
    header = target.read_bytes()[:20]
    if header[:4] == b"\x7fELF" and target.suffix != ".so":
        target.write_text(program(phone, header), "utf-8")
    print(f"{local}: 1 file pushed, 0 skipped. 38.4 MB/s ({size} bytes in 0.076s)")
    return 0


def pull(phone: dict, remote: str, local: Path) -> int:
    source = Path(phone["root"] + remote)
    if not source.is_file():
        return fail(f"adb: error: failed to stat remote object '{remote}': No such file")
    local.write_bytes(source.read_bytes())
    print(f"{remote}: 1 file pulled, 0 skipped.")
    return 0


def program(phone: dict, header: bytes) -> str:
    """What the phone runs in place of a program for it."""
    abi = MACHINES.get(int.from_bytes(header[18:20], "little"), "")
    if abi not in phone["runs"]:
        return (
            '#!/bin/sh\necho "/system/bin/sh: $0: not executable: 64-bit ELF file" >&2\nexit 126\n'
        )
    return f"#!{sys.executable} -SE\n" + (
        f"import os, sys\nos.environ['ADB_STANDIN'] = {str(HOME)!r}\n"
        f"sys.path.insert(0, {str(HOME / 'bin')!r})\n"
        "import phone_programs\n"
        f"sys.exit(phone_programs.benchmark_model({phone['serial']!r}, sys.argv[1:]))\n"
    )


def shell(state: dict, phone: dict, script: str) -> int:
    own = phone["root"] + PLACE
    text = script.replace(PLACE, own).replace("/proc/meminfo", phone["root"] + "/proc/meminfo")
    environment = {
        "PATH": f"{phone['root']}/system/bin:/usr/bin:/bin",
    }
    import subprocess  # takes long to import, and is needed here alone

    process = subprocess.Popen(
        ["/bin/sh", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip
    vanishes = phone["vanishes_in"] and phone["vanishes_in"] in script
    assert process.stdout is not None
    for number, line in enumerate(process.stdout):
        if vanishes and number > 3:
            phone["gone"] = True
            save(state)
            os.killpg(process.pid, signal.SIGKILL)  # so that the test leaves nothing behind
            return 255
        sys.stdout.write(line.replace(own, PLACE))
        sys.stdout.flush()
    code = process.wait()
    return 0 if phone["no_status"] else code


def benchmark_model(serial: str, words: list[str]) -> int:
    import benchmark_outputs as outputs

    state = load()
    phone = next(p for p in state["phones"] if p["serial"] == serial)
    flags = dict(word.removeprefix("--").split("=", 1) for word in words)
    if not Path(flags["graph"]).is_file():
        print(f"ERROR: Failed to mmap model {flags['graph']}\nERROR: Benchmarking failed.")
        return 1
    if phone["hangs"]:
        (HOME / "hanging.txt").write_text(str(os.getpid()), "utf-8")
        time.sleep(60)
    known = {k: v for k, v in flags.items() if k in outputs.KNOWN[phone["tool"]]}
    accelerator = outputs.accelerator_of(known)
    text, code = outputs.render(phone["tool"], flags, phone["behaviour"].get(accelerator, "full"))
    print(text, end="")
    if phone["heats_to"] is not None:
        phone["thermal"] = phone["heats_to"]
        write_phone(phone)
        save(state)
    return code


def write_phone(phone: dict) -> None:
    """Lay out what the phone's small programs print; they are shell scripts, which start fast."""
    root = Path(phone["root"])
    said = root / "said"
    said.mkdir(exist_ok=True)
    lines = "".join(f"{name}={value}\n" for name, value in phone["props"].items())
    (said / "props").write_text(lines, "utf-8")
    battery = "".join(f"  {name}: {value}\n" for name, value in phone["battery"].items())
    (said / "battery").write_text(f"Current Battery Service state:\n{battery}", "utf-8")
    if phone["thermal"] is not None:
        (said / "thermalservice").write_text(
            "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 1\n\tkilled: false\n"
            f"Thermal Status: {phone['thermal']}\nCached temperatures:\n"
            "\tTemperature{mValue=31.5, mType=3, mName=skin, mStatus=0}\nHAL Ready: true\n",
            "utf-8",
        )
    (said / "saver").write_text(f"{phone['saver']}\n", "utf-8")
    (said / "df").write_text(
        "Filesystem              1K-blocks     Used Available Use% Mounted on\n"
        f"/dev/block/dm-52        115249236 83820276  {phone['free_kib']}  73% /data/user/0\n",
        "utf-8",
    )
    programs = {
        "getprop": f'sed -n "s/^$1=//p" {said}/props',
        "dumpsys": f'cat {said}/"$1" 2>/dev/null || echo "Can\'t find service: $1"',
        "settings": f"cat {said}/saver",
        "df": f"cat {said}/df",
    }
    for name, body in programs.items():
        path = root / "system/bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
        path.chmod(0o755)
