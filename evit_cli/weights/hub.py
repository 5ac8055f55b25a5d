"""Files of Hugging Face Hub repositories: from the cache when they are there, else downloaded.

The cache is looked into here and not through huggingface_hub: importing that takes longer than
the look, and even its cache-only calls may make requests (for a token, for its statistics).
"""

from __future__ import annotations

import logging
import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evit_cli.errors import EvitError
from evit_cli.types import NoProgress, Progress
from evit_cli.weights.checkpoint import sha256_of
from evit_cli.weights.hub_errors import damaged, explain, no_network, not_cached

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class HubFile:
    """One file of a model repository at a revision (branch, tag or commit)."""

    repo: str
    file: str
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        pinned = self.revision != DEFAULT_REVISION or "@" in self.file
        return f"hf://{self.repo}/{self.file}" + (f"@{self.revision}" if pinned else "")


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, read when asked for."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def cache_dir() -> Path:
    """The hub cache, by the same environment variables as huggingface_hub."""
    env = os.environ
    home = env.get("HF_HOME") or os.path.join(env.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    path = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(path)))


def is_offline(offline: bool) -> bool:
    """Whether no request may be made: `--offline` or HF_HUB_OFFLINE."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def snapshot_dir(repo: str, revision: str) -> Path | None:
    """The cached snapshot of a repository at `revision`, None when there is none."""
    folder = cache_dir() / ("models--" + repo.replace("/", "--"))
    try:
        commit = (folder / "refs" / revision).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = revision
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def find_cached(wanted: HubFile, *, any_commit: bool = False) -> Path | None:
    """The cached file, without any request; None when it is not there.

    Args:
        wanted: the file.
        any_commit: for the default branch, also take the newest snapshot that has the file. A
            later download of another file moves the branch on, and this one stays behind.
    """
    snapshot = snapshot_dir(wanted.repo, wanted.revision)
    if snapshot and (snapshot / wanted.file).is_file():
        return snapshot / wanted.file
    if not any_commit or wanted.revision != DEFAULT_REVISION:
        return None
    snapshots = cache_dir() / ("models--" + wanted.repo.replace("/", "--")) / "snapshots"
    found = [p for p in snapshots.glob("*") if (p / wanted.file).is_file()]
    newest = max(found, key=lambda p: p.stat().st_mtime, default=None)
    return newest / wanted.file if newest else None


def commit_of(cached: Path) -> str:
    """The commit whose snapshot a cached file belongs to, empty for other files."""
    parts = cached.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else ""


def fetch(wanted: HubFile, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """The path of the file in the hub cache, downloading it when it is not there.

    With the file in the cache no request is made.

    Raises:
        EvitError: it is not cached and cannot be had; the hint says where to put it by hand.
    """
    cached = find_cached(wanted)
    if cached:
        return cached
    try:
        if is_offline(offline):
            raise not_cached(wanted, cache_dir())
        _check_reachable(wanted)
    except EvitError:
        older = find_cached(wanted, any_commit=True)
        if older:
            return older
        raise
    return _download(wanted, progress or NoProgress())


def list_files(repo: str, revision: str, *, offline: bool = False) -> list[str]:
    """Paths of all files of a repository; offline, those that are cached.

    Raises:
        EvitError: the repository or the hub cannot be reached.
    """
    wanted = HubFile(repo, "the list of files", revision)
    if is_offline(offline):
        snapshot = snapshot_dir(repo, revision)
        if snapshot is None:
            raise not_cached(wanted, cache_dir())
        return sorted(
            p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()
        )
    _check_reachable(wanted)
    from huggingface_hub import HfApi

    with _quiet():
        try:
            return list(HfApi(endpoint()).list_repo_files(repo, revision=revision))
        except Exception as error:  # whatever the client raises ends in one sentence
            raise explain(error, wanted, endpoint(), cache_dir()) from error


def _check_reachable(wanted: HubFile) -> None:
    """Fail at once when the hub cannot be reached; the client would retry for half a minute."""
    url = urlsplit(endpoint())
    host, proxies = url.hostname or "", urllib.request.getproxies()
    if (url.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
        return
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:  # ValueError: HF_ENDPOINT is no address
        raise no_network(wanted, endpoint(), error) from error


def _download(wanted: HubFile, progress: Progress) -> Path:
    from huggingface_hub import hf_hub_download

    with _quiet():
        try:
            # The endpoint and the cache are given, not left to constants read at import.
            path = Path(
                hf_hub_download(
                    wanted.repo,
                    wanted.file,
                    revision=wanted.revision,
                    endpoint=endpoint(),
                    cache_dir=cache_dir(),
                    library_name="evit",
                    tqdm_class=_bar_class(progress),
                )
            )
        except MemoryError:
            raise
        except Exception as error:  # whatever the client raises ends in one sentence
            raise explain(error, wanted, endpoint(), cache_dir()) from error
        finally:
            progress.close()
    announced = announced_sha256(path)
    if announced is not None and sha256_of(path) != announced:
        drop(path)
        raise damaged(wanted)
    return path


def announced_sha256(cached: Path) -> str | None:
    """The hash that the hub announced for a cached file, None where it announced none.

    The cache names the content of large files by their sha256.
    """
    name = cached.resolve().name
    return name if commit_of(cached) and re.fullmatch("[0-9a-f]{64}", name) else None


def drop(cached: Path) -> None:
    """Take a file out of the cache, so that the next `fetch` downloads it."""
    content = cached.resolve()
    for path in (cached, content):
        path.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's own talk (retries, hints) off standard error."""

    def refuse(record: logging.LogRecord) -> bool:
        return False

    # A filter of one's own, not the level: two threads would restore each other's.
    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(refuse)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(refuse)


def _bar_class(progress: Progress) -> Any:
    """A progress bar for huggingface_hub that draws nothing and reports to `progress`."""

    class Bar:
        def __init__(self, *_: object, total: int | None = None, **__: object) -> None:
            self.total, self.n = total, 0
            progress.start(total, "byte")

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            progress.advance(int(count or 0))

        def update_transfer(self, *_: object, **__: object) -> None:
            """Having it tells the client that one bar is enough."""

        set_transfer_postfix_str = set_postfix_str = refresh = close = update_transfer

    return Bar
