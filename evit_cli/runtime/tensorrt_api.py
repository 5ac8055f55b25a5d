"""What the builder and the session share: importing TensorRT, and hearing what it complains of.

Written against NVIDIA's documented Python API of 10.x and 11.x and not run on a GPU by us.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from evit_cli.errors import MissingDependency

_PIP = 'pip install "evit-cli[tensorrt]"'
_APT = (
    "sudo apt-get install python3-libnvinfer libnvinfer-bin "
    "&& python3 -m venv --system-site-packages .venv"
)
_TEGRA_RELEASE = Path("/etc/nv_tegra_release")  # as config/machine.py tells a Jetson
_CODE = re.compile(r"^.*?Error Code \d+: [^(]*\((.*)\)\s*$", re.DOTALL)
_SOURCE = re.compile(r"^(?:\d+: )?\[[^\]]*::[^\]]*\] *")


def import_tensorrt(why: str) -> ModuleType:
    """The `tensorrt` module.

    Args:
        why: what needs it, the beginning of the sentence that says that it is missing.

    Raises:
        MissingDependency: it is not installed, or does not import.
    """
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        gone = isinstance(error, ModuleNotFoundError) and error.name == "tensorrt"
        what = "which is not installed" if gone else f"which does not import: {error}"
        raise MissingDependency(
            f"{why} needs TensorRT, {what}", hint=_APT if _TEGRA_RELEASE.is_file() else _PIP
        ) from error


def major_version(trt: ModuleType) -> int:
    """10 for "10.13.2.6"."""
    return int(str(trt.__version__).partition(".")[0])


@dataclass
class Complaints:
    """The errors that TensorRT logged; functions that fail return None or False and log why."""

    errors: list[str] = field(default_factory=list)

    @property
    def first(self) -> str:
        """The first error without its source and code: what follows it are consequences."""
        return plain(self.errors[0]) if self.errors else "it does not say why"

    def mention(self, *words: str) -> bool:
        """Whether any error contains one of `words`, without regard to case."""
        text = "\n".join(self.errors).lower()
        return any(word in text for word in words)


def plain(message: str) -> str:
    """One line of a TensorRT message, without error code, source file and full stop.

    >>> plain("IBuilder::build: Error Code 10: Internal Error (No implementation for node x.)")
    'No implementation for node x'
    """
    text = " ".join(message.split())
    found = _CODE.match(text)
    text = found[1] if found else text
    return _SOURCE.sub("", text).strip().rstrip(".")


def make_logger(trt: ModuleType, complaints: Complaints) -> Any:
    """An `ILogger` that keeps errors instead of printing them.

    Documented: a subclass of `trt.ILogger` calls its `__init__` and implements
    `log(severity, msg)`; it must live as long as what was made with it.
    """
    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in severe:
                complaints.errors.append(msg)

    return Logger()
