"""Engines that were built before: building takes minutes, and the same request gives the same.

An entry is two files named by the key's digest: `.engine`, what TensorRT wrote, and `.json`, the
key, the engine's sha256 and how long the build took. The second is written last, so that an engine
without it is none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from evit_cli.errors import EvitError
from evit_cli.weights.atomic import atomic_file

FORMAT = 1
_NAMES = {
    "onnx_sha256": "the ONNX file",
    "tensorrt": "TensorRT",
    "gpu": "the GPU",
    "compute_capability": "the GPU's compute capability",
    "precision": "the precision",
    "profile": "the device profile",
    "flags": "the build flags",
}
_SILENT = ("onnx_sha256", "flags")  # changed is all that is worth saying of them


@dataclass(frozen=True)
class EngineKey:
    """All that decides an engine's bytes.

    Attributes:
        onnx_sha256: of the ONNX file.
        tensorrt: its version; an engine runs with no other.
        gpu: the GPU's name.
        compute_capability: as "8.7".
        precision: "fp32", "fp16" or "int8".
        profile: name of the device profile, "" for none.
        flags: what else was asked of the builder, in order.
    """

    onnx_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    profile: str = ""
    flags: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The name of the entry."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def changes_from(self, other: EngineKey) -> tuple[str, ...]:
        """What differs, in words: "TensorRT was 10.3.0 and is 10.13.2"."""
        changes = []
        for name, words in _NAMES.items():
            was, now = getattr(other, name), getattr(self, name)
            if was == now:
                continue
            if name in _SILENT or not was or not now:
                verb = "have" if name == "flags" else "has"
                changes.append(f"{words} {verb} changed")
            else:
                changes.append(f"{words} was {was} and is {now}")
        return tuple(changes)


@dataclass(frozen=True)
class Found:
    """What a look into the cache gave.

    Attributes:
        engine: the file, None where it must be built.
        reason: one sentence for the user: where it comes from, or why it is built and how long
            that may take.
        changes: what is different from the engine of this model that is there.
    """

    engine: Path | None
    reason: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    key: EngineKey
    model: str
    engine_sha256: str
    build_s: float
    modified_s: float


def default_folder(env: Mapping[str, str] = os.environ) -> Path:
    """EVIT_CACHE_DIR/engines, or evit/engines in XDG_CACHE_HOME, or in ~/.cache."""
    own = env.get("EVIT_CACHE_DIR")
    if own:
        return Path(own).expanduser() / "engines"
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "evit" / "engines"


class EngineCache:
    """A folder of engines.

    Args:
        folder: where; made when something is stored.
        limit_bytes: beyond this, `store` drops the engines that were stored first.
    """

    def __init__(self, folder: Path | None = None, *, limit_bytes: int = 4 << 30) -> None:
        self.folder = default_folder() if folder is None else folder
        self.limit_bytes = limit_bytes

    def find(self, key: EngineKey, *, model: str) -> Found:
        """The engine for `key`.

        Args:
            key: what it must have been built from.
            model: name of the model; engines of it explain what changed.
        """
        entry, damage = self._sound(key.digest)
        if entry is not None:
            path = self._engine(key.digest)
            return Found(
                path, f"the engine was built before, in {_took(entry.build_s)}, and reused"
            )
        entries = [other for other in self._entries() if other.model == model]
        if damage:
            return Found(None, f"the engine is built again, because {damage}; {_may_take(entries)}")
        if not entries:
            return Found(None, f"no engine of {model} was built here yet; {_may_take(entries)}")
        nearest = min(entries, key=lambda e: (len(key.changes_from(e.key)), -e.modified_s))
        changes = key.changes_from(nearest.key)
        why = ", ".join(changes)
        return Found(
            None, f"the engine is built again, because {why}; {_may_take([nearest])}", changes
        )

    def store(self, key: EngineKey, engine: bytes, *, model: str, build_s: float) -> Path:
        """Keep an engine, as TensorRT serialised it.

        Args:
            key: what it was built from.
            engine: the bytes.
            model: name of the model.
            build_s: how long the build took, in seconds.

        Raises:
            EvitError: the folder cannot be written.
        """
        document = {
            "format": FORMAT,
            "model": model,
            "engine_sha256": hashlib.sha256(engine).hexdigest(),
            "build_s": round(build_s, 1),
            "key": asdict(key),
        }
        path = self._engine(key.digest)
        with suppress(OSError):  # an entry that is being replaced is none meanwhile
            self._note(key.digest).unlink(missing_ok=True)
        with atomic_file(path) as file:
            file.write(engine)
        with atomic_file(self._note(key.digest)) as file:
            file.write((json.dumps(document, indent=1) + "\n").encode())
        self._drop_oldest(keep=key.digest)
        return path

    def timing_file(self, key: EngineKey) -> Path:
        """Where TensorRT's measurements of this GPU are kept; they make the next build faster."""
        who = f"{key.tensorrt}|{key.gpu}|{key.compute_capability}"
        return self.folder / f"{hashlib.sha256(who.encode()).hexdigest()[:16]}.timing"

    def _engine(self, digest: str) -> Path:
        return self.folder / f"{digest}.engine"

    def _note(self, digest: str) -> Path:
        return self.folder / f"{digest}.json"

    def _sound(self, digest: str) -> tuple[_Entry | None, str]:
        """An entry that is whole, or what is wrong with it; what is damaged is dropped."""
        if not self._note(digest).exists():
            return None, ""
        entry = self._read(self._note(digest))
        damage = ""
        if entry is None or entry.key.digest != digest:
            damage = "what the cache says of it could not be read"
        else:
            try:
                with self._engine(digest).open("rb") as file:
                    whole = _sha(file) == entry.engine_sha256
                if not whole:
                    damage = "the one in the cache was damaged"
            except OSError:
                damage = "the one in the cache could not be read"
        if damage:
            self._drop(digest)
            return None, damage
        return entry, ""

    def _entries(self) -> Iterator[_Entry]:
        with suppress(OSError):
            for note in sorted(self.folder.glob("*.json")):
                entry = self._read(note)
                if entry is not None:
                    yield entry

    def _read(self, note: Path) -> _Entry | None:
        try:
            raw: dict[str, Any] = json.loads(note.read_text("utf-8"))
            if raw["format"] != FORMAT:
                return None
            fields = dict(raw["key"])
            key = EngineKey(**{**fields, "flags": tuple(fields["flags"])})
            return _Entry(
                key,
                str(raw["model"]),
                str(raw["engine_sha256"]),
                float(raw["build_s"]),
                note.stat().st_mtime,
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _drop(self, digest: str) -> None:
        for path in (self._note(digest), self._engine(digest)):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _drop_oldest(self, *, keep: str) -> None:
        """Engines are large and boards are small."""
        sizes: list[tuple[float, str, int]] = []
        for path in self.folder.glob("*.engine"):
            with suppress(OSError):
                status = path.stat()
                sizes.append((status.st_mtime, path.stem, status.st_size))
        total = sum(size for _, _, size in sizes)
        for _, digest, size in sorted(sizes):
            if total <= self.limit_bytes:
                return
            if digest != keep:
                self._drop(digest)
                total -= size


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal.

    Raises:
        EvitError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _sha(file)
    except OSError as error:
        raise EvitError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error


def _sha(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _took(build_s: float) -> str:
    return f"{build_s:.0f} s" if build_s < 120 else f"{build_s / 60:.0f} min"


def _may_take(entries: list[_Entry]) -> str:
    """How long a build may take, by the longest that is known."""
    if not entries:
        return "building it may take minutes"
    return f"building it may take minutes, the last one took {_took(entries[-1].build_s)}"
