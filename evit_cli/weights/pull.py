"""Fetches weights ahead of their use, into the hub cache or into a folder to carry elsewhere."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from evit_cli.errors import EvitError, UsageError
from evit_cli.types import Progress
from evit_cli.weights import hub
from evit_cli.weights.atomic import atomic_file
from evit_cli.weights.checkpoint import check_sha256, sha256_of
from evit_cli.weights.hub import HubFile
from evit_cli.weights.source import expected_sha256, on_hub, parse


@dataclass(frozen=True)
class Pulled:
    """A fetched file.

    Attributes:
        name: what was asked for.
        path: the file, absolute.
        sha256: its hash.
        size_bytes: its size.
        checked: whether the hash was compared with a published or announced one.
        kept: whether it was there already and was left alone.
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int
    checked: bool
    kept: bool


def pull(
    name: str,
    *,
    to: Path | None = None,
    force: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch the weights of a catalog name or an hf:// address, and check them.

    Args:
        name: what to fetch.
        to: a folder that gets a copy at owner/repo/file, for EVIT_MODELS_DIR; None leaves the
            file in the hub cache.
        force: fetch a damaged cached file again, and overwrite a differing copy.
        offline: make no network request.
        progress: told how much of a download has arrived.

    Raises:
        EvitError: the file cannot be had, is not the published one, or would overwrite another.
        UsageError: `name` is a local file.
    """
    source = parse(name)
    if isinstance(source, Path):
        raise UsageError(f"'{name}' is on this machine already", hint="name a model to fetch")
    wanted, entry = on_hub(source, offline=offline)
    expected = expected_sha256(wanted, entry)
    target = (
        None if to is None else Path(os.path.expanduser(to)).absolute() / wanted.repo / wanted.file
    )
    if target is not None and expected is not None and target.is_file():
        if sha256_of(target) == expected:
            return Pulled(name, target, expected, target.stat().st_size, True, True)
    was_cached = hub.find_cached(wanted) is not None
    path, sha256, checked = _fetch_checked(wanted, expected, force, offline, progress)
    if target is not None:
        was_cached = _copy(path, target, sha256, force)
        path = target
    return Pulled(name, path, sha256, path.stat().st_size, checked, was_cached)


def _fetch_checked(
    wanted: HubFile, expected: str | None, force: bool, offline: bool, progress: Progress | None
) -> tuple[Path, str, bool]:
    """The file in the cache, its hash, and whether that could be compared with anything."""
    path = hub.fetch(wanted, offline=offline, progress=progress)
    right = expected or hub.announced_sha256(path)
    sha256 = sha256_of(path)
    if right not in (None, sha256) and force and not hub.is_offline(offline):
        hub.drop(path)
        path = hub.fetch(wanted, offline=offline, progress=progress)
        sha256 = sha256_of(path)
    if right is not None:
        check_sha256(path, sha256, right)
    return path, sha256, right is not None


def _copy(path: Path, target: Path, sha256: str, force: bool) -> bool:
    """Copy unless the same file is there; returns whether it was."""
    if target.exists():
        if target.is_file() and sha256_of(target) == sha256:
            return True
        if not force or not target.is_file():
            raise EvitError(
                f"{target} is there already and is another file",
                hint="overwrite it with --force, or choose another folder",
            )
    with open(path, "rb") as content, atomic_file(target) as copy:
        shutil.copyfileobj(content, copy, 1 << 20)
    if sha256_of(target) != sha256:
        target.unlink(missing_ok=True)
        raise EvitError(f"the copy at {target} came out damaged and was removed")
    return False
