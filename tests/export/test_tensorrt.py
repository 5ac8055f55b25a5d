"""Building engines, against a stand-in that follows TensorRT's documented 10.x and 11.x."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from evit_cli.config.device import list_profiles, load_profile
from evit_cli.errors import EvitError, MissingDependency
from evit_cli.export.tensorrt import EngineRequest, build_engine
from evit_cli.export.trtexec import input_shapes, trtexec_command
from evit_cli.runtime.container import model_length
from evit_cli.runtime.description import description_path, read_description
from evit_cli.types import EXPORTED, ImageSize, Precision
from tests.helpers.tensorrt_engine import read_header
from tests.helpers.tensorrt_interrupted import Counted
from tests.helpers.tensorrt_models import Tiny
from tests.helpers.tensorrt_rules import problems
from tests.helpers.tensorrt_standin import VERSIONS, Board, MemoryPoolType, install

ORIN = load_profile("orin")


@pytest.fixture(params=VERSIONS)
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Board:
    return install(monkeypatch, request.param)


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> Board:
    return install(monkeypatch, "10.3.0")


def build(folder: Path, tiny: Tiny, **wanted: object) -> Path:
    onnx_file = tiny.save(folder / "tiny.onnx")
    request = replace(EngineRequest(tiny.description, ORIN), **wanted)
    build_engine(onnx_file, folder / "tiny.engine", request=request)
    return folder / "tiny.engine"


@pytest.mark.parametrize("precision", EXPORTED)
def test_an_engine_is_strongly_typed_and_describes_itself(
    board: Board, tmp_path: Path, precision: Precision
) -> None:
    tiny = Tiny(precision)
    engine = build(tmp_path, tiny)
    header = read_header(engine.read_bytes()[: model_length(engine)])
    assert header["version"] == board.version
    assert header["strongly_typed"]
    # 10 is asked for it by bit 1; to 11 nothing is said, as its flag is deprecated.
    assert board.builds[0]["flags"] == (0 if board.major >= 11 else 2)
    assert board.builds[0]["pools"] == {MemoryPoolType.WORKSPACE: 48 << 30}
    description_path(engine).unlink()
    assert read_description(engine) == replace(
        tiny.description, info=replace(tiny.description.info, source=str(engine))
    )


def test_the_stand_in_lacks_what_11_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "11.4.1")
    import tensorrt as trt

    for owner, name in (
        (trt.BuilderFlag, "FP16"),
        (trt.BuilderFlag, "INT8"),
        (trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"),
        (trt, "IInt8EntropyCalibrator2"),
    ):
        with pytest.raises(AttributeError):
            getattr(owner, name)


def test_progress_counts_the_builders_steps(board: Board, tmp_path: Path) -> None:
    tiny, seen = Tiny(), Counted()
    onnx_file = tiny.save(tmp_path / "tiny.onnx")
    request = EngineRequest(tiny.description)
    build_engine(onnx_file, tmp_path / "a.plan", request=request, progress=seen)
    assert seen.started == [(None, "step")]
    assert seen.steps == 6
    assert "Timing Kernels 5/5" in seen.phases
    assert seen.closed == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_build_and_leaves_nothing(
    version: str, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "tests.helpers.tensorrt_interrupted"]
    done = subprocess.run(
        [*command, version, str(int(number)), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "exit_code": 130 if number is signal.SIGINT else 143,
        "steps": 2,  # the builder was told to stop in the step of the signal
        "closed": 1,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize(
    ("logged", "said", "mend"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any "
            "implementation for node {conv}.)",
            "Could not find any implementation for node {conv}",
            "--precision",
        ),
        ("[virtualMemoryBuffer.cpp::resizePhysical::154] Error Code 2: OutOfMemory (Requested "
         "size was 4294967296 bytes.)", "Requested size was 4294967296 bytes", "add swap"),
        ("IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([impl.cpp:585] failed.)",
         "failed", "fp32"),
    ],
)  # fmt: skip
def test_a_failed_build_says_why_and_leaves_nothing(
    board: Board, tmp_path: Path, logged: str, said: str, mend: str
) -> None:
    board.fail_build = logged
    with pytest.raises(EvitError) as caught:
        build(tmp_path, Tiny())
    assert caught.value.message.startswith(f"TensorRT {board.version} built no engine: ")
    assert said in caught.value.message
    assert "Error Code" not in caught.value.message
    assert mend in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_too_small_a_memory_limit(orin: Board, tmp_path: Path) -> None:
    orin.workspace_bytes = 49 << 30
    with pytest.raises(EvitError, match="due to insufficient workspace"):
        build(tmp_path, Tiny())
    assert build(tmp_path, Tiny(), profile=None).is_file()


def test_a_parser_error_names_node_and_op(board: Board, tmp_path: Path) -> None:
    """Bicubic Resize, which TensorRT does not take and evit does not write."""
    tiny = Tiny()
    model = tiny.model()
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
    model.graph.initializer.append(scales)
    model.graph.node[-1].output[0] = "small"
    model.graph.node.append(
        helper.make_node("Resize", ["small", "", "scales"], ["logits"], name="up", mode="cubic")
    )
    for side in (2, 3):
        model.graph.output[0].type.tensor_type.shape.dim[side].dim_value *= 2
    path = tmp_path / "cubic.onnx"
    onnx.save(model, str(path))
    with pytest.raises(EvitError) as caught:
        build_engine(path, tmp_path / "a.engine", request=EngineRequest(tiny.description))
    assert caught.value.message == (
        f"TensorRT {board.version} does not take node 'up' (Resize) of {path}: "
        "resize mode cubic is not supported"
    )
    assert "--device" in caught.value.hint


def test_files_that_are_no_onnx(board: Board, tmp_path: Path) -> None:
    request = EngineRequest(Tiny().description)
    with pytest.raises(EvitError, match=r"there is no file .*gone\.onnx"):
        build_engine(tmp_path / "gone.onnx", tmp_path / "a.engine", request=request)
    (tmp_path / "bad.onnx").write_bytes(b"PK\3\4 not a model")
    with pytest.raises(EvitError, match=r"cannot read .*bad\.onnx: Failed to parse"):
        build_engine(tmp_path / "bad.onnx", tmp_path / "a.engine", request=request)
    with pytest.raises(EvitError, match=r"ends in \.engine or \.plan"):
        build_engine(tmp_path / "bad.onnx", tmp_path / "a.trt", request=request)


@pytest.mark.parametrize(
    ("written", "said", "why"),
    [
        (Precision.FP32, Precision.FP16, "said to be fp16, and no layer of it is"),
        (Precision.FP16, Precision.INT8, "said to be int8, and no layer of it is"),
        (Precision.FP16, Precision.FP32, "said to be fp32, and computes in float16"),
        (Precision.INT8, Precision.FP32, "said to be fp32, and computes in int8"),
    ],
)
def test_the_precision_must_be_in_the_onnx_file(
    board: Board, tmp_path: Path, written: Precision, said: Precision, why: str
) -> None:
    """A strongly typed build would otherwise hand over an engine of another precision."""
    onnx_file = Tiny(written).save(tmp_path / "tiny.onnx")
    request = EngineRequest(Tiny(said).description)
    with pytest.raises(EvitError, match=why):
        build_engine(onnx_file, tmp_path / "a.engine", request=request)


def test_a_range_of_sizes_becomes_an_optimisation_profile(board: Board, tmp_path: Path) -> None:
    tiny = Tiny(largest_hw=ImageSize(128, 256))
    engine = build(tmp_path, tiny)
    (profile,) = read_header(engine.read_bytes())["profiles"]
    # Tuned for the size of the model's preprocessing, which lies in the range.
    assert profile == {"image": [[1, 3, 32, 48], [1, 3, 64, 64], [1, 3, 128, 256]]}


def test_a_free_shape_that_the_description_fixes(board: Board, tmp_path: Path) -> None:
    free = Tiny(largest_hw=ImageSize(128, 256)).save(tmp_path / "free.onnx")
    request = EngineRequest(Tiny().description)
    build_engine(free, tmp_path / "a.engine", request=request)
    (profile,) = read_header((tmp_path / "a.engine").read_bytes())["profiles"]
    assert profile == {"image": [[1, 3, 32, 48]] * 3}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (Tiny(), Tiny(size_hw=ImageSize(64, 64))),
        (Tiny(), Tiny(largest_hw=ImageSize(128, 256))),
        (Tiny(), Tiny(layout="NHWC")),
    ],
)
def test_a_description_of_another_shape(
    board: Board, tmp_path: Path, file: Tiny, said: Tiny
) -> None:
    path = file.save(tmp_path / "tiny.onnx")
    with pytest.raises(EvitError, match="and its description says"):
        build_engine(path, tmp_path / "a.engine", request=EngineRequest(said.description))


@pytest.mark.parametrize(
    ("version", "profile", "why"),
    [
        ("8.6.1", None, "builds no strongly typed engine"),
        ("10.0.1", "orin", r"is written for TensorRT >= 10\.3, < 12, and 10\.0\.1 is installed"),
        ("12.0.0", "a100", "is written for TensorRT"),
        ("10.3.0", "nano", r"is written for TensorRT >= 8\.2, < 8\.3"),
    ],
)
def test_a_tensorrt_that_the_profile_is_not_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, profile: str | None, why: str
) -> None:
    install(monkeypatch, version)
    chosen = None if profile is None else load_profile(profile)
    with pytest.raises(EvitError, match=why) as caught:
        build(tmp_path, Tiny(), profile=chosen)
    assert caught.value.hint


def test_without_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependency, match="building an engine needs TensorRT") as caught:
        build(tmp_path, Tiny())
    assert caught.value.exit_code == 5
    assert caught.value.hint == 'pip install "evit-cli[tensorrt]"'


def test_an_engine_that_cannot_be_written(board: Board, tmp_path: Path) -> None:
    onnx_file = Tiny().save(tmp_path / "tiny.onnx")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EvitError, match="cannot write"):
        build_engine(
            onnx_file, tmp_path / "file" / "a.engine", request=EngineRequest(Tiny().description)
        )


# What the parsers take, as far as it is documented: for tests of exported files too.
def test_uint8_is_an_input_that_cast_turns_into_a_float() -> None:
    good = Tiny(dtype="uint8", layout="NHWC").model()
    assert problems(good, "10.3.0") == []
    assert "UINT8" in problems(Tiny(dtype="uint8", opset=13).model(), "8.2.1")[0].text
    bad = Tiny(dtype="uint8", layout="NHWC").model()
    cast, transpose = bad.graph.node[0], bad.graph.node[1]
    cast.input[0], cast.output[0] = "x", "x1"
    transpose.input[0], transpose.output[0] = "image", "x"
    nodes = [transpose, cast, *bad.graph.node[2:]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del bad.graph.node[:]
    bad.graph.node.extend(copies)
    assert {found.name for found in problems(bad, "10.3.0")} == {"nchw", "to_float"}


@pytest.mark.parametrize(
    ("opset", "version", "taken"),
    [
        (13, "8.2.1", True), (14, "8.2.1", False), (18, "10.3.0", True), (22, "10.3.0", False),
        (22, "11.4.1", True),
    ],
)  # fmt: skip
def test_opsets(opset: int, version: str, taken: bool) -> None:
    assert (problems(Tiny(opset=opset).model(), version) == []) is taken


# trtexec
def test_trtexec_for_the_nano() -> None:
    """8.2 has --workspace, --buildOnly and precision flags."""
    command = trtexec_command(
        "m.onnx", "m.engine", description=Tiny(Precision.FP16).description,
        profile=load_profile("nano"),
    )  # fmt: skip
    assert shlex.join(command) == (
        "/usr/src/tensorrt/bin/trtexec --onnx=m.onnx --saveEngine=m.engine --fp16 "
        "--workspace=2048 --buildOnly"
    )
    fp32 = trtexec_command(
        "m.onnx", "m.engine", description=Tiny().description, profile=load_profile("nano")
    )
    assert "--fp16" not in fp32


def test_trtexec_for_jetpack_5() -> None:
    """8.5 has --memPoolSize, and still --buildOnly."""
    command = trtexec_command(
        "m.onnx", "m.engine", description=Tiny(Precision.FP16).description,
        profile=load_profile("xavier-nx"),
    )  # fmt: skip
    assert command[3:] == ["--fp16", "--memPoolSize=workspace:5120", "--buildOnly"]


def test_trtexec_for_10_and_11_with_a_range_of_sizes() -> None:
    tiny = Tiny(Precision.INT8, largest_hw=ImageSize(128, 256), layout="NHWC", dtype="uint8")
    command = trtexec_command(
        Path("a b.onnx"), "m.engine", description=tiny.description, profile=ORIN
    )
    assert command == [
        "/usr/src/tensorrt/bin/trtexec",
        "--onnx=a b.onnx",
        "--saveEngine=m.engine",
        "--stronglyTyped",
        "--memPoolSize=workspace:49152",
        "--skipInference",
        "--minShapes=image:1x32x48x3",
        "--optShapes=image:1x64x64x3",
        "--maxShapes=image:1x128x256x3",
    ]


def test_trtexec_refuses_what_the_board_cannot_do() -> None:
    nano = load_profile("nano")
    with pytest.raises(EvitError, match="takes no uint8 input"):
        trtexec_command("m", "e", description=Tiny(dtype="uint8").description, profile=nano)
    with pytest.raises(EvitError, match="does not compute in int8"):
        trtexec_command("m", "e", description=Tiny(Precision.INT8).description, profile=nano)
    with pytest.raises(EvitError, match="x86 has no TensorRT"):
        trtexec_command("m", "e", description=Tiny().description, profile=load_profile("x86"))


def test_every_profile_with_tensorrt_gets_a_command() -> None:
    profiles = [profile for profile in list_profiles() if profile.tensorrt is not None]
    assert len(profiles) >= 5
    for profile in profiles:
        for precision in profile.all_precisions:
            command = trtexec_command(
                "m.onnx", "m.engine", description=Tiny(precision).description, profile=profile
            )
            assert len(set(command)) == len(command)


def test_an_engine_is_tuned_for_the_largest_size_when_the_usual_one_is_out_of_range() -> None:
    tiny = Tiny(size_hw=ImageSize(128, 128), largest_hw=ImageSize(256, 512))
    assert input_shapes(tiny.description).best == (1, 3, 256, 512)
