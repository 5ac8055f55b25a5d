"""A teacher's outputs for every example, in shards that are read at random.

teacher/key.json            what the outputs are of; another key empties the folder
teacher/00000.safetensors   examples 0 .. 63: tensors "0.logits", "0.stride8", ...
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError

PER_SHARD = 64
Outputs = Mapping[str, npt.NDArray[np.float16]]
Write = Callable[[Path, bytes], None]


@dataclass
class OutputShards:
    """Outputs by example index.

    Args:
        folder: of the shards.
        count: how many examples there are.
    """

    folder: Path
    count: int
    _open: dict[int, Any] = field(default_factory=dict, repr=False)

    def prepare(self, key: Mapping[str, Any], write: Write) -> None:
        """Make the folder fit `key`: shards that were made for another one are removed."""
        text = json.dumps(key, sort_keys=True)
        path = self.folder / "key.json"
        if path.is_file() and path.read_text("utf-8") == text:
            return
        if self.folder.exists():
            shutil.rmtree(self.folder)
        write(path, text.encode())

    def missing(self) -> list[range]:
        """The example ranges of the shards that are not there yet."""
        starts = range(0, self.count, PER_SHARD)
        ranges = (range(start, min(start + PER_SHARD, self.count)) for start in starts)
        return [indices for indices in ranges if not self._path(indices.start).is_file()]

    def write(self, indices: range, outputs: Sequence[Outputs], write: Write) -> None:
        """Store the outputs of one whole shard."""
        from safetensors.numpy import save

        tensors = {
            f"{index}.{name}": np.ascontiguousarray(values)
            for index, example in zip(indices, outputs, strict=True)
            for name, values in example.items()
        }
        write(self._path(indices.start), save(tensors))

    def read(self, index: int) -> dict[str, npt.NDArray[np.float16]]:
        """The outputs of one example, by name.

        Raises:
            EvitError: its shard is missing or damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = self._path(index)
        try:
            if index // PER_SHARD not in self._open:
                self._open[index // PER_SHARD] = safe_open(path, framework="numpy")
            file = self._open[index // PER_SHARD]
            prefix = f"{index}."
            names = self._names(file)
            return {name: file.get_tensor(prefix + name) for name in names}
        except (OSError, SafetensorError) as error:
            raise EvitError(
                f"{path} does not hold the teacher's outputs ({error})",
                hint="remove the file and run the same command: it is made again",
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files, which another process cannot use."""
        return {"folder": self.folder, "count": self.count, "_open": {}}

    @staticmethod
    def _names(file: Any) -> list[str]:
        return sorted({key.partition(".")[2] for key in file.keys()})

    def _path(self, index: int) -> Path:
        return self.folder / f"{index // PER_SHARD:05d}.safetensors"
