"""From what a user types as a model to a weights file on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from evit_cli.errors import EvitError, suggest
from evit_cli.types import Progress
from evit_cli.weights import hub
from evit_cli.weights.catalog import CATALOG, CatalogEntry, entry_of_file, find_entry
from evit_cli.weights.embedded import EMBEDDED
from evit_cli.weights.hub import DEFAULT_REVISION, HubFile

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth")
PREFERRED_FILE = "model.safetensors"
MODELS_DIR = "EVIT_MODELS_DIR"

_FORM = "write hf://owner/repo, hf://owner/repo/file or hf://owner/repo/file@revision"
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")


@dataclass(frozen=True)
class HubAddress:
    """A parsed hf:// address; without a file it means the repository's only weights."""

    repo: str
    file: str | None = None
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        if self.file is not None:
            return str(HubFile(self.repo, self.file, self.revision))
        pinned = self.revision != DEFAULT_REVISION
        return f"hf://{self.repo}" + (f"@{self.revision}" if pinned else "")


Source = CatalogEntry | HubAddress | Path


@dataclass(frozen=True)
class Located:
    """A weights file on this machine.

    Attributes:
        path: the file.
        address: where it came from: an hf:// address with its commit, or the path.
        entry: the catalog entry it was asked for or fetched as, None for other files.
        expected_sha256: what its hash has to be, None where nobody published one.
        from_hub: whether it is a hub repository's file, here or in the models folder.
    """

    path: Path
    address: str
    entry: CatalogEntry | None = None
    expected_sha256: str | None = None
    from_hub: bool = False


def parse(text: str) -> Source:
    """What `text` means: a catalog name, an hf:// address, or a file or folder that exists.

    Raises:
        EvitError: it is none of these.
    """
    if text.startswith("hf://"):
        return parse_address(text)
    entry = find_entry(text)
    if entry is not None:
        return entry
    if text in EMBEDDED:
        return EMBEDDED[text].weights
    path = Path(os.path.expanduser(text))  # which, unlike Path's, knows no unknown users
    if text and _exists(path):
        return path
    if "://" in text:
        raise EvitError(f"'{text}' is not an address evit reads", hint=_FORM)
    if path.suffix.lower() in WEIGHT_SUFFIXES or any(sep in text for sep in "/\\"):
        raise EvitError(f"there is no file or folder '{text}'", hint="check the path")
    raise EvitError(
        f"there is no model or file '{text}'", hint=suggest(text, [*CATALOG, *EMBEDDED])
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a zero byte: no file is called that
        return False


def parse_address(text: str) -> HubAddress:
    """Read hf://owner/repo[/file][@revision]; what follows the last @ is the revision.

    >>> parse_address("hf://timm/efficientvit_b1.r256_in1k@v2").revision
    'v2'

    Raises:
        EvitError: the text does not have that form.
    """
    body, at, revision = text.removeprefix("hf://").rpartition("@")
    if not at:
        body, revision = revision, DEFAULT_REVISION
    elif PurePosixPath(revision).suffix.lower() in WEIGHT_SUFFIXES and "/" in revision:
        mended = "/".join((body, revision.partition("/")[2])) + "@" + revision.partition("/")[0]
        raise EvitError(f"'{text}' has its revision in the middle", hint=f"write hf://{mended}")
    owner, _, rest = body.partition("/")
    name, slash, file = rest.partition("/")
    valid = (
        all(
            _NAME.fullmatch(part) and "--" not in part and ".." not in part
            for part in (owner, name)
        )
        and (not slash or _is_plain_path(file))
        and _REVISION.fullmatch(revision)
        and _is_plain_path(revision)
    )
    if not valid or not text.startswith("hf://"):
        raise EvitError(f"'{text}' is not a hub address", hint=_FORM)
    return HubAddress(f"{owner}/{name}", file if slash else None, revision)


def _is_plain_path(text: str) -> bool:
    """A relative path that stays where it is and prints on one line."""
    parts = text.split("/")
    return text.isprintable() and "\\" not in text and not any(p in ("", ".", "..") for p in parts)


def locate(text: str, *, offline: bool = False, progress: Progress | None = None) -> Located:
    """The weights file that `text` means, fetched from the hub when it is not on this machine.

    Raises:
        EvitError: there is no such model, or it cannot be had.
    """
    source = parse(text)
    if isinstance(source, Path):
        return locate_path(source)
    wanted, entry = on_hub(source, offline=offline)
    path = _in_models_dir(wanted)
    address = str(path.absolute()) if path else ""
    if path is None:
        path = hub.fetch(wanted, offline=offline, progress=progress)
        address = str(HubFile(wanted.repo, wanted.file, hub.commit_of(path) or wanted.revision))
    return Located(path, address, entry, expected_sha256(wanted, entry), from_hub=True)


def on_hub(
    source: CatalogEntry | HubAddress, *, offline: bool = False
) -> tuple[HubFile, CatalogEntry | None]:
    """The hub file that `source` means, and the catalog entry whose file that is.

    Raises:
        EvitError: an address without a file does not lead to one.
    """
    if isinstance(source, CatalogEntry):
        return HubFile(source.repo, source.file, source.revision), source
    file = source.file or _only_weights(source, offline)
    return HubFile(source.repo, file, source.revision), entry_of_file(source.repo, file)


def expected_sha256(wanted: HubFile, entry: CatalogEntry | None) -> str | None:
    """The published hash of a hub file; the catalog knows those of its own revision only."""
    return entry.sha256 if entry is not None and entry.revision == wanted.revision else None


def locate_path(path: Path) -> Located:
    """A local weights file, or the only one in a local folder.

    Raises:
        EvitError: there is none, or the folder holds several.
    """
    if path.is_dir():
        path = _weights_in_folder(path)
    return Located(path, str(path.absolute()))


def find_local(entry: CatalogEntry) -> Path | None:
    """Where the entry's file is on this machine, None when it would have to be fetched."""
    wanted = HubFile(entry.repo, entry.file, entry.revision)
    return _in_models_dir(wanted) or hub.find_cached(wanted, any_commit=True)


def _in_models_dir(wanted: HubFile) -> Path | None:
    """The file in the folder that `evit models pull --to` filled; it holds default revisions."""
    folder = os.environ.get(MODELS_DIR)
    if not folder or wanted.revision != DEFAULT_REVISION:
        return None
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise EvitError(
            f"{MODELS_DIR} names {root}, which is not a folder", hint="mend or unset it"
        )
    places = [root / wanted.repo / wanted.file]
    if wanted.file != PREFERRED_FILE:  # else the name alone does not tell which model it is
        places.append(root / wanted.file)
    return next((path for path in places if path.is_file()), None)


def _only_weights(address: HubAddress, offline: bool) -> str:
    """The file that an address without one means."""
    known = [e.file for e in CATALOG.values() if e.repo == address.repo]
    if len(known) == 1:
        return known[0]
    preferred = HubFile(address.repo, PREFERRED_FILE, address.revision)
    if _in_models_dir(preferred) or hub.find_cached(preferred):
        return PREFERRED_FILE
    files = hub.list_files(address.repo, address.revision, offline=offline)
    return _choose(files, str(address), f"hf://{address.repo}/")


def _weights_in_folder(folder: Path) -> Path:
    """The only weights of a folder; a deeper level counts when the ones above hold none."""
    for pattern in ("*", "*/*", "*/*/*"):  # three levels: owner/repo/file
        files = [p.relative_to(folder).as_posix() for p in folder.glob(pattern) if p.is_file()]
        if any(PurePosixPath(file).suffix.lower() in WEIGHT_SUFFIXES for file in files):
            return folder / _choose(files, str(folder), f"{folder}/")
    return folder / _choose([], str(folder), "")


def _choose(files: Iterable[str], where: str, prefix: str) -> str:
    """The one weights file among `files`.

    Raises:
        EvitError: there is none, or several and no "model.safetensors".
    """
    weights = sorted(f for f in files if PurePosixPath(f).suffix.lower() in WEIGHT_SUFFIXES)
    if PREFERRED_FILE in weights:
        return PREFERRED_FILE
    if not weights:
        endings = ", ".join(WEIGHT_SUFFIXES)
        raise EvitError(f"{where} holds no weights ({endings})", hint="name the file itself")
    if len(weights) > 1:
        raise EvitError(
            f"{where} holds {len(weights)} weights files: {', '.join(weights)}",
            hint=f"name one of them, for example {prefix}{weights[0]}",
        )
    return weights[0]
