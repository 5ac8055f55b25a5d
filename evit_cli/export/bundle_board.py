"""What a bundle for a board with TensorRT 8 holds beside the ONNX file.

The engine is built there, by TensorRT's own choice of layers in float16, which cannot be compared
here. So the bundle brings an input with the model's own answer, and `run.py --check` compares.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from evit_cli import __version__
from evit_cli.errors import EvitError
from evit_cli.export.bundle_files import fill, read_template, verdict_of, write_text
from evit_cli.export.bundle_plan import CHECK_IMAGE, CHECK_LOGITS, BundlePlan
from evit_cli.export.trtexec import trtexec_command
from evit_cli.export.verify import BARS, TIE
from evit_cli.inference.preprocess import Placement, fit
from evit_cli.inference.segmenter import LARGEST_STRETCH
from evit_cli.media.images import read_image, write_image
from evit_cli.runtime.description import Description
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import ImageSize

_KIND = "nano"
_PHOTO = "astronaut.jpg"
_ALPHA = 0.5
"""Opacity of the colours where none is asked for, as in `evit segment`."""


def write_board_files(
    folder: Path, plan: BundlePlan, description: Description, model: nn.Module
) -> dict[str, Any]:
    """Write the scripts and the answer to compare with.

    Args:
        folder: with the ONNX file in it.
        plan: of the bundle.
        description: of the ONNX file, after it was compared.
        model: that it was made from.

    Returns:
        What the manifest has to say to `run.py`.
    """
    onnx = plan.models[0].name
    engine = str(Path(onnx).with_suffix(".engine"))
    command = trtexec_command(
        onnx, f"{engine}.partial", description=description, profile=plan.profile
    )
    memory = plan.profile.memory
    values: dict[str, object] = {
        "MEMORY": f"The board has {memory.total_gib:g} GiB. {memory.why}" if memory else "",
        "VERSION": __version__,
        "MODEL": plan.info.name,
        "DEVICE": plan.profile.name,
        "TITLE": plan.profile.title,
        "TENSORRT": plan.profile.tool("TensorRT") or "TensorRT 8",
        "JETPACK": plan.profile.tool("JetPack") or "JetPack",
        "SIZE": description.size_hw,
        "PRECISION": description.precision.value,
        "VERDICT": verdict_of([description]),
        "REASON": description.verification.get("reason", "--no-verify"),
        "ALPHA": _ALPHA,
        "ONNX": shlex.quote(onnx),
        "ENGINE": shlex.quote(engine),
        "TRTEXEC": shlex.quote(command[0]),
        "ARGUMENTS": shlex.join(command[1:]),
    }
    for name in ("build_engine.sh", "run.py", "README.md"):
        write_text(folder, name, fill(read_template(_KIND, name), values))
    bar = BARS[description.precision]
    check = _write_answer(folder, plan, model, description.size_hw)
    return {
        "runner": {"largest_stretch": LARGEST_STRETCH},
        "check": check | {"tie": TIE, "good": bar.good, "least": bar.least},
    }


def _write_answer(
    folder: Path, plan: BundlePlan, model: nn.Module, size_hw: ImageSize
) -> dict[str, str]:
    """An input of the model's size, and the float32 model's logits of it."""
    with (files("evit_cli") / "assets" / "photos" / _PHOTO).open("rb") as photo:
        image = read_image(Path(photo.name))[0]
    own = ImageSize(*image.shape[:2])
    canvas = fit(image, Placement(own, size_hw, size_hw))
    session = TorchSession(model, replace(plan.info, source=""), device="cpu")
    logits = session.run({"image": canvas[None]})["logits"][0]
    (folder / CHECK_IMAGE).parent.mkdir()
    write_image(folder / CHECK_IMAGE, canvas)
    if not np.isfinite(logits).all():
        raise EvitError(
            f"{plan.info.name} itself gives NaN or infinity", hint="check the weights it came from"
        )
    largest = float(np.abs(logits).max())
    dtype = np.float16 if largest < np.finfo(np.float16).max else np.float32
    np.savez_compressed(folder / CHECK_LOGITS, logits=logits.astype(dtype))
    return {"image": CHECK_IMAGE, "logits": CHECK_LOGITS}
