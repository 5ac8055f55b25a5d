"""Puts a trained model into the package: `python -m benchmarks.embed WEIGHTS NAME HxW`.

Writes `assets/models/NAME.safetensors`, `.tflite` and `.json`; the model card `NAME.md` and the
line in `weights/embedded.py` are written by hand, with what was measured.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from evit_cli.errors import EvitError, UsageError
from evit_cli.export.litert import export_litert
from evit_cli.types import ImageSize
from evit_cli.weights.checkpoint import save_weights
from evit_cli.weights.embedded import EMBEDDED
from evit_cli.weights.load import load_model


def embed(weights: Path, name: str, size_hw: ImageSize) -> float:
    """Save the weights and the artifact under `name`; returns their largest difference.

    Raises:
        UsageError: no embedded model has that name.
        EvitError: the artifact differs from the weights.
    """
    if name not in EMBEDDED:
        raise UsageError(f"weights/embedded.py knows no model '{name}'")
    loaded = load_model(weights=weights)
    target = EMBEDDED[name]
    info = replace(loaded.info, name=name, licence=target.licence, source="")
    save_weights(target.weights, loaded.model.state_dict(), info, loaded.variant)
    own = load_model(weights=target.weights)
    info = replace(own.info, source="")
    return export_litert(own.model, info, target.artifact, size_hw=size_hw)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("name")
    parser.add_argument("size", type=ImageSize.parse)
    options = parser.parse_args()
    try:
        difference = embed(options.weights, options.name, options.size)
    except EvitError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    print(f"largest difference from PyTorch: {difference:.1e} deviations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
