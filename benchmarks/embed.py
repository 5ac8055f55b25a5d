"""Puts a trained model into the package: `python -m benchmarks.embed WEIGHTS NAME HxW [fp16]`.

Writes `assets/models/NAME.safetensors`, `.tflite` and `.json` (two each of a promptable model); the
model card `NAME.md` and the line in `weights/embedded.py` are written by hand, with what was
measured. `WEIGHTS` may be the embedded file itself, to export it anew. With fp16 the weights are
kept in half precision too, but for vectors.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from evit_cli.errors import EvitError, UsageError
from evit_cli.export.images import load_images
from evit_cli.export.job import ExportJob, run_export
from evit_cli.export.plan import ExportRequest, make_plan
from evit_cli.types import Backend, ImageSize, Precision
from evit_cli.weights.checkpoint import save_weights
from evit_cli.weights.embedded import EMBEDDED
from evit_cli.weights.load import load_model


def embed(weights: Path, name: str, size_hw: ImageSize, precision: Precision) -> str:
    """Save the weights and the artifact under `name`; returns how they compare.

    Raises:
        UsageError: no embedded model has that name.
        EvitError: the artifact differs from the weights.
    """
    if name not in EMBEDDED:
        raise UsageError(f"weights/embedded.py knows no model '{name}'")
    target = EMBEDDED[name]
    if weights.resolve() != target.weights.resolve():
        loaded = load_model(weights=weights)
        info = replace(loaded.info, name=name, licence=target.licence, source="")
        state = loaded.model.state_dict()
        if precision is Precision.FP16:
            # Vectors are few, and variances of norms may be tiny.
            state = {name: t.half() if t.ndim > 1 else t for name, t in state.items()}
        save_weights(target.weights, state, info, loaded.variant)
    own = load_model(weights=target.weights)
    request = ExportRequest(
        Backend.TFLITE, precision=precision, size_hw=size_hw, out=target.artifact
    )
    plan = make_plan(request, replace(own.info, source=""))
    job = ExportJob(plan, own.model, images=load_images(None, limit=8), force=True)
    verification = run_export(job).verification
    assert verification is not None
    return f"{verification.verdict.value}: {verification.reason}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("name")
    parser.add_argument("size", type=ImageSize.parse)
    parser.add_argument("precision", type=Precision, nargs="?", default=Precision.FP32)
    options = parser.parse_args()
    try:
        print(embed(options.weights, options.name, options.size, options.precision))
    except EvitError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
