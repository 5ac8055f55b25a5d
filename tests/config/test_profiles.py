from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.config.describe import describe
from evit_cli.config.device import list_profiles, load_profile
from evit_cli.config.find import data_files, data_folder
from evit_cli.config.profile import Profile, ToolRange
from evit_cli.config.strict import load_yaml
from evit_cli.config.versions import version_key
from evit_cli.errors import EvitError
from evit_cli.types import EXPORTED, Backend, Precision

FILES = data_files("devices")
NAMES = {
    "a100",
    "arm64",
    "jetson-agx-orin",
    "jetson-nano",
    "jetson-orin-nano",
    "jetson-xavier-nx",
    "snapdragon-8-elite",
    "snapdragon-8-gen1",
    "snapdragon-8-gen3",
    "x86",
}
shipped = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_the_shipped_profiles() -> None:
    assert {profile.name for profile in list_profiles()} == NAMES


@shipped
def test_loads_and_is_named_as_its_file(path: Path) -> None:
    assert load_yaml(path, Profile).name == path.stem


@shipped
def test_opens_with_its_commands(path: Path) -> None:
    head = path.read_text().partition("\nname:")[0]
    assert "evit devices show" in head
    assert re.search(r"evit (export|bench) .*--device", head)


@shipped
def test_each_figure_names_a_source_and_gaps_are_explained(path: Path) -> None:
    # The yaml itself, since a default could hide what the file does not say.
    peak = yaml.safe_load(path.read_text())["peak"]
    figures = [*peak.get("compute_tera_ops_per_s", {}).values()]
    figures += [peak["bandwidth_gb_per_s"]] if "bandwidth_gb_per_s" in peak else []
    for figure in figures:
        assert figure["value"] > 0
        assert len(figure["source"]) > 10
        assert not figure.get("derived") or figure["how"]
    if len(figures) < len(EXPORTED) + 1:
        assert peak["missing"]


@shipped
def test_int8_is_never_slower_than_fp16_nor_fp16_than_fp32(path: Path) -> None:
    compute = load_yaml(path, Profile).peak.compute_tera_ops_per_s
    values = [
        compute[p].value for p in (Precision.FP32, Precision.FP16, Precision.INT8) if p in compute
    ]
    assert values == sorted(values)


@shipped
def test_claims_about_hardware_are_honest(path: Path) -> None:
    profile = load_yaml(path, Profile)
    assert profile.run_on_hardware_by_us == (profile.name == "x86")


@shipped
def test_issue_references_can_be_followed(path: Path) -> None:
    profile = load_yaml(path, Profile)
    groups = [*profile.known_problems, *profile.onnx.avoid]
    for issue in (issue for group in groups for issue in group.issues):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", issue)
    assert profile.known_problems


@shipped
def test_its_json_is_a_valid_profile(path: Path, tmp_path: Path) -> None:
    profile = load_yaml(path, Profile)
    saved = tmp_path / "my-board.yaml"
    saved.write_text(json.dumps(profile.model_dump(mode="json")))
    assert load_profile(str(saved)) == profile


@shipped
@pytest.mark.parametrize("width", [None, 60])
def test_description_says_why(path: Path, width: int | None) -> None:
    profile = load_yaml(path, Profile)
    lines = describe(profile, width)
    text = " ".join(" ".join(lines).split())
    assert width is None or max(map(len, lines)) <= max(width, len(max(text.split(), key=len)) + 8)
    for choice in (*profile.backends, *profile.precisions, *profile.tools):
        assert " ".join(choice.why.split()) in text
    figure = profile.peak.bandwidth_gb_per_s
    assert figure is None or figure.source in text
    assert ("Not run on this hardware by us" in text) != profile.run_on_hardware_by_us


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-xavier-nx"])
def test_old_jetsons_get_bundles(name: str) -> None:
    profile = load_profile(name)
    assert profile.default_transport == "bundle"
    assert not profile.transport.evit_runs_there
    assert profile.tensorrt is not None
    assert profile.tensorrt.typing == "weak"
    assert profile.tensorrt.flags == ("--fp16",)


@pytest.mark.parametrize("name", ["orin", "jetson-orin-nano", "a100"])
def test_tensorrt_10_and_11_are_strongly_typed(name: str) -> None:
    profile = load_profile(name)
    assert profile.tensorrt is not None
    assert profile.tensorrt.typing == "strong"
    assert not {"--fp16", "--int8", "--best"} & set(profile.tensorrt.flags)
    tool = profile.tool("tensorrt")
    assert tool is not None
    assert not tool.accepts("8.6.2")
    assert tool.accepts("10.3.0.30")
    assert tool.accepts("11.4.1")


def test_nano_is_what_the_design_says() -> None:
    nano = load_profile("nano")
    assert nano.onnx.opset == 13
    assert nano.transport.python == "3.6"
    pad = next(avoid for avoid in nano.onnx.avoid if avoid.op == "Pad")
    assert "mit-han-lab/efficientvit#63" in pad.issues


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("orin", "jetson-agx-orin"),
        ("nano", "jetson-nano"),
        ("snapdragon", "snapdragon-8-gen1"),
        ("rpi5", "arm64"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert load_profile(alias).name == name


def test_best_comes_first() -> None:
    orin = load_profile("orin")
    assert (orin.backend, orin.precision) == (Backend.TENSORRT, Precision.FP16)
    assert orin.all_backends[0] is orin.backend
    assert orin.all_precisions[0] is orin.precision
    assert orin.tool("no such tool") is None


def test_unknown_name_suggests() -> None:
    with pytest.raises(EvitError, match="no device profile 'orinn'") as caught:
        load_profile("orinn")
    assert "did you mean 'orin'" in caught.value.hint


def test_two_profiles_may_not_share_a_name(tmp_path: Path) -> None:
    text = (data_folder("devices") / "x86.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(text.replace("name: x86", "name: mine"))
    with pytest.raises(EvitError, match=r"b\.yaml calls itself 'x86-64', as 'x86' does"):
        list_profiles(tmp_path)


@pytest.mark.parametrize(
    ("version", "inside"),
    [("10.2.9", False), ("10.3", True), ("10.3.0.30", True), ("10.13", True), ("11.9", True)],
)
def test_tool_range(version: str, inside: bool) -> None:
    tool = ToolRange(name="TensorRT", at_least="10.3.0", below="12.0", why="a test")
    assert tool.accepts(version) == inside
    assert str(tool) == "TensorRT >= 10.3.0, < 12.0"


def test_tool_range_without_bounds_takes_all() -> None:
    tool = ToolRange(name="adb", why="a test")
    assert tool.accepts("0") and tool.accepts("99.9")
    assert str(tool) == "adb (any version)"


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.integers(0, 3))
def test_trailing_zeros_do_not_change_a_version(numbers: list[int], zeros: int) -> None:
    text = ".".join(map(str, numbers))
    assert version_key(text) == version_key(text + ".0" * zeros)


@given(st.lists(st.integers(0, 99), min_size=2, max_size=2))
def test_versions_compare_as_numbers(numbers: list[int]) -> None:
    low, high = sorted(numbers)
    assert version_key(f"10.{low}") <= version_key(f"10.{high}")
