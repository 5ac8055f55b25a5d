"""What an export decides, and what it refuses before anything is done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from evit_cli.errors import EXIT_USAGE, EvitError, UsageError
from evit_cli.export import plan as plan_module
from evit_cli.export.plan import ExportPlan, ExportRequest, make_plan
from evit_cli.types import EXPORTED, Backend, ImageSize, Precision
from tests.helpers.exports import SIZE, info_of

SEGMENT, CLASSIFY = info_of("seg-b0-cityscapes"), info_of("cls-b0")

PROFILES = {
    # device: target, precision, opset, layout, dtype of the input, typed float16, ending
    "jetson-agx-orin": ("tensorrt", "fp16", 18, "NCHW", True, True, ".onnx"),
    "orin": ("tensorrt", "fp16", 18, "NCHW", True, True, ".onnx"),
    "jetson-orin-nano": ("tensorrt", "fp16", 18, "NCHW", True, True, ".onnx"),
    "jetson-nano": ("tensorrt", "fp16", 13, "NCHW", False, False, ".onnx"),
    "jetson-xavier-nx": ("tensorrt", "fp16", 16, "NCHW", False, False, ".onnx"),
    "a100": ("tensorrt", "fp16", 18, "NCHW", True, True, ".onnx"),
    "snapdragon": ("tflite", "fp32", 18, "NHWC", True, False, ".tflite"),
    "x86": ("openvino", "fp16", 18, "NHWC", True, False, ".xml"),
    "arm64": ("tflite", "fp32", 18, "NHWC", True, False, ".tflite"),
}


def plan_of(**values: object) -> ExportPlan:
    return make_plan(ExportRequest(**values), SEGMENT)  # type: ignore[arg-type]


def why(plan: ExportPlan, what: str) -> str:
    return next(choice.why for choice in plan.choices if choice.what == what)


@pytest.mark.parametrize("device", PROFILES)
def test_each_profile_decides_everything(device: str) -> None:
    plan = plan_of(device=device)
    target, precision, opset, layout, uint8, typed, suffix = PROFILES[device]
    assert (plan.backend.value, plan.precision.value) == (target, precision)
    assert (plan.opset, plan.layout, plan.form.uint8) == (opset, layout, uint8)
    assert (plan.typed_fp16, plan.engine) == (typed, False)
    assert plan.path == Path(f"seg-b0-cityscapes-64x128-{precision}{suffix}")
    assert (plan.size_hw, plan.largest_hw, plan.batch) == (SIZE, None, 1)
    assert plan.profile is not None
    assert plan.profile.name in why(plan, "target")
    assert all(choice.what and choice.value and choice.why for choice in plan.choices)


@pytest.mark.parametrize("target", [b for b in Backend if b is not Backend.TORCH])
def test_without_a_device(target: Backend) -> None:
    plan = plan_of(target=target)
    assert (plan.backend, plan.precision, plan.opset) == (target, Precision.FP32, 18)
    assert plan.profile is None
    assert plan.layout == ("NCHW" if target is Backend.TENSORRT else "NHWC")
    assert plan.form.strips == plan.form.outputs_last == (target is Backend.TFLITE)
    assert plan.engine == (target is Backend.TENSORRT)


def test_every_choice_can_be_overridden() -> None:
    plan = plan_of(
        device="orin", target=Backend.ONNX, precision=Precision.FP32, size_hw=ImageSize(96, 160),
        largest_hw=ImageSize(192, 320), batch=4, opset=17, layout="nhwc", out=Path("a/b.onnx"),
    )  # fmt: skip
    assert plan.backend is Backend.ONNX
    assert plan.precision is Precision.FP32
    assert (plan.size_hw, plan.largest_hw) == (ImageSize(96, 160), ImageSize(192, 320))
    assert (plan.batch, plan.opset, plan.layout) == (4, 17, "NHWC")
    assert plan.form.free_size
    assert plan.path == Path("a/b.onnx")
    for what in ("target", "precision", "opset"):
        assert why(plan, what) == "asked for"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "what the artifact is for was not said"),
        ({"target": Backend.TORCH}, "there is nothing to export"),
        ({"device": "snapdragon", "target": Backend.TENSORRT}, "has no TensorRT"),
        ({"device": "nano", "precision": Precision.INT8}, "does not compute in int8"),
        ({"target": Backend.ONNX, "size_hw": ImageSize(100, 200)}, "no multiple of 32"),
        (
            {"target": Backend.ONNX, "size_hw": SIZE, "largest_hw": ImageSize(70, 128)},
            "70x128 is no multiple of 32",
        ),
        (
            {"target": Backend.ONNX, "size_hw": SIZE, "largest_hw": ImageSize(128, 64)},
            "--size 64x128 is larger than --max-size 128x64",
        ),
        (
            {"target": Backend.TFLITE, "size_hw": SIZE, "largest_hw": ImageSize(128, 128)},
            r"a \.tflite file takes one size",
        ),
        ({"target": Backend.ONNX, "opset": 12}, "must be 13 to 20, got 12"),
        ({"target": Backend.ONNX, "opset": 21}, "must be 13 to 20, got 21"),
        ({"target": Backend.ONNX, "layout": "CHWN"}, "no layout 'CHWN'"),
        ({"target": Backend.ONNX, "out": Path("x.tflite")}, r"must end in \.onnx"),
        ({"target": Backend.TFLITE, "out": Path("x.onnx")}, r"must end in \.tflite"),
        ({"device": "orin", "out": Path("x.engine")}, r"must end in \.onnx"),
    ],
)
def test_contradictions(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        plan_of(**changes)
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in caught.value.message


def test_the_size_that_fits_is_offered() -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(target=Backend.ONNX, size_hw=ImageSize(100, 200))
    assert caught.value.hint == "take 128x224"


@pytest.mark.parametrize(
    "sizes",
    [
        {"size_hw": SIZE},
        {"size_hw": ImageSize(64, 64), "largest_hw": ImageSize(128, 128)},
    ],
)
def test_a_classifier_takes_one_square(sizes: dict[str, ImageSize]) -> None:
    with pytest.raises(UsageError, match="one square size, not 64x"):
        make_plan(ExportRequest(target=Backend.ONNX, **sizes), CLASSIFY)  # type: ignore[arg-type]


def test_a_classifiers_images_are_cropped_to_the_size_asked_for() -> None:
    request = ExportRequest(target=Backend.ONNX, size_hw=ImageSize(64, 64))
    assert make_plan(request, CLASSIFY).info.preprocess.size_hw == ImageSize(64, 64)
    # A segmenter's is what it was measured at, which decides how images are placed.
    assert make_plan(request, SEGMENT).info.preprocess.size_hw == SIZE


def test_there_is_no_such_device() -> None:
    with pytest.raises(EvitError, match="orim") as caught:
        plan_of(device="orim")
    assert "orin" in caught.value.hint


def test_out_may_be_a_folder_or_either_name_of_an_engine() -> None:
    assert plan_of(target=Backend.ONNX, out=Path("folder")).path == Path(
        "folder/seg-b0-cityscapes-64x128-fp32.onnx"
    )
    for name in ("x.engine", "x.plan"):
        assert plan_of(target=Backend.TENSORRT, out=Path(name)).path == Path(name)


@pytest.mark.parametrize(("here", "engine"), [("jetson-agx-orin", True), ("x86", False)])
def test_the_board_itself_builds_the_engine(
    here: str, engine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(profile=SimpleNamespace(name=here))
    monkeypatch.setattr(plan_module, "detect_profile", lambda: found)
    plan = plan_of(device="orin")
    assert plan.engine == engine
    assert plan.path.suffix == (".engine" if engine else ".onnx")


def test_a_machine_that_no_profile_fits_builds_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> None:
        raise EvitError("no profile fits this machine")

    monkeypatch.setattr(plan_module, "detect_profile", unknown)
    assert not plan_of(device="orin").engine


def test_free_sizes_give_tensorrt_floats() -> None:
    """It does not read the shape of a uint8 tensor."""
    sizes = {"size_hw": SIZE, "largest_hw": ImageSize(128, 128)}
    assert not plan_of(device="orin", **sizes).form.uint8
    assert plan_of(target=Backend.ONNX, **sizes).form.uint8


@pytest.mark.parametrize("target", [Backend.TFLITE, Backend.ONNX, Backend.OPENVINO])
@pytest.mark.parametrize("precision", EXPORTED)
@pytest.mark.parametrize("batch", [1, 2])
def test_attention_sums_over_tokens_for_one_float32_image_in_litert(
    target: Backend, precision: Precision, batch: int
) -> None:
    plan = plan_of(target=target, precision=precision, batch=batch)
    fewest_passes = target is Backend.TFLITE and precision is Precision.FP32 and batch == 1
    assert (plan.form.attention == "tokens") == fewest_passes
    in_bfloat16 = target is Backend.OPENVINO and precision is Precision.FP16
    assert (plan.form.attention == "blocks") == in_bfloat16
    # Sums over all pixels leave what float16 can hold.
    if plan.typed_fp16:
        assert plan.form.attention == "means"
    assert why(plan, "attention")
