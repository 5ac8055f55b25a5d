"""What a bundle for an Android phone holds beside the models: adb scripts, and code for an app."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evit_cli import __version__
from evit_cli.export.bundle_files import fill, read_template, verdict_of, write_text
from evit_cli.export.bundle_plan import CPU, CPU_INT8, GPU, NPU, BundlePlan, plain_name
from evit_cli.inference.segmenter import LARGEST_STRETCH
from evit_cli.runtime.description import Description
from evit_cli.types import ClassSet

_KIND = "snapdragon"
_FILES = (
    "adb/phone.sh",
    "adb/push.sh",
    "adb/run.sh",
    "adb/pull.sh",
    "adb/clean.sh",
    "android/PixelMath.java",
    "android/Segmenter.kt",
    "android/CameraOverlay.kt",
    "README.md",
)
_LOGITS_STRIDE = 8
_ALPHA = 0.5
"""Opacity of the colours where none is asked for, as in `evit segment`."""
_ACCELERATORS = {CPU: "CPU", CPU_INT8: "CPU", GPU: "GPU", NPU: "NPU"}
_NO_NPU = "it has none that evit knows."
_TOOL = (
    "https://storage.googleapis.com/litert/binaries/latest/android_arm64/benchmark_model is the "
    "build for arm64."
)


def write_phone_files(
    folder: Path, plan: BundlePlan, descriptions: Sequence[Description]
) -> dict[str, Any]:
    """Write the scripts and the code.

    Args:
        folder: with the models in it.
        plan: of the bundle.
        descriptions: of the models, in order, after they were compared.

    Returns:
        What the manifest has to say beyond the models: nothing.
    """
    values = _constants(plan, descriptions[0]) | _models(plan, descriptions)
    for name in _FILES:
        write_text(folder, name, fill(read_template(_KIND, name), values))
    return {}


def _constants(plan: BundlePlan, description: Description) -> dict[str, object]:
    """Numbers and names of the model, as the code has them."""
    info, size = plan.info, description.size_hw
    assert info.classes is not None
    npu = next((one for one in plan.profile.accelerators if one.kind == "npu"), None)
    return {
        "VERSION": __version__,
        "MODEL": plain_name(info.name),
        "TITLE": plan.profile.title,
        "FOLDER": f"evit-{plain_name(info.name)}",
        "SIZE": size,
        "HEIGHT": size.height,
        "WIDTH": size.width,
        "LOGIT_HEIGHT": size.height // _LOGITS_STRIDE,
        "LOGIT_WIDTH": size.width // _LOGITS_STRIDE,
        "CLASSES": len(info.classes),
        "LARGEST_STRETCH": LARGEST_STRETCH,
        "ALPHA": _ALPHA,
        "MEAN": _floats(info.preprocess.mean_rgb),
        "STD": _floats(info.preprocess.std_rgb),
        "CUBIC": str(info.preprocess.interpolation == "cubic").lower(),
        "RESIZE": info.preprocess.interpolation,
        "LABELS": _lines(json.dumps(name) for name in info.classes.classes),
        "COLORS": _lines(_colors(info.classes)),
        "TOOL": _TOOL,
        "NPU": _NO_NPU if npu is None else f"{npu.name}: {npu.why}",
    }


def _models(plan: BundlePlan, descriptions: Sequence[Description]) -> dict[str, object]:
    """The models by what they are for."""
    cases: list[str] = []
    delegates: list[str] = []
    table: list[str] = []
    uses: list[str] = []
    names: list[str] = []
    for model, description in zip(plan.models, descriptions, strict=True):
        name = Path(model.name).name
        names.append(name)
        uses += model.uses
        floats = str(description.dtype == "float32").lower()
        for use in model.uses:
            cases.append(f'    {use}) echo "{name}" ;;')
            constant = use.upper().replace("-", "_")
            delegates.append(
                f'    {constant}("{name}", Accelerator.{_ACCELERATORS[use]}, {floats}),'
            )
        reason = description.verification.get("reason", "--no-verify")
        table.append(
            f"| `{model.name}` | {', '.join(model.uses)} | {description.precision.value} | "
            f"{description.dtype} | {verdict_of([description])} | {reason} |"
        )
    return {
        "CASES": "\n".join(cases),
        "DELEGATES": "\n".join(delegates),
        "FIRST": uses[0].upper().replace("-", "_"),
        "TABLE": "\n".join(table),
        "USES": "|".join(uses),
        "ALL_USES": " ".join(uses),
        "MODELS": " ".join(names),
    }


def _floats(values: Sequence[float]) -> str:
    return ", ".join(f"{value!r}f" for value in values)


def _colors(classes: ClassSet) -> list[str]:
    return [f"0xff{red:02x}{green:02x}{blue:02x}" for red, green, blue in classes.colors_rgb]


def _lines(items: Any) -> str:
    return "\n".join(f"        {item}," for item in items)
