"""An `adb` in PATH with phones behind it, each with a folder here as its file system."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.adb_standin_script import write_phone

_HERE = Path(__file__).parent
_MACHINES = {"arm64-v8a": 183, "armeabi-v7a": 40, "x86_64": 62}


class AdbStandin:
    """A folder with the stand-in; its phones' settings can be changed between calls."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        shutil.copyfile(_HERE / "benchmark_outputs.py", programs / "benchmark_outputs.py")
        shutil.copyfile(_HERE / "adb_standin_script.py", programs / "phone_programs.py")
        _adb(programs / "adb")
        for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT", "ANDROID_SERIAL"):
            monkeypatch.delenv(name, raising=False)
        for name in ("EVIT_BENCHMARK_MODEL", "EVIT_PHONE_LIBRARIES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
        self._save({"server": "", "cold": True, "phones": []})

    def add_phone(self, serial: str = "AB12CD34", **settings: Any) -> str:
        """A phone on the cable; `settings` replace what stands in `_phone`."""
        root = self.folder / serial
        for place in ("data/local/tmp", "system/bin", "proc"):
            (root / place).mkdir(parents=True)
        (root / "proc/meminfo").write_text("MemTotal:       11523468 kB\n", "utf-8")
        state = self._load()
        state["phones"].append({**_phone(serial, root), **settings})
        write_phone(state["phones"][-1])
        self._save(state)
        return serial

    def set(self, serial: str = "AB12CD34", **settings: Any) -> None:
        state = self._load()
        phone = next(p for p in state["phones"] if p["serial"] == serial)
        phone.update(settings)
        write_phone(phone)
        self._save(state)

    def set_server(self, error: str) -> None:
        self._save({**self._load(), "server": error})

    def place(self, serial: str = "AB12CD34") -> Path:
        """Where the phone's /data/local/tmp lies."""
        return self.folder / serial / "data/local/tmp"

    def left(self, serial: str = "AB12CD34") -> list[str]:
        """What lies in it."""
        return sorted(path.name for path in self.place(serial).iterdir())

    def calls(self) -> list[list[str]]:
        """Every command line that adb was given."""
        path = self.folder / "calls.txt"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def flags(self) -> list[list[str]]:
        """Flags of every call of benchmark_model."""
        scripts = [words[3] for words in self.calls() if words[2:3] == ["shell"]]
        lines = [line for script in scripts for line in script.splitlines()]
        return [line.split()[3:-1] for line in lines if "/benchmark_model --" in line]

    def tool(self, abi: str = "arm64-v8a") -> Path:
        """A benchmark_model for an ABI: an ELF header is all that is looked at."""
        header = bytearray(64)
        header[:6] = b"\x7fELF\x02\x01"
        header[18:20] = _MACHINES[abi].to_bytes(2, "little")
        path = self.folder / f"{abi}_benchmark_model"
        path.write_bytes(header)
        return path

    def _load(self) -> dict[str, Any]:
        return json.loads((self.folder / "adb.json").read_text("utf-8"))

    def _save(self, state: dict[str, Any]) -> None:
        (self.folder / "adb.json").write_text(json.dumps(state), "utf-8")


def _phone(serial: str, root: Path) -> dict[str, Any]:
    return {
        "serial": serial,
        "root": str(root),
        "state": "device",
        "model": "SM S928B",
        "gone": False,
        "vanishes_in": "",  # a shell script with this breaks off, and the phone is gone
        "no_status": False,  # as before Android 7: adb shell always exits with 0
        "full": False,
        "hangs": False,
        "runs": ["arm64-v8a"],
        "tool": "interpreter",
        "behaviour": {},
        "thermal": 0,
        "heats_to": None,
        "saver": "0",
        "free_kib": 31_297_888,
        "battery": {
            "AC powered": "false", "USB powered": "true", "Wireless powered": "false",
            "Max charging current": 500000, "status": 2, "health": 2, "present": "true",
            "level": 83, "scale": 100, "voltage": 4156, "temperature": 287, "technology": "Li-ion",
        },
        "props": {
            "ro.soc.manufacturer": "QTI", "ro.soc.model": "SM8650",
            "ro.board.platform": "pineapple", "ro.product.manufacturer": "samsung",
            "ro.product.model": "SM-S928B", "ro.build.version.release": "14",
            "ro.product.cpu.abi": "arm64-v8a", "ro.product.cpu.abilist": "arm64-v8a",
        },
    }  # fmt: skip


def _adb(path: Path) -> None:
    """-S and -E make Python start fast, and a module is compiled once only."""
    path.write_text(
        f"#!{sys.executable} -SE\nimport sys\nimport phone_programs\n"
        "sys.exit(phone_programs.main(sys.argv[1:]))\n",
        "utf-8",
    )
    path.chmod(0o755)
