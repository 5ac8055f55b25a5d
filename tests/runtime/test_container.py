"""The description inside an artifact: written, replaced, read back, and never in the way."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evit_cli.errors import EvitError
from evit_cli.runtime.container import KEY, model_length, read_text, write_text
from evit_cli.runtime.description import (
    Description,
    describe_artifact,
    description_path,
    encode_description,
    read_description,
)
from evit_cli.types import ClassSet, ImageSize, ModelInfo, Precision, Preprocess, Task
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.tensorrt_models import Tiny

STREET = EMBEDDED["seg-b0-street"].artifact
XML = (
    '<?xml version="1.0"?>\n<net name="x" version="11"><layers /><edges />'
    '<rt_info><Runtime_version value="2026.2" /></rt_info></net>\n'
)
SUFFIXES = [".onnx", ".xml", ".tflite", ".engine", ".plan"]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def plain(suffix: str) -> bytes:
    """A small model of each kind without a description."""
    if suffix == ".onnx":
        return bytes(Tiny().model().SerializeToString())
    return XML.encode() if suffix == ".xml" else bytes(range(256)) * 5


@pytest.fixture(params=SUFFIXES)
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"model{request.param}"
    path.write_bytes(plain(request.param))
    return path


def xml_text(text: str) -> str:
    """XML 1.0 has no control characters; JSON, which is what is written, escapes them."""
    return "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff"))


@quick
@given(first=texts, second=texts)
def test_what_is_written_is_read_and_replaced(artifact: Path, first: str, second: str) -> None:
    if artifact.suffix == ".xml":
        first, second = xml_text(first), xml_text(second)
    artifact.write_bytes(plain(artifact.suffix))
    assert read_text(artifact) is None
    write_text(artifact, first)
    assert read_text(artifact) == first
    write_text(artifact, second)
    assert read_text(artifact) == second
    once = artifact.read_bytes()
    artifact.write_bytes(plain(artifact.suffix))
    write_text(artifact, second)
    assert artifact.read_bytes() == once, "nothing of the first text is left"


def test_the_model_itself_stays_byte_for_byte(artifact: Path) -> None:
    if artifact.suffix == ".xml":
        pytest.skip("XML is written anew")
    before = artifact.read_bytes()
    write_text(artifact, "x" * 1000)
    assert artifact.read_bytes().startswith(before)
    if artifact.suffix != ".onnx":
        assert model_length(artifact) == len(before)


@pytest.mark.parametrize("suffix", [".tflite", ".engine"])
def test_a_foreign_archive_is_kept(suffix: str, tmp_path: Path) -> None:
    """TFLite's own metadata lies behind the model in the same way."""
    path = tmp_path / f"model{suffix}"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("labels.txt", "road\n")
    path.write_bytes(plain(suffix) + buffer.getvalue())
    foreign = path.read_bytes()
    assert read_text(path) is None
    write_text(path, "ours")
    assert read_text(path) == "ours"
    assert path.read_bytes().startswith(foreign)
    write_text(path, "again")
    assert read_text(path) == "again"
    assert path.read_bytes().startswith(foreign)


def test_other_onnx_metadata_is_kept_before_and_after_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = Tiny().model()
    model.metadata_props.add(key="author", value="somebody")
    onnx.save(model, str(path))
    write_text(path, "first")
    again = onnx.load(str(path))
    again.metadata_props.add(key="later", value="else")
    again.functions.add(name="unused", domain="x")
    onnx.save(again, str(path))
    write_text(path, "second")
    assert read_text(path) == "second"
    found = onnx.load(str(path))
    values = {entry.key: entry.value for entry in found.metadata_props}
    assert values == {"author": "somebody", "later": "else", KEY: "second"}
    assert [function.name for function in found.functions] == ["unused"]
    assert found.graph == model.graph


def test_other_runtime_information_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text(XML)
    write_text(path, 'a "quoted" <text>\n& more')
    assert read_text(path) == 'a "quoted" <text>\n& more'
    assert 'Runtime_version value="2026.2"' in path.read_text()
    path.write_text(XML.replace("rt_info", "other"))
    write_text(path, "without rt_info")
    assert read_text(path) == "without rt_info"


def test_onnx_sees_it_and_stays_valid(tmp_path: Path) -> None:
    path = Tiny().save(tmp_path / "model.onnx")
    write_text(path, "straße")
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {KEY: "straße"}


def test_unzip_shows_it_and_litert_looks_past_it(tmp_path: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    path = tmp_path / "model.tflite"
    shutil.copy(STREET, path)
    describe_artifact(path, read_description(STREET))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("evit.json"))["name"] == "seg-b0-street"
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-p", path, "evit.json"], capture_output=True)
        assert json.loads(done.stdout)["name"] == "seg-b0-street"
    loaded = interpreter(model_path=str(path), num_threads=1)
    loaded.allocate_tensors()
    assert tuple(loaded.get_input_details()[0]["shape"]) == (1, 544, 960, 3)


@quick
@given(data=st.data())
def test_cut_off_files_say_nothing(artifact: Path, data: st.DataObject) -> None:
    artifact.write_bytes(plain(artifact.suffix))
    write_text(artifact, "a description")
    whole = artifact.read_bytes()
    artifact.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert read_text(artifact) is None


@quick
@given(data=st.data())
def test_garbled_files_do_not_crash(artifact: Path, data: st.DataObject) -> None:
    """One byte is wrong somewhere in the last part, where the description is."""
    artifact.write_bytes(plain(artifact.suffix))
    write_text(artifact, "a description")
    spoilt = bytearray(artifact.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(max(0, len(spoilt) - 160), len(spoilt) - 1))
        spoilt[at] = data.draw(st.integers(0, 255))
    artifact.write_bytes(spoilt)
    found = read_text(artifact)
    assert found is None or isinstance(found, str)


@quick
@given(content=st.binary(max_size=400))
def test_any_bytes_are_read_without_a_crash(artifact: Path, content: bytes) -> None:
    artifact.write_bytes(content)
    assert read_text(artifact) is None or artifact.suffix == ".onnx"


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
shares = st.floats(0.001, 1, allow_nan=False)
sizes = st.builds(ImageSize, st.integers(1, 9999), st.integers(1, 9999))
colors = st.tuples(*[st.integers(0, 255)] * 3)
class_sets = st.lists(st.tuples(names, colors), max_size=5).flatmap(
    lambda rows: st.builds(
        ClassSet, names, st.just(tuple(r[0] for r in rows)), st.just(tuple(r[1] for r in rows))
    )
)
preprocesses = st.builds(
    Preprocess, sizes, mean_rgb=st.tuples(shares, shares, shares),
    std_rgb=st.tuples(shares, shares, shares), interpolation=st.sampled_from(["cubic", "linear"]),
    crop_ratio=shares, stride=st.sampled_from([8, 32, 64]),
)  # fmt: skip
infos = st.builds(
    ModelInfo, names, st.sampled_from(Task), preprocesses, st.none() | class_sets, licence=names,
    source=st.just(""), sha256=names,
)  # fmt: skip
descriptions = st.builds(
    Description, infos, sizes, st.sampled_from(Precision), st.none() | sizes,
    batch=st.integers(1, 64), layout=st.sampled_from(["NHWC", "NCHW"]),
    dtype=st.sampled_from(["uint8", "float32"]), islands=st.lists(names, max_size=3).map(tuple),
    calibration=st.dictionaries(names, st.integers() | names, max_size=2), profile=names,
    verification=st.dictionaries(names, names | st.none(), max_size=2),
)  # fmt: skip


@quick
@given(description=descriptions)
def test_descriptions_come_back_whole(artifact: Path, description: Description) -> None:
    artifact.write_bytes(plain(artifact.suffix))
    describe_artifact(artifact, description)
    expected = replace(description, info=replace(description.info, source=str(artifact)))
    assert read_description(artifact) == expected
    assert description_path(artifact).read_text("utf-8") == encode_description(description)
    description_path(artifact).unlink()
    assert read_description(artifact) == expected


def test_the_one_inside_counts(tmp_path: Path) -> None:
    path = Tiny().save(tmp_path / "model.onnx")
    describe_artifact(path, Tiny().description)
    description_path(path).write_text("of another file")
    assert read_description(path).info.name == "tiny"


def spoil(change: Callable[[dict[str, object]], object]) -> str:
    document = json.loads(encode_description(Tiny().description))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not say what it is"),
        ("{", "does not say what it is"),
        ("[]", "lacks or garbles"),
        ("3", "lacks or garbles"),
        (spoil(lambda d: d.update(format=99)), "has format 99, not 2"),
        (spoil(lambda d: d.pop("name")), "lacks or garbles 'name'"),
        (spoil(lambda d: d.update(input=None)), "lacks or garbles"),
        (spoil(lambda d: d.update(input=[1])), "lacks or garbles"),
        (spoil(lambda d: d.update(preprocess="x")), "lacks or garbles"),
        (spoil(lambda d: d.update(precision="fp4")), "lacks or garbles 'fp4'"),
        (spoil(lambda d: d["input"].update(size_hw=[1])), "lacks or garbles"),
        (spoil(lambda d: d["input"].update(batch=float("inf"))), "lacks or garbles"),
        (spoil(lambda d: d["preprocess"].update(mean_rgb=[0.5])), "lacks or garbles"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inside", [True, False])
def test_damaged_descriptions_are_sentences(
    text: str, words: str, inside: bool, tmp_path: Path
) -> None:
    path = Tiny().save(tmp_path / "model.onnx")
    if inside:
        write_text(path, text)
    else:
        description_path(path).write_text(text)
    with pytest.raises(EvitError, match=words) as caught:
        read_description(path)
    named = path if inside else description_path(path)
    assert named.name in caught.value.message
    assert "\n" not in caught.value.message


def test_format_1_is_still_read() -> None:
    """What evit 0.1 wrote beside a .tflite file."""
    document = {
        "format": 1, "name": "old", "task": "segment", "size_hw": [544, 960], "precision": "fp32",
        "licence": "MIT", "source_sha256": "aa",
        "preprocess": {"size_hw": [736, 960], "interpolation": "cubic", "crop_ratio": 1.0,
                       "stride": 32},
        "classes": {"name": "two", "classes": ["a", "b"], "colors_rgb": [[1, 2, 3], [4, 5, 6]]},
    }  # fmt: skip
    text = json.dumps(document)
    path = Path("old.tflite")
    found = _read_beside(path, text)
    assert found.input_shape == (1, 544, 960, 3)
    assert (found.batch, found.layout, found.dtype) == (1, "NHWC", "uint8")
    assert found.info.preprocess == Preprocess(ImageSize(736, 960))
    assert found.info.classes == ClassSet("two", ("a", "b"), ((1, 2, 3), (4, 5, 6)))
    assert found.evit_version == "0.1.0"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _read_beside(path: Path, text: str) -> Description:
    path.write_bytes(np.zeros(64, np.uint8).tobytes())
    description_path(path).write_text(text)
    return read_description(path)
