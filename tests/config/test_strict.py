"""A user's own profile file: accepted wherever a name is, and every mistake is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evit_cli.config.device import load_profile
from evit_cli.config.find import data_files, data_folder
from evit_cli.errors import EvitError

MINE = """\
name: my-board
title: My board
backends:
  - {backend: tflite, why: it is what I have}
precisions:
  - {precision: fp32, why: exact}
onnx: {opset: 18, why: any}
input: {layout: NHWC, shapes: static, why: simple}
transport: {ways: [ssh], evit_runs_there: true, why: it has Python}
peak: {missing: not measured}
"""


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "my-board.yaml"


def test_a_small_file_is_enough(board: Path) -> None:
    board.write_text(MINE)
    profile = load_profile(str(board))
    assert profile.name == "my-board"
    assert not profile.run_on_hardware_by_us
    assert profile.default_transport == "ssh"


def test_a_byte_order_mark_and_crlf_do_no_harm(board: Path) -> None:
    board.write_bytes(b"\xef\xbb\xbf" + MINE.replace("\n", "\r\n").encode())
    assert load_profile(str(board)).name == "my-board"


def test_a_relative_path_is_a_file_too(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board.write_text(MINE)
    monkeypatch.chdir(board.parent)
    assert load_profile("my-board.yaml").name == "my-board"
    assert load_profile("./my-board.yaml").name == "my-board"


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("title:", "titel:", "line 2: unknown key 'titel'", "did you mean 'title'?"),
        (
            "shapes: static",
            "shape: static",
            "line 8: unknown key 'input.shape'",
            "did you mean 'shapes'?",
        ),
        (
            "why: it is what",
            "wy: it is what",
            "line 4: unknown key 'backends[0].wy'",
            "did you mean 'why'?",
        ),
        (
            "peak: {missing: not measured}",
            "peak:\n  missing: all else\n  bandwidth_gb_per_s:\n    value: 5\n    sorce: me",
            "line 14: unknown key 'peak.bandwidth_gb_per_s.sorce'",
            "did you mean 'source'?",
        ),
        (
            "title:",
            "zzzzzz: 1\ntitle:",
            "line 2: unknown key 'zzzzzz'",
            "known keys: accelerators, aliases",
        ),
        ("name: my-board\n", "", "line 1: key 'name' is missing", ""),
        ("name: my-board", "name: auto", "name: 'auto' means the profile of the machine", ""),
        ("name: my-board", "name: My Board", "line 1: name: string should match", ""),
        ("backend: tflite", "backend: tflight", "line 4: backends[0].backend: ", ""),
        ("backend: tflite", "backend: tensorrt", "'tensorrt' is needed exactly when", ""),
        ("opset: 18", "opset: 7", "line 7: onnx.opset: ", ""),
        ("peak: {missing: not measured}", "peak: {}", "say in 'missing' why", ""),
        (
            "peak: {missing: not measured}",
            "peak: {missing: x, compute_tera_ops_per_s: {fp8: {value: 1, source: me}}}",
            "peak.compute_tera_ops_per_s.fp8: input should be 'fp32', 'fp16', 'bf16' or 'int8'",
            "",
        ),
        (
            "peak: {missing: not measured}",
            "peak: {missing: x, bandwidth_gb_per_s: {value: 1, source: me, derived: true}}",
            "a derived figure says how",
            "",
        ),
        (
            "onnx:",
            "tools: [{name: LiteRT, at_least: 1.10, why: x}]\nonnx:",
            'tools[0].at_least: input should be a valid string: write it in quotes, "1.1"',
            "",
        ),
        ("onnx:", "detect: {rules: [{}]}\nonnx:", "would match every machine", ""),
        ("ways: [ssh]", "ways: []", "line 9: transport.ways: ", ""),
    ],
)
def test_mistakes(board: Path, old: str, new: str, message: str, hint: str) -> None:
    assert old in MINE
    board.write_text(MINE.replace(old, new, 1))
    with pytest.raises(EvitError) as caught:
        load_profile(str(board))
    assert caught.value.message.startswith(f"{board} line ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [unclosed", "line 1 is not valid YAML"),
        (b"a: 1\nb: 2\n\tc: 3", "line 3 is not valid YAML"),
        (b"name: x\nname: y", "line 2 is not valid YAML: key 'name' is written twice"),
        (b"a: *nowhere", "line 1 is not valid YAML"),
        (b"", "holds nothing, not keys with values"),
        (b"- a\n- b", "holds a list"),
        (b"just words", "holds text"),
        (b"\x00\x01\xff\xfe", "is not a text file"),
        (b"a: \x01", "is not valid YAML"),
        (b"[" * 600, "is not valid YAML"),
        (b"#" * (1 << 21), "larger than 1 MiB"),
        (b"!!python/object/apply:os.system [exit]", "is not valid YAML"),
    ],
)
def test_not_a_profile_at_all(board: Path, content: bytes, message: str) -> None:
    board.write_bytes(content)
    with pytest.raises(EvitError) as caught:
        load_profile(str(board))
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=r"cannot read .*no\.yaml: no such file"):
        load_profile(str(tmp_path / "no.yaml"))
    with pytest.raises(EvitError, match="cannot read"):
        load_profile(f"{tmp_path}/")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_end_in_one_sentence(board: Path, data: bytes) -> None:
    board.write_bytes(data)
    with pytest.raises(EvitError) as caught:
        load_profile(str(board))
    assert "\n" not in caught.value.message


def test_data_of_a_checkout_and_of_a_wheel(tmp_path: Path) -> None:
    package = tmp_path / "evit_cli"
    (tmp_path / "devices").mkdir()
    with pytest.raises(EvitError, match="devices folder that comes with evit is missing") as caught:
        data_folder("devices", package)
    assert "pip install" in caught.value.hint
    (tmp_path / "pyproject.toml").touch()
    assert data_folder("devices", package) == tmp_path / "devices"
    installed = package / "_data" / "devices"
    installed.mkdir(parents=True)
    assert data_folder("devices", package) == installed
    (installed / "b.yaml").touch()
    (installed / "a.yaml").touch()
    (installed / "notes.txt").touch()
    assert [path.name for path in data_files("devices", package)] == ["a.yaml", "b.yaml"]
