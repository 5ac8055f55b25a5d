"""From what a user types as SOURCE to a `Source`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from evit_cli.errors import EvitError
from evit_cli.media.frame import Source
from evit_cli.media.images import IMAGE_SUFFIXES, ImageSource, natural_key
from evit_cli.media.rules import SourceRules, rules_here

_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt")
_FILE_SCHEMES = ("http", "https")
_GLOB_CHARACTERS = "*?["
_CAMERA_DIGITS = 3
"""Longer numbers are folders: dates, for example."""


def _images_in(folder: Path) -> Source:
    paths = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir()),
        key=natural_key,
    )
    if not paths:
        raise EvitError(
            f"the folder {folder} holds no images",
            hint=f"evit reads {' '.join(IMAGE_SUFFIXES)}; give a video by its own path",
        )
    return ImageSource(paths, name=folder.resolve().name, root=folder)


def _matching(pattern: str) -> Source:
    paths = sorted((Path(p) for p in glob.glob(pattern, recursive=True)), key=natural_key)
    images = [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir()]
    if not images:
        raise EvitError(
            f"no image matches {pattern}",
            hint=f"evit reads {' '.join(IMAGE_SUFFIXES)}; give videos one by one",
        )
    fixed = pattern[: min(i for i, c in enumerate(pattern) if c in _GLOB_CHARACTERS)]
    root = Path(fixed) if fixed.endswith("/") else Path(fixed).parent
    return ImageSource(images, name=root.resolve().name, root=root)


def _network(url: str, rules: SourceRules) -> Source:
    from evit_cli.media.open_live import open_network
    from evit_cli.media.video import VideoSource

    try:
        parts = urlsplit(url)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    except ValueError as error:
        raise EvitError(f"{url} is not an address: {error}") from error
    if parts.scheme not in _LIVE_SCHEMES + _FILE_SCHEMES:
        raise EvitError(f"evit cannot read {parts.scheme}:// addresses")
    name = parts.hostname or parts.scheme
    if parts.scheme in _FILE_SCHEMES:
        return VideoSource(url, name=Path(parts.path).stem or name, shown=shown)
    return open_network(url, name=name, shown=shown, rules=rules)


def _local(text: str, rules: SourceRules) -> Source:
    """A path or a glob."""
    from evit_cli.media.open_live import open_device, open_video

    path = Path(os.path.expanduser(text))
    # os.path, because a name that is too long does not exist either.
    if os.path.isdir(path):
        return _images_in(path)
    if not os.path.exists(path):
        if any(character in text for character in _GLOB_CHARACTERS):
            return _matching(str(path))
        raise EvitError(f"{text} does not exist", hint="check the path; quote globs")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource([path], name=path.stem, root=path.parent)
    if path.is_char_device():
        return open_device(str(path), name=path.name, rules=rules)
    if path.is_file() and path.stat().st_size == 0:
        raise EvitError(f"{text} is empty")
    return open_video(path, rules)


def find_source(text: str, rules: SourceRules | None = None) -> Source:
    """The source that a user means: image, folder, glob, video, camera, stream or pipeline.

    Args:
        text: what the user typed.
        rules: the board's elements, limits of live sources and who is told; None takes those of
            this machine and environment.

    Raises:
        EvitError: there is nothing there, or nothing that can be read.
        MissingDependency: a GStreamer pipeline without GStreamer.
    """
    from evit_cli.media.gstreamer import looks_like_pipeline
    from evit_cli.media.open_live import open_camera, open_csi, open_pipeline

    if not text.strip():
        raise EvitError("SOURCE is empty", hint="name an image, folder, video, camera or stream")
    rules = rules or rules_here()
    if text.isdecimal() and len(text) <= _CAMERA_DIGITS:
        return open_camera(int(text), rules)
    if looks_like_pipeline(text) and not os.path.exists(text):
        return open_pipeline(text, rules)
    if text.startswith("csi:"):
        return open_csi(text, rules)
    if "://" in text:
        return _network(text, rules)
    return _local(text, rules)


@contextmanager
def open_source(text: str, rules: SourceRules | None = None) -> Iterator[Source]:
    """`find_source`, closed at the end of the context."""
    source = find_source(text, rules)
    try:
        yield source
    finally:
        source.close()
