"""What a bundle will hold, decided before anything is made; no torch is imported here.

A bundle is a folder for a device on which evit does not run: the model, verified as every export
is, and what runs it there. Two kinds are known: boards with TensorRT 8, and Android phones.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from evit_cli.config.device import load_profile
from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError, UsageError
from evit_cli.export.plan import Choice, ExportPlan, ExportRequest, make_plan
from evit_cli.types import Backend, ModelInfo, Precision, Task

MANIFEST = "bundle.json"
ENGINE, CPU, CPU_INT8, GPU, NPU = "engine", "cpu", "cpu-int8", "gpu", "npu"
"""What a model of a bundle is for."""

CHECK_IMAGE, CHECK_LOGITS = "check/image.png", "check/logits.npz"
_SHARED = {
    "labels.txt": "class names, one a line",
    "palette.csv": "index, name and colour of each class",
    "README.md": "what to do with it",
    MANIFEST: "the model's description, the verdict, and the sha256 of every file",
}
_BOARD = {
    "build_engine.sh": "builds the engine on the board with trtexec",
    "run.py": "segments images, folders, videos and cameras; Python 3.6, one file",
    CHECK_IMAGE: "an input for `run.py --check`",
    CHECK_LOGITS: "what the model makes of it",
}
_PHONE = {
    "adb/phone.sh": "finds the phone; read by the others",
    "adb/push.sh": "copies the models and LiteRT's benchmark_model to the phone",
    "adb/run.sh": "times the models on CPU, GPU and NPU",
    "adb/pull.sh": "fetches what benchmark_model printed",
    "adb/clean.sh": "removes everything from the phone",
    "android/PixelMath.java": "image to input and logits to classes, in plain Java",
    "android/Segmenter.kt": "the model in LiteRT's CompiledModel",
    "android/CameraOverlay.kt": "CameraX frames through it",
}
_USES = {Precision.FP32: (CPU,), Precision.FP16: (GPU,), Precision.INT8: (CPU_INT8, NPU)}
_GPU_INPUT = Choice(
    "input of the GPU's file", "float32 NHWC", "the GPU delegate computes in float16 and float32"
)


class BundleKind(str, Enum):
    """What runs the models of a bundle."""

    BOARD = "tensorrt"
    PHONE = "android"


@dataclass(frozen=True)
class BundleModel:
    """One model of a bundle.

    Attributes:
        uses: what it is for: "engine", or of a phone any of "cpu", "cpu-int8", "gpu", "npu".
        plan: of its export; `path` is its name in the bundle.
    """

    uses: tuple[str, ...]
    plan: ExportPlan

    @property
    def name(self) -> str:
        """Of its file, relative to the bundle, with forward slashes."""
        return self.plan.path.as_posix()


@dataclass(frozen=True)
class BundlePlan:
    """All decisions of one bundle.

    Attributes:
        info: the model's.
        profile: the device's.
        kind: what will run it.
        folder: absolute, to be made.
        models: at least one.
        choices: the same with reasons.
        files: every file by its name in the bundle, and what it is.
    """

    info: ModelInfo
    profile: Profile
    kind: BundleKind
    folder: Path
    models: tuple[BundleModel, ...]
    choices: tuple[Choice, ...]
    files: dict[str, str]

    @property
    def next_step(self) -> str:
        """What to do with the folder."""
        if self.kind is BundleKind.PHONE:
            return (
                f"sh {self.folder}/adb/push.sh BENCHMARK_MODEL; {self.folder}/README.md says more"
            )
        return "copy the folder to the board, and there: sh build_engine.sh; python3 run.py --check"


def plan_bundle(
    request: ExportRequest, info: ModelInfo, folder: Path, *, calibrated: bool
) -> BundlePlan:
    """Decide everything.

    Args:
        request: what an export would be asked for; its device says what the bundle is for.
        info: the model's.
        folder: to be made.
        calibrated: whether there are images for int8 ranges.

    Raises:
        UsageError: no bundle can be made of this model, for this device or with these options.
        EvitError: there is no such device profile.
    """
    if request.device is None:
        raise UsageError(
            "a bundle is for a device, and none was named",
            hint="--device nano or --device snapdragon",
        )
    profile = load_profile(request.device)
    kind = _kind(profile)
    _check_request(request, info, kind)
    if kind is BundleKind.BOARD:
        plan = make_plan(request, info)
        models = [BundleModel((ENGINE,), replace(plan, path=Path(plain_name(plan.path.name))))]
        choices = list(plan.choices)
    else:
        models, choices = _phone_models(request, info, profile, calibrated=calibrated)
    files = {model.name: _what(model) for model in models}
    files |= (_BOARD if kind is BundleKind.BOARD else _PHONE) | _SHARED
    absolute = Path(os.path.abspath(folder.expanduser()))
    return BundlePlan(info, profile, kind, absolute, tuple(models), tuple(choices), files)


def plain_name(name: str) -> str:
    """A name that means itself in every shell, comment and path.

    >>> plain_name("my model's-64x96.onnx")
    'my-model-s-64x96.onnx'
    """
    return re.sub(r"[^\w.+-]+", "-", name, flags=re.ASCII)


def bundle_rows(plan: BundlePlan) -> list[dict[str, str]]:
    """Every choice with its reason, then the folder and each file in it."""
    rows = [{"what": c.what, "value": c.value, "why": c.why} for c in plan.choices]
    rows.append({"what": "folder", "value": str(plan.folder), "why": ""})
    return [*rows, *({"what": "file", "value": f, "why": why} for f, why in plan.files.items())]


def check_bundle_free(folder: Path, *, force: bool) -> None:
    """Refuse to overwrite, and to replace with `force` what is no bundle.

    Raises:
        EvitError: the folder exists.
    """
    if not os.path.lexists(folder):
        return
    if not force:
        raise EvitError(f"{folder} exists already", hint="--force replaces it")
    if not (folder / MANIFEST).is_file():
        raise EvitError(f"{folder} is no bundle, so it is not replaced", hint="name another folder")


def _kind(profile: Profile) -> BundleKind:
    """What runs the bundle's models.

    Raises:
        UsageError: evit itself runs there.
    """
    first = next(c.backend for c in profile.backends if c.backend is not Backend.TORCH)
    if "bundle" in profile.transport.ways and not profile.transport.evit_runs_there:
        if first is Backend.TENSORRT and profile.weakly_typed:
            return BundleKind.BOARD
        if first is Backend.TFLITE and "adb" in profile.transport.ways:
            return BundleKind.PHONE
    raise UsageError(
        f"{profile.name} needs no bundle, since evit runs there",
        hint="install evit on it and copy what `evit export` writes; leave --bundle away",
    )


def _check_request(request: ExportRequest, info: ModelInfo, kind: BundleKind) -> None:
    """Refuse what the bundle's own programs could not run.

    Raises:
        UsageError: it is refused.
    """
    if info.task is not Task.SEGMENT:
        raise UsageError(
            f"a bundle segments, and {info.name} is a {info.task.value} model",
            hint="leave --bundle away: `evit export --device` writes its files for the device",
        )
    target = Backend.TENSORRT if kind is BundleKind.BOARD else Backend.TFLITE
    if request.target not in (None, target):
        raise UsageError(
            f"this bundle is for {target.value}, not {request.target.value}",
            hint="leave --target away",
        )
    if request.out is not None:
        raise UsageError(
            "--bundle and --out both say where to write", hint="leave one of them away"
        )
    if request.largest_hw is not None or request.batch != 1:
        raise UsageError(
            "a bundle takes one image of one size at a time",
            hint="leave --max-size and --batch away",
        )


def _phone_models(
    request: ExportRequest, info: ModelInfo, profile: Profile, *, calibrated: bool
) -> tuple[list[BundleModel], list[Choice]]:
    """One file per precision of the profile, or that which was asked for."""
    wanted = [request.precision] if request.precision else list(profile.all_precisions)
    models: list[BundleModel] = []
    choices: list[Choice] = []
    for precision in wanted:
        if precision is Precision.INT8 and not calibrated and request.precision is None:
            why = "its ranges need real images: --calib DIR"
            choices.append(Choice("int8", "left out", why))
            continue
        plan = make_plan(replace(request, precision=precision), info)
        uses = _USES[precision]
        if GPU in uses:
            plan = replace(plan, form=replace(plan.form, uint8=False))
        models.append(
            BundleModel(uses, replace(plan, path=Path("models", plain_name(plan.path.name))))
        )
        known = {(choice.what, choice.value) for choice in choices}
        new = [c for c in plan.choices if (c.what, c.value) not in known]
        choices += new if request.precision else [_of_profile(c, profile) for c in new]
        choices += [_GPU_INPUT] if GPU in uses else []
    return models, choices


def _of_profile(choice: Choice, profile: Profile) -> Choice:
    """A precision that the profile brought, with the profile's reason."""
    why = {known.precision.value: known.why for known in profile.precisions}
    if choice.what != "precision":
        return choice
    return replace(choice, why=f"{profile.name}: {why[choice.value]}")


def _what(model: BundleModel) -> str:
    plan = model.plan
    where = "trtexec" if ENGINE in model.uses else "LiteRT on " + " and ".join(model.uses)
    return f"{plan.info.name} at {plan.size_hw} in {plan.precision.value}, for {where}"
