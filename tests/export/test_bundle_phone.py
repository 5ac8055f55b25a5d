"""A bundle for phones: its models, its adb scripts on the stand-in, its code for an app."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.bench.protocol import NORMAL
from evit_cli.bench.remote.benchmark_run import DISPATCH, QNN, RunPlan, flags_of
from evit_cli.bench.remote.phone_tool import where_published
from evit_cli.errors import EvitError
from evit_cli.export.bundle import make_bundle
from evit_cli.export.bundle_plan import plan_bundle
from evit_cli.export.job import ExportJob
from evit_cli.export.plan import ExportRequest
from evit_cli.inference.class_map import class_map
from evit_cli.inference.preprocess import fit
from evit_cli.inference.segmenter import Segmenter
from evit_cli.media.drawing import Palette, blend
from evit_cli.media.street_scene import street_frames
from evit_cli.runtime.open import open_artifact
from evit_cli.types import ImageSize, Precision
from tests.helpers.adb_standin import AdbStandin
from tests.helpers.exports import CLASSES, healthy_model, info_of, photos, tiny_info, tiny_model

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
SIZE = ImageSize(64, 96)
LARGER = "seg-b0-cityscapes"
PLACE = "/data/local/tmp/evit-tiny"


def export(folder: Path) -> Path:
    """A bundle of the tiniest model, with its files as they were planned."""
    plan = plan_bundle(ExportRequest(device="snapdragon"), tiny_info(), folder, calibrated=False)
    job = ExportJob(plan.models[0].plan, tiny_model(), images=photos(), threads=1)
    report = make_bundle(plan, job)
    assert report.folder == folder
    assert set(plan.files) == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    }
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiniest model, copied into an empty folder."""
    place = tmp_path_factory.mktemp("phone")
    return shutil.copytree(export(place / "made"), place / "in a new place" / "bundle")


def manifest(bundle: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((bundle / "bundle.json").read_text("utf-8"))
    return document


def test_a_model_per_delegate(made: Path) -> None:
    models = manifest(made)["models"]
    assert isinstance(models, list)
    assert [model["uses"] for model in models] == [["cpu"], ["gpu"]]
    for model, precision, dtype in zip(models, ("fp32", "fp16"), ("uint8", "float32"), strict=True):
        session = open_artifact(made / model["file"])
        assert session.precision.value == precision
        assert model["description"]["input"]["dtype"] == dtype
        assert model["description"]["verification"]["verdict"] == "PASS"
        image = next(iter(photos()))
        assert Segmenter(session)(image).class_map.shape == image.shape[:2]
        session.close()
    assert manifest(made)["verdict"] == "PASS"


@pytest.fixture(scope="module")
def npu_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of int8 alone; of random weights, which need not agree with themselves."""
    folder = tmp_path_factory.mktemp("npu") / "b"
    request = ExportRequest(device="snapdragon", precision=Precision.INT8)
    plan = plan_bundle(request, info_of(LARGER), folder, calibrated=True)
    job = ExportJob(plan.models[0].plan, healthy_model(LARGER), photos(8), threads=1)
    make_bundle(plan, job)
    return folder


@pytest.mark.slow
def test_int8_for_cpu_and_npu_comes_with_images(npu_bundle: Path) -> None:
    (model,) = manifest(npu_bundle)["models"]  # type: ignore[misc]
    assert model["uses"] == ["cpu-int8", "npu"]
    assert model["description"]["calibration"]["images"] == 8
    assert 'CPU_INT8("' in (npu_bundle / "android/Segmenter.kt").read_text("utf-8")


def test_int8_is_left_out_without_images(tmp_path: Path) -> None:
    request = ExportRequest(device="snapdragon")
    without = plan_bundle(request, tiny_info(), tmp_path / "c", calibrated=False)
    assert [model.uses for model in without.models] == [("cpu",), ("gpu",)]
    left_out = [choice for choice in without.choices if choice.value == "left out"]
    assert "--calib" in left_out[0].why
    all_of_them = plan_bundle(request, tiny_info(), tmp_path / "c", calibrated=True)
    assert [use for model in all_of_them.models for use in model.uses] == [
        "cpu", "gpu", "cpu-int8", "npu",
    ]  # fmt: skip


def test_a_failing_model_leaves_nothing(tmp_path: Path) -> None:
    request = ExportRequest(device="snapdragon", precision=Precision.FP32)
    plan = plan_bundle(request, tiny_info(), tmp_path / "b", calibrated=False)

    job = ExportJob(plan.models[0].plan, tiny_model(), images=photos(), threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evit_cli.export.job._compare", _fails)
        with pytest.raises(EvitError) as caught:
            make_bundle(plan, job)
    assert caught.value.exit_code == 3
    assert "no bundle was made, since tiny-64x96-fp32.tflite fails" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def _fails(job: ExportJob, artifacts: list[Path], progress: object) -> object:
    from evit_cli.export.verdict import Verdict
    from evit_cli.export.verify import Verification

    return Verification(Verdict.FAIL, "all is wrong", 1, "", 0, 0, 0, 0, 0, "tflite")


# ------------------------------------------------------------------------------- adb scripts


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdbStandin:
    standin = AdbStandin(tmp_path / "adb", monkeypatch)
    standin.add_phone()
    return standin


def script(bundle: Path, name: str, *words: object, **settings: str) -> tuple[int, str, str]:
    """`sh DIR/adb/NAME.sh WORDS` in the environment that the stand-in made."""
    done = subprocess.run(
        ["sh", str(bundle / "adb" / f"{name}.sh"), *map(str, words)],
        capture_output=True, text=True, env=dict(os.environ) | settings, timeout=90,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def flags_given(adb: AdbStandin) -> list[list[str]]:
    """Of every call of benchmark_model."""
    shells = [words[3] for words in adb.calls() if words[2:3] == ["shell"]]
    lines = [text for text in shells if "./benchmark_model --" in text]
    return [
        shlex.split(text.partition("./benchmark_model ")[2].partition(" >")[0]) for text in lines
    ]


@pytest.mark.parametrize("tool", ["interpreter", "compiled"])
def test_push_run_pull_clean(made: Path, adb: AdbStandin, tmp_path: Path, tool: str) -> None:
    adb.set(tool=tool)
    code, _, said = script(made, "push", adb.tool())
    assert code == 0, said
    assert sorted(path.name for path in (adb.place() / "evit-tiny").iterdir()) == [
        "benchmark_model", "results", "tiny-64x96-fp16.tflite", "tiny-64x96-fp32.tflite",
    ]  # fmt: skip
    code, out, said = script(made, "run")
    assert code == 0, out + said
    assert "--- cpu: tiny-64x96-fp32.tflite" in out
    assert "--- gpu: tiny-64x96-fp16.tflite" in out
    plan = RunPlan("cpu", PLACE, "tiny-64x96-fp32.tflite", Precision.FP32, None, NORMAL)
    gpu = replace(plan, accelerator="gpu", model="tiny-64x96-fp16.tflite", precision=Precision.FP16)
    expected = [flags_of(plan, strict=False), flags_of(gpu, strict=True)]
    assert [sorted(flags) for flags in flags_given(adb)] == [sorted(flags) for flags in expected]
    code, _, said = script(made, "pull", tmp_path / "results")
    assert code == 0, said
    results = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    assert results.keys() == {"cpu.txt", "gpu.txt"}
    assert all("Inference" in text for text in results.values())
    code, _, said = script(made, "pull", tmp_path / "results")
    assert code == 1
    assert "exists already" in said
    assert script(made, "clean")[0] == 0
    assert adb.left() == []


@pytest.mark.parametrize("behaviour", ["partial", "declines", "fails"])
def test_a_gpu_that_leaves_a_part_to_the_cpu_gives_no_time(
    made: Path, adb: AdbStandin, behaviour: str
) -> None:
    adb.set(behaviour={"gpu": behaviour})
    assert script(made, "push", adb.tool())[0] == 0
    code, _, said = script(made, "run")
    assert code == 1
    assert "no time for gpu" in said
    assert "no time for cpu" not in said
    code, _, said = script(made, "run", "cpu", THREADS="4")
    assert code == 0, said
    assert "--num_threads=4" in flags_given(adb)[-1]


def test_an_old_tool_cannot_prove_that_a_gpu_ran(made: Path, adb: AdbStandin) -> None:
    adb.set(tool="old", behaviour={"gpu": "declines"})
    assert script(made, "push", adb.tool())[0] == 0
    code, _, said = script(made, "run", "gpu")
    assert code == 1
    assert "cannot tell whether the gpu ran the model" in said


@pytest.mark.slow
@pytest.mark.parametrize("library", [QNN, f"{DISPATCH}Qualcomm.so", ""])
def test_the_npu_by_what_was_pushed(
    library: str, adb: AdbStandin, tmp_path: Path, npu_bundle: Path
) -> None:
    more = []
    if library:
        (tmp_path / library).write_bytes(b"so")
        more = [tmp_path / library]
    assert script(npu_bundle, "push", adb.tool(), *more)[0] == 0
    code, out, said = script(npu_bundle, "run", "npu")
    assert code == 0, out + said
    libraries = (library,) if library else ()
    place, name = PLACE.replace("tiny", LARGER), f"{LARGER}-64x128-int8.tflite"
    plan = RunPlan("npu", place, name, Precision.INT8, None, NORMAL, libraries=libraries)
    assert sorted(flags_given(adb)[0]) == sorted(flags_of(plan, strict=True))


def test_what_goes_wrong_is_one_sentence(made: Path, adb: AdbStandin, tmp_path: Path) -> None:
    def refused(name: str, *words: object, **settings: str) -> str:
        code, _, said = script(made, name, *words, **settings)
        assert code in (1, 2), said
        what, mend = said.splitlines()[-2:]
        assert what.startswith("error: ") and mend.startswith("  mend: ")
        return said

    assert "benchmark_model is not named" in refused("push")
    assert "there is no file" in refused("push", tmp_path / "none")
    assert "not on the phone" in refused("run")
    assert "there is no result" in refused("pull")
    assert "there is no model for 'tpu'" in refused("run", "tpu")
    assert "there is no adb" in refused("clean", ADB="no-such-program")
    adb.set(full=True)
    assert "could not be copied" in refused("push", adb.tool())
    adb.add_phone("SECOND00")
    assert "several phones" in refused("run")
    adb.set(full=False)
    assert script(made, "push", adb.tool(), ANDROID_SERIAL="SECOND00")[0] == 0
    adb.set("SECOND00", state="unauthorized")
    adb.set(gone=True)
    assert "has not allowed this" in refused("run")
    adb.set("SECOND00", gone=True)
    assert "there is no phone" in refused("run")


@pytest.mark.parametrize("name", ["phone", "push", "run", "pull", "clean"])
def test_scripts_are_for_any_shell(made: Path, name: str) -> None:
    path = made / "adb" / f"{name}.sh"
    for shell in ("sh", "bash", "dash"):
        if shutil.which(shell):
            subprocess.run([shell, "-n", path], check=True)
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, "-x", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# --------------------------------------------------------------------------- code for an app


def test_kotlin_has_the_models_and_closes_what_it_opens(made: Path) -> None:
    """It is not compiled here: that takes Android's own tools."""
    segmenter = (made / "android" / "Segmenter.kt").read_text("utf-8")
    found = re.findall(r'^    (\w+)\("([^"]+)", Accelerator\.(\w+), (\w+)\),$', segmenter, re.M)
    assert found == [
        ("CPU", "tiny-64x96-fp32.tflite", "CPU", "false"),
        ("GPU", "tiny-64x96-fp16.tflite", "GPU", "true"),
    ]
    assert {name for _, name, _, _ in found} == {p.name for p in (made / "models").iterdir()}
    for name in ("Segmenter.kt", "CameraOverlay.kt"):
        text = re.sub(r'"[^"]*"|/\*.*?\*/', "", (made / "android" / name).read_text(), flags=re.S)
        for opened, closed in ("()", "[]", "{}"):
            assert text.count(opened) == text.count(closed), name
        assert "@" not in text


def test_java_has_the_constants_of_the_artifact(made: Path) -> None:
    text = (made / "android" / "PixelMath.java").read_text("utf-8")
    numbers = dict(re.findall(r"public static final (?:int|double) (\w+) = ([\d.]+);", text))
    assert numbers == {
        "HEIGHT": "64", "WIDTH": "96", "LOGIT_HEIGHT": "8", "LOGIT_WIDTH": "12",
        "CLASSES": str(CLASSES), "LARGEST_STRETCH": "1.4", "ALPHA": "0.5",
    }  # fmt: skip
    assert text.count("0xff") - text.count("& 0xff") - text.count("= 0xff") == CLASSES


@pytest.fixture(scope="module")
def trial(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PixelMath and a program around it, compiled."""
    if shutil.which("javac") is None:
        pytest.skip("javac is not installed")
    out = tmp_path_factory.mktemp("classes")
    sources = [made / "android" / "PixelMath.java", HELPERS / "PixelMathTrial.java"]
    command = ["javac", "-Xlint:all", "-Werror", "--release", "11", "-d", str(out)]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("hw", [(64, 96), (48, 64), (150, 200), (90, 40), (270, 480), (20, 300)])
def test_java_does_what_evit_segment_does(
    made: Path, trial: Path, tmp_path: Path, hw: tuple[int, int]
) -> None:
    scene = next(street_frames(1, (270, 480)))
    image = np.ascontiguousarray(cv2.resize(scene, hw[::-1], interpolation=cv2.INTER_AREA))
    session = open_artifact(made / "models" / "tiny-64x96-fp32.tflite")
    placement = Segmenter(session).placement(ImageSize(*hw))
    canvas = fit(image, placement)
    logits = session.run({"image": canvas[None]})["logits"][0]
    session.close()
    step = (
        placement.content_hw.height * 8 / 64 / hw[0],
        placement.content_hw.width * 12 / 96 / hw[1],
    )
    labels = class_map(logits, hw, step_yx=step)
    classes = tiny_info().classes
    assert classes is not None
    overlay = blend(image, Palette(classes).colorize(labels), 0.5)

    argb = (0xFF << 24) | (image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32))
    (tmp_path / "picture").write_bytes(np.array(hw, ">i4").tobytes() + argb.astype(">u4").tobytes())
    (tmp_path / "logits").write_bytes(logits.transpose(1, 2, 0).astype(">f4").tobytes())
    words = [str(tmp_path / name) for name in ("picture", "logits", "out")]
    command = ["java", "-Xshare:auto", "-cp", str(trial), "evit.PixelMathTrial", *words]
    subprocess.run(command, check=True, timeout=60)
    raw = (tmp_path / "out").read_bytes()
    sizes = (canvas.size, labels.size, 4 * labels.size)
    assert len(raw) == sum(sizes)
    given = np.frombuffer(raw, np.uint8, sizes[0]).reshape(canvas.shape)
    found = np.frombuffer(raw, np.uint8, sizes[1], sizes[0]).reshape(hw)
    mixed = np.frombuffer(raw, np.uint8, sizes[2], sizes[0] + sizes[1]).reshape(*hw, 4)
    assert np.abs(given.astype(int) - canvas).max() <= 1
    assert np.mean(found == labels) > 0.999
    same = found == labels
    assert np.abs(mixed[..., 1:].astype(int) - overlay)[same].max() <= 1


def test_the_readme_names_the_same_tool_as_bench(made: Path) -> None:
    text = (made / "README.md").read_text("utf-8")
    assert where_published("arm64-v8a").partition(" or ")[0] in text
    assert "Not run on a phone by us" in text
