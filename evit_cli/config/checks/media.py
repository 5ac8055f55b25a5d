"""Checks of what reads and writes video: PyAV's codecs, OpenCV's build, GStreamer's tool."""

from __future__ import annotations

import importlib
import re
import shutil

from evit_cli.config.checks.libraries import is_there
from evit_cli.config.checks.result import Check, guarded, missing, ok

_GSTREAMER = (
    "sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
)
_PYAV = "pip install --force-reinstall --only-binary av av"

# Codec, its mode in PyAV (w writes, r reads) and what evit uses it for.
_CODECS = (
    ("libx264", "w", "writes H.264 video"),
    ("aac", "w", "keeps the sound of a video"),
    ("h264", "r", "reads most videos and cameras"),
    ("hevc", "r", "reads phone videos"),
)


def check_codecs() -> list[Check]:
    """PyAV's codecs; the published wheels have all of them, a system's own PyAV may not."""
    if not is_there("av"):
        return []
    av = importlib.import_module("av")
    found = []
    for codec, mode, use in _CODECS:
        name = f"codec {codec}"
        try:
            av.Codec(codec, mode)
        except ValueError:  # av.codec.codec.UnknownCodecError is one
            found.append(missing(name, f"PyAV lacks the one that {use}", _PYAV))
        else:
            found.append(ok(name, use))
    return found


def check_opencv_build() -> list[Check]:
    """What OpenCV was built with: windows for --show. Its GStreamer is not needed."""
    if not is_there("cv2"):
        return []
    text = importlib.import_module("cv2").getBuildInformation()
    gui = _built_with(text, "GUI")
    gstreamer = _built_with(text, "GStreamer")
    detail = f"windows: {gui or 'none'}, GStreamer: {gstreamer or 'no'} (evit uses gst-launch-1.0)"
    if gui:
        return [ok("opencv windows", detail)]
    mend = "pip uninstall -y opencv-python-headless && pip install opencv-python"
    return [missing("opencv windows", f"{detail}; --show needs them", mend)]


def _built_with(build_information: str, what: str) -> str:
    """The value of a line such as "  GUI:    QT5", "" for NONE and NO."""
    found = re.search(rf"^\s*{what}:[ \t]*(\S.*)?$", build_information, re.MULTILINE)
    value = (found[1] or "").strip() if found else ""
    return "" if value.upper() in {"NONE", "NO"} else value


def check_gstreamer() -> Check:
    """The tool that runs GStreamer pipelines."""
    path = shutil.which("gst-launch-1.0")
    if path is None:
        return missing("gst-launch-1.0", "not found; gst: sources need it", _GSTREAMER)
    return ok("gst-launch-1.0", path)


def check_media() -> list[Check]:
    """All of them, each guarded: a library that does not import shall not hide the others."""
    return [
        *guarded("PyAV codecs", check_codecs),
        *guarded("opencv windows", check_opencv_build),
        *guarded("gst-launch-1.0", check_gstreamer),
    ]
