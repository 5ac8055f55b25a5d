"""Every target and precision: the file runs, says what it is, and agrees with its source."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from evit_cli.errors import EvitError
from evit_cli.export import strips
from evit_cli.export.job import ExportReport
from evit_cli.export.onnx import float_types, operators
from evit_cli.export.plan import ExportPlan, ExportRequest
from evit_cli.export.verify import Verdict
from evit_cli.runtime.description import description_path, read_description
from evit_cli.runtime.open import open_artifact
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import Backend, ImageSize, Precision
from tests.helpers.exports import SIZE, SQUARE, healthy_model, info_of, random_images, run_request
from tests.helpers.tensorrt_rules import problems

pytestmark = pytest.mark.slow

PRECISIONS = [Precision.FP32, Precision.FP16]
"""What every model below is written in, on every target that has it."""

TOLERANCE = {Precision.FP32: 1e-4, Precision.FP16: 0.06}
"""Largest difference from the source, in deviations of its output."""
BFLOAT16 = 0.4
"""The same where a processor computes OpenVINO's float16 in bfloat16, an eighth as exactly."""

TENSORRT = {"orin": ("10.3", "11.2"), "nano": ("8.2",), "xavier-nx": ("8.5",), "a100": ("10.3",)}
"""Versions whose parser must take what is made for a device."""

MODELS = ["seg-b0-cityscapes", "cls-b0", "seg-l1-cityscapes"]


@dataclass(frozen=True)
class Case:
    """A model for a target, or for a device that has TensorRT, or does without a precision."""

    model: str
    target: Backend
    precision: Precision
    device: str | None = None

    def __str__(self) -> str:
        return f"{self.model}-{self.device or self.target.value}-{self.precision.value}"

    @property
    def large(self) -> bool:
        """Where a file of 160 MB is written, not every combination teaches something."""
        return self.model.startswith("seg-l")

    @property
    def may_be_bfloat16(self) -> bool:
        """OpenVINO then computes in bfloat16 where the processor has it."""
        return (self.target, self.precision) == (Backend.OPENVINO, Precision.FP16)


@dataclass(frozen=True)
class Made:
    """What came of a case."""

    case: Case
    plan: ExportPlan
    report: ExportReport

    @property
    def path(self) -> Path:
        return self.report.written[0]

    @property
    def graph(self) -> onnx.ModelProto:
        return onnx.load(str(self.path))


def cases() -> list[Case]:
    found = []
    for model in MODELS:
        for precision in PRECISIONS:
            for target in (Backend.ONNX, Backend.TFLITE, Backend.OPENVINO):
                found.append(Case(model, target, precision))
            for device in TENSORRT:
                found.append(Case(model, Backend.TENSORRT, precision, device))
    # Orin and A100 get the same graph; of those with weak typing fp32 and fp16 do.
    twins = ("a100", "xavier-nx")
    return [
        case
        for case in found
        if not (case.device in twins and case.precision is Precision.FP32)
        and not (case.large and case.device in twins)
        and not (
            case.large and case.precision is Precision.FP32 and case.target is not Backend.TFLITE
        )
    ]


@pytest.fixture(scope="module", params=cases(), ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each artifact, once: pytest runs all tests of a parameter one after the other."""
    case: Case = request.param
    torch.set_num_threads(1)
    plan, report = run_request(
        case.model,
        ExportRequest(
            target=None if case.device else case.target,
            device=case.device,
            precision=case.precision,
            out=tmp_path_factory.mktemp("made"),
        ),
    )
    return Made(case, plan, report)


def only(target: Backend, case: Case) -> None:
    if case.target is not target:
        pytest.skip(f"not {target.value}")


def size_of(case: Case) -> ImageSize:
    return SQUARE if case.model.startswith("cls") else SIZE


def test_it_runs_and_agrees_with_its_source(made: Made) -> None:
    session = open_artifact(made.path, threads=1)
    source = TorchSession(healthy_model(made.case.model), info_of(made.case.model), device="cpu")
    size = size_of(made.case)
    assert session.inputs[0].shape == (1, *size, 3)
    assert session.inputs[0].dtype == "uint8"
    for image in random_images(*size, seed=5, count=2):
        found = session.run({"image": image[None]})["logits"]
        expected = source.run({"image": image[None]})["logits"]
        assert found.dtype == np.float32
        assert found.shape == expected.shape == session.outputs[0].shape
        limit = BFLOAT16 if made.case.may_be_bfloat16 else TOLERANCE[made.case.precision]
        assert np.abs(found - expected).max() <= limit * expected.std()
    session.close()


def test_the_verdict_is_inside_and_beside(made: Made) -> None:
    assert made.report.verification is not None
    verdict = made.report.verification.verdict
    # Random weights leave more pixels undecided than trained ones do.
    assert verdict is Verdict.PASS or (made.case.may_be_bfloat16 and verdict is Verdict.WARN)
    inside = read_description(made.path)
    assert inside.verification == made.report.verification.document()
    assert inside.verification["verdict"] == verdict.value
    beside = json.loads(description_path(made.path).read_text("utf-8"))
    assert beside["verification"] == inside.verification
    description_path(made.path).unlink()
    assert read_description(made.path) == inside, "the file alone says it all"


def test_the_description_is_that_of_the_plan(made: Made) -> None:
    found, case = read_description(made.path), made.case
    assert found.info.name == case.model
    assert (found.info.sha256, found.info.licence) == ("ab12", "MIT")
    assert found.precision is case.precision
    assert (found.size_hw, found.largest_hw) == (size_of(case), None)
    assert found.layout == ("NHWC" if case.device is None else "NCHW")
    weak = case.device in ("nano", "xavier-nx")
    assert found.dtype == ("float32" if weak else "uint8")
    assert found.profile == (made.plan.profile.name if made.plan.profile else "")


def test_nothing_else_is_left_beside_it(made: Made) -> None:
    kinds = {path.suffix for path in made.path.parent.iterdir()}
    wanted = {made.path.suffix, ".bin"} if made.path.suffix == ".xml" else {made.path.suffix}
    assert wanted <= kinds <= wanted | {".json"}


def test_onnx_is_valid_and_named(made: Made) -> None:
    if made.path.suffix != ".onnx":
        pytest.skip("no ONNX file")
    graph = made.graph
    onnx.checker.check_model(graph, full_check=True)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [
        ("", made.plan.opset)
    ]
    (source,), (result,) = graph.graph.input, graph.graph.output
    assert (source.name, result.name) == ("image", "logits")
    assert source.type.tensor_type.elem_type == (
        onnx.TensorProto.UINT8 if made.plan.form.uint8 else onnx.TensorProto.FLOAT
    )
    assert result.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    shape = tuple(side.dim_value for side in source.type.tensor_type.shape.dim)
    assert shape == read_description(made.path).input_shape
    assert not {"Resize:cubic", "Pad:value"} & operators(graph)
    assert len({node.name for node in graph.graph.node}) == len(graph.graph.node)


def test_float16_is_typed_into_the_graph(made: Made) -> None:
    """Where the runtime takes types as they are; only what is listed stays float32."""
    if made.path.suffix != ".onnx":
        pytest.skip("no ONNX file")
    typed = made.case.precision is Precision.FP16 and made.case.device not in ("nano", "xavier-nx")
    assert made.plan.typed_fp16 == typed
    islands = read_description(made.path).islands
    if not typed:
        assert float_types(made.graph) == {"float32"}
        assert islands == ()
        return
    if made.case.model.startswith("cls"):
        assert islands == ("head.norm",)
    else:
        assert islands == ()
        assert float_types(made.graph) == {"float16"}
        return
    full = [t for t in made.graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    width = next(
        m.normalized_shape[0]
        for m in healthy_model(made.case.model).modules()
        if isinstance(m, torch.nn.LayerNorm)
    )
    assert {tuple(t.dims) for t in full} <= {(width,), (), (1,)}


def test_tensorrt_takes_every_operator(made: Made) -> None:
    only(Backend.TENSORRT, made.case)
    assert made.path.suffix == ".onnx", "the board builds the engine"
    assert made.case.device is not None
    for version in TENSORRT[made.case.device]:
        assert problems(made.graph, version) == []


def test_float16_files_are_half_as_large(made: Made) -> None:
    typed = made.plan.typed_fp16 or made.case.target in (Backend.TFLITE, Backend.OPENVINO)
    parameters = sum(p.numel() for p in healthy_model(made.case.model).parameters())
    bytes_each = 2 if typed and made.case.precision is Precision.FP16 else 4
    assert made.report.size_bytes == pytest.approx(bytes_each * parameters, rel=0.25)


def test_openvino_is_two_files(made: Made) -> None:
    only(Backend.OPENVINO, made.case)
    assert made.path.with_suffix(".bin") in made.report.written
    kept = made.path.with_suffix(".bin").rename(made.path.with_name("away"))
    with pytest.raises(EvitError, match=r"\.bin is missing beside"):
        open_artifact(made.path)
    kept.rename(made.path.with_suffix(".bin"))


def test_tflite_has_no_custom_operator_and_one_archive(made: Made) -> None:
    only(Backend.TFLITE, made.case)
    # Built-in operators are called in capitals; 'FlexErf' or 'odml.gelu' are not.
    assert [op.name for op in operations(made.path) if not op.name.isupper()] == []
    with zipfile.ZipFile(made.path) as archive:
        assert archive.namelist() == ["evit.json"]


@dataclass(frozen=True)
class Operation:
    """Of a .tflite file, and the tensors it reads and writes."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def operations(path: Path) -> list[Operation]:
    """Those of the file, then a `DELEGATE` for each partition that XNNPACK took."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return [
        Operation(op["op_name"], *(tuple(int(i) for i in op[k]) for k in ("inputs", "outputs")))
        for op in interpreter._get_ops_details()
    ]


@pytest.mark.parametrize(
    ("model", "size", "joins"),
    [
        # Eight strips are joined four at a time; L1 has MBConvs only where no strip is left to cut.
        ("seg-b0-cityscapes", ImageSize(128, 160), 3),
        ("seg-l1-cityscapes", SIZE, 0),
    ],
)
def test_xnnpack_takes_the_whole_graph(
    model: str, size: ImageSize, joins: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strips, hard-swish or GELU, attention and upsampling: all of it in one partition."""
    monkeypatch.setattr(strips, "LARGEST_STRIP_BYTES", 2**15)
    request = ExportRequest(target=Backend.TFLITE, size_hw=size, out=tmp_path)
    _, report = run_request(model, request)
    assert report.verification is not None
    assert report.verification.verdict is Verdict.PASS
    found = operations(report.written[0])
    (partition,) = [op for op in found if op.name == "DELEGATE"]
    assert sum(op.name == "CONCATENATION" for op in found) >= joins
    # What comes before the partition is what its inputs are made of; nothing comes after it.
    outside, wanted = [], set(partition.inputs)
    for op in reversed([op for op in found if op.name != "DELEGATE"]):
        if wanted & set(op.outputs):
            outside.append(op.name)
            wanted |= set(op.inputs)
    assert outside == ["CAST", "RESHAPE"], "XNNPACK takes no uint8: rows, made float"
    assert partition.outputs == found[-2].outputs
    assert len(found) > 100


FREE = [
    (Backend.ONNX, None, Precision.FP32),
    (Backend.ONNX, None, Precision.FP16),
    (Backend.OPENVINO, None, Precision.FP32),
    (Backend.TENSORRT, "orin", Precision.FP16),
    (Backend.TENSORRT, "nano", Precision.FP32),
]


@pytest.mark.parametrize(("target", "device", "precision"), FREE)
def test_free_sizes(
    target: Backend, device: str | None, precision: Precision, tmp_path: Path
) -> None:
    model, smallest, largest = "seg-b0-cityscapes", ImageSize(64, 64), ImageSize(128, 192)
    _, report = run_request(
        model,
        ExportRequest(
            target=target, device=device, precision=precision, size_hw=smallest,
            largest_hw=largest, out=tmp_path,
        ),
    )  # fmt: skip
    path = report.written[0]
    assert read_description(path).largest_hw == largest
    session = open_artifact(path, threads=1)
    assert session.inputs[0].shape == (1, None, None, 3)
    source = TorchSession(healthy_model(model), info_of(model), device="cpu")
    for size in (smallest, ImageSize(96, 160), largest):
        image = next(random_images(*size))[None]
        found = session.run({"image": image})["logits"]
        expected = source.run({"image": image})["logits"]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= TOLERANCE[precision] * expected.std()
    for size in ((160, 192), (32, 64), (72, 64), (64, 224)):
        with pytest.raises(EvitError, match=r"takes 64x64 to 128x192 in steps of 32, not "):
            session.run({"image": np.zeros((1, *size, 3), np.uint8)})
    if device is not None:
        assert problems(onnx.load(str(path)), TENSORRT[device][0]) == []


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("seg-b0-cityscapes", Backend.ONNX),
        ("seg-b0-cityscapes", Backend.TFLITE),
        ("seg-b0-cityscapes", Backend.OPENVINO),
        ("cls-b0", Backend.ONNX),
    ],
)
def test_two_images_at_once(model: str, target: Backend, tmp_path: Path) -> None:
    """Or one: the rest of the batch is then filled up and cut off again."""
    _, report = run_request(model, ExportRequest(target=target, batch=2, out=tmp_path))
    session = open_artifact(report.written[0], threads=1)
    size = SQUARE if model.startswith("cls") else SIZE
    assert session.inputs[0].shape == (2, *size, 3)
    images = np.stack(list(random_images(*size, seed=3, count=2)))
    source = TorchSession(healthy_model(model), info_of(model), device="cpu")
    expected = source.run({"image": images})["logits"]
    limit = TOLERANCE[Precision.FP32] * expected.std()
    assert np.abs(session.run({"image": images})["logits"] - expected).max() <= limit
    alone = session.run({"image": images[1:]})["logits"]
    assert alone.shape == expected[1:].shape
    assert np.abs(alone - expected[1:]).max() <= limit
    with pytest.raises(ValueError, match="image must be"):
        session.run({"image": np.zeros((3, *size, 3), np.uint8)})


@pytest.mark.parametrize("opset", [13, 16, 20])
@pytest.mark.parametrize("model", ["seg-b0-cityscapes", "cls-b0"])
def test_other_opsets_are_the_same_function(model: str, opset: int, tmp_path: Path) -> None:
    request = ExportRequest(target=Backend.ONNX, opset=opset, out=tmp_path)
    _, report = run_request(model, request)
    graph = onnx.load(str(report.written[0]))
    assert graph.opset_import[0].version == opset
    assert report.verification is not None
    assert report.verification.max_abs <= TOLERANCE[Precision.FP32]


def test_a_classifier_of_another_size_is_compared_at_that_size(tmp_path: Path) -> None:
    size = ImageSize(64, 64)
    request = ExportRequest(target=Backend.ONNX, size_hw=size, out=tmp_path)
    _, report = run_request("cls-b0", request)
    found = read_description(report.written[0])
    assert found.size_hw == found.info.preprocess.size_hw == size
