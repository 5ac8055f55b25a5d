"""Reads and writes weights files. Nothing in a file is ever run: only tensors come out of it."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evit_cli.errors import EvitError, require
from evit_cli.models.variants import Variant
from evit_cli.types import ModelInfo
from evit_cli.weights import metadata
from evit_cli.weights.atomic import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 20
_LEGACY = b"\x80\x02"
"""How a PyTorch file from before the zip format begins: pickle protocol 2."""
_AGAIN = "fetch it again; `evit models pull NAME` checks what it fetches"
_ACCEPTED = "evit reads .safetensors files and PyTorch state dicts (.pt, .pth)"


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file (floating ones as float32) and what it says about itself."""

    state: dict[str, Tensor]
    saved: metadata.SavedInfo | None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, read in pieces.

    Raises:
        EvitError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def check_sha256(path: Path, actual: str, expected: str) -> None:
    """Compare the hash of a file with the published one.

    Raises:
        EvitError: they differ; the message names both.
    """
    if actual != expected:
        raise EvitError(
            f"{path} is not the published file: its sha256 is {actual}, not {expected}",
            hint="fetch it again with `evit models pull --force`, or, trusting it, load it as it is"
            f" with --weights {path}",
        )


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in `path`: safetensors, or a PyTorch state dict read without running code.

    A training checkpoint may hold more; its `state_dict` is taken.

    Raises:
        EvitError: the file is missing, damaged, empty, unsafe or not weights.
        MissingDependency: torch is not installed.
    """
    head = _head(path)
    require("torch", extra="torch", why="reading weights")
    if head.startswith(b"PK"):
        _check_zip(path)
    elif path.suffix.lower() == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    elif not head.startswith(b"\x80"):
        raise EvitError(f"{path} is not a weights file", hint=_ACCEPTED)
    elif not head.startswith(_LEGACY):
        raise _unsafe(path, "is a pickle of arbitrary Python objects")
    return Checkpoint(_as_float32(_state_dict(_load_pickled(path), path)), None)


def save_weights(
    path: Path, model_state: Mapping[str, Tensor], info: ModelInfo, variant: Variant
) -> None:
    """Write weights that say what they are, as safetensors; `path` is never left half written.

    Args:
        path: where to; an existing file is replaced in one step.
        model_state: our `state_dict()`.
        info: name, classes, preprocessing and licence, for whoever loads the file.
        variant: the model's variant with its class count.

    Raises:
        EvitError: the system refused to write.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model_state.items()}
    content = save(tensors, {metadata.KEY: metadata.encode(info, variant)})
    with atomic_file(path) as file:
        file.write(content)


def _unreadable(path: Path, error: OSError) -> EvitError:
    if isinstance(error, FileNotFoundError):
        return EvitError(f"there is no file {path}")
    if isinstance(error, IsADirectoryError):
        return EvitError(f"{path} is a folder, not a weights file")
    return EvitError(f"cannot read {path}: {(error.strerror or str(error)).lower()}")


def _head(path: Path) -> bytes:
    """The first bytes of a file that can be weights at all."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not head:
        raise EvitError(f"{path} is empty", hint=_AGAIN)
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise EvitError(
            f"{path} is a web page, not weights",
            hint="on the hub, the download link has 'resolve' where the page has 'blob'",
        )
    if text.startswith(b"version https://git-lfs"):
        raise EvitError(
            f"{path} is a Git LFS pointer, not the weights it points to",
            hint="run `git lfs pull` in its repository, or use `evit models pull`",
        )
    return head


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(metadata.KEY)
            # Copied, because the library maps the file: changing it later would change the model.
            state = {name: file.get_tensor(name).clone() for name in file.keys()}
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if not state:
        raise EvitError(f"{path} holds no tensors", hint=_ACCEPTED)
    try:
        saved = None if text is None else metadata.decode(text)
    except ValueError as error:
        raise EvitError(
            f"{path} was written by another evit or is damaged: {error}",
            hint="load it with the evit that wrote it, or fetch it again",
        ) from error
    return Checkpoint(_as_float32(state), saved)


def _unsafe(path: Path, why: str) -> EvitError:
    return EvitError(
        f"{path} {why}, and loading it could run code, so it was not opened",
        hint="save its state dict alone, best as .safetensors",
    )


def _damaged(path: Path, detail: str) -> EvitError:
    return EvitError(f"{path} is damaged or cut short ({detail})", hint=_AGAIN)


def _check_zip(path: Path) -> None:
    """Compare the checksums of a zip's tensors, which torch.load does not.

    A writer may have left them out; then none fits, while damage spoils some.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            names = {record.filename.partition("/")[2] for record in records}
            if "data.pkl" not in names or "constants.pkl" in names:
                what = "a TorchScript program" if "constants.pkl" in names else "a zip archive"
                raise EvitError(f"{path} is {what}, not weights", hint=_ACCEPTED)
            bad = [record.filename for record in records if not _sound(archive, record)]
    except (zipfile.BadZipFile, EOFError, RuntimeError, zlib.error) as error:
        raise _damaged(path, str(error).lower()) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if bad and len(bad) < len(records):
        raise _damaged(path, f"'{bad[0]}' does not fit its checksum")


def _sound(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(record) as file:
            while file.read(_CHUNK):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _load_pickled(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL:? (\S+)", str(error))
        what = f"objects other than tensors ({unsafe[1]})" if unsafe else "more than tensors"
        raise _unsafe(path, f"holds {what}") from error
    except MemoryError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, ... on damage
        if "magic number" in str(error):
            raise EvitError(f"{path} is a pickle, not a weights file", hint=_ACCEPTED) from error
        raise _damaged(path, str(error).partition("\n")[0].partition(". ")[0].lower()) from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    import torch

    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise EvitError(f"{path} holds no tensors", hint=_ACCEPTED)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise EvitError(
                f"{path} is not a state dict: its entry '{name}' is {type(value).__name__},"
                " not a tensor",
                hint=_ACCEPTED,
            )
    return dict(content)


def _as_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
