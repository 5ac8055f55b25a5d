"""Models that travel with evit: in `assets/models/`, each as weights, artifact and model card.

NAME.safetensors    weights, for the torch backend and further training
NAME.tflite         the artifact that the base installation runs, with NAME.json beside it
NAME.md             the model card: data, licence, recipe, metric, command
"""

from __future__ import annotations

from pathlib import Path

import evit_cli

EMBEDDED = ("seg-b0-street",)
"""Their names."""


def embedded_file(name: str, suffix: str) -> Path | None:
    """The file of an embedded model, None if there is no such model or file.

    Args:
        name: of the model.
        suffix: ".safetensors", ".tflite" or ".md".
    """
    if name not in EMBEDDED:
        return None
    path = Path(evit_cli.__file__).parent / "assets" / "models" / f"{name}{suffix}"
    return path if path.is_file() else None
