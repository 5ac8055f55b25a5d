"""The run folder: what was run, where, and how it went.

recipe.yaml         the recipe with every default written out
environment.json    versions, machine, processes, command line
log.jsonl           one line every few seconds, one per evaluation
last.ckpt           everything needed to go on (`--resume auto`)
best.safetensors    the weights with the best metric so far
last.safetensors    the newest evaluated weights
report.html         curves, and predictions on fixed validation images
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evit_cli import __version__
from evit_cli.errors import EvitError
from evit_cli.train.checkpoint import FILE_NAME
from evit_cli.weights.atomic import atomic_file


@dataclass(frozen=True)
class RunFolder:
    """Where one training keeps its files."""

    root: Path

    @property
    def checkpoint(self) -> Path:
        """Where the run can go on from."""
        return self.root / FILE_NAME

    @property
    def recipe(self) -> Path:
        """The frozen recipe."""
        return self.root / "recipe.yaml"

    @property
    def log(self) -> Path:
        """One JSON document per line."""
        return self.root / "log.jsonl"

    @property
    def best(self) -> Path:
        """The weights with the best metric."""
        return self.root / "best.safetensors"

    @property
    def last(self) -> Path:
        """The newest evaluated weights."""
        return self.root / "last.safetensors"

    @property
    def predictions(self) -> Path:
        """What the newest evaluated weights make of fixed validation images."""
        return self.root / "predictions.png"

    @property
    def report(self) -> Path:
        """Curves and predictions for a browser."""
        return self.root / "report.html"

    def begin(self, recipe: str, *, processes: int, device: str) -> None:
        """Write down what is run and on what.

        Raises:
            EvitError: the folder cannot be written.
        """
        for unfinished in self.root.glob(".*.tmp"):  # of a run that was killed while it wrote
            unfinished.unlink(missing_ok=True)
        write_text(self.recipe, recipe)
        write_text(self.root / "environment.json", _environment(processes, device))

    def rewrite_log(self, history: list[dict[str, Any]]) -> None:
        """Make the log end where a resumed run goes on."""
        write_text(self.log, "".join(json.dumps(line) + "\n" for line in history))

    def append_log(self, line: Mapping[str, Any]) -> None:
        """Add one line."""
        try:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise EvitError(
                f"cannot write {self.log}: {reason}",
                hint="free some space, then continue with --resume auto",
            ) from error


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def _environment(processes: int, device: str) -> str:
    document = {
        "evit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "processes": processes,
        "command": sys.argv,
    }
    return json.dumps(document, indent=1) + "\n"
