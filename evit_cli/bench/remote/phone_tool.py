"""LiteRT's benchmark_model for a phone: which file, and whether the phone can run it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from evit_cli.bench.remote.phone import Phone
from evit_cli.errors import EvitError

VARIABLE = "EVIT_BENCHMARK_MODEL"
LIBRARIES_VARIABLE = "EVIT_PHONE_LIBRARIES"

_COMPILED = "https://storage.googleapis.com/litert/binaries/latest/android_arm64/benchmark_model"
_NIGHTLY = (
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/"
    "nightly/latest/"
)
_PUBLISHED = {
    "arm64-v8a": (_COMPILED, f"{_NIGHTLY}android_aarch64_benchmark_model"),
    "armeabi-v7a": (f"{_NIGHTLY}android_arm_benchmark_model",),
}
"""Where Google publishes it, by ABI: the CompiledModel tool first, then the Interpreter's."""

_ELF = b"\x7fELF"
_LITTLE_ENDIAN = 1
_ABIS = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}
"""By the machine number in an ELF header."""


def find_tool(named: Path | None) -> Path:
    """The file that the user names, or EVIT_BENCHMARK_MODEL.

    Raises:
        EvitError: none is named, or it is not there; the hint says where Google publishes it.
    """
    text = os.environ.get(VARIABLE, "")
    path = named or (Path(text) if text else None)
    if path is None:
        raise EvitError(
            "measuring on a phone needs LiteRT's benchmark_model, and none is named",
            hint=f"get {where_published('arm64-v8a')}, and name it with --benchmark-model FILE "
            f"or {VARIABLE}",
        )
    path = path.expanduser()
    if not path.is_file():
        raise EvitError(
            f"there is no benchmark_model at {path}",
            hint=f"get {where_published('arm64-v8a')}",
        )
    return path


def find_libraries(named: Path | None) -> list[Path]:
    """The shared libraries in the folder that the user names, or in EVIT_PHONE_LIBRARIES.

    Raises:
        EvitError: it has none.
    """
    text = os.environ.get(LIBRARIES_VARIABLE, "")
    folder = named or (Path(text) if text else None)
    if folder is None:
        return []
    found = sorted(folder.expanduser().glob("*.so"))
    if not found:
        raise EvitError(
            f"there are no shared libraries (.so) in {folder}",
            hint=f"name the folder that has them with --phone-libraries or {LIBRARIES_VARIABLE}",
        )
    return found


def where_published(abi: str) -> str:
    """Addresses of Google's builds for an ABI, in words."""
    published = _PUBLISHED.get(abi)
    if published is None:
        return f"a build for {abi}: Google publishes none; build it from LiteRT's source"
    return " or ".join(published)


def check_tool(tool: Path, phone: Phone) -> str:
    """A short code for the tool's very build.

    Raises:
        EvitError: the phone cannot run it.
    """
    data = tool.read_bytes()
    abi = _abi_of(data[:20])
    best = phone.abis[0] if phone.abis else "arm64-v8a"
    if not abi:
        raise EvitError(f"{tool} is no program for Android", hint=f"get {where_published(best)}")
    if phone.abis and abi not in phone.abis:
        raise EvitError(
            f"{tool} is for {abi}, and the {phone.name} runs {', '.join(phone.abis)}",
            hint=f"get {where_published(best)}",
        )
    return hashlib.sha256(data).hexdigest()[:12]


def _abi_of(header: bytes) -> str:
    """The ABI an ELF file is for, "" if it is none that Android knows."""
    if len(header) < 20 or header[:4] != _ELF or header[5] != _LITTLE_ENDIAN:
        return ""
    return _ABIS.get(int.from_bytes(header[18:20], "little"), "")
