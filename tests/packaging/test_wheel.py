"""The wheel and the sdist, and an evit that was installed from the wheel without the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.paths import REPOSITORY
from tests.packaging import interpreters
from tests.packaging.folders import shared_folder

DATA = ("devices", "recipes")


def call(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command that must succeed, with no variable that leads back to the repository."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EVIT_", "VIRTUAL"))}
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=kept,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done


def build(kind: str, source: Path, out: Path) -> Path:
    """The one file that `python -m build` makes of a source tree."""
    call(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the repository, one for all processes of the tests."""
    out = shared_folder(tmp_path_factory) / "wheel"
    with FileLock(f"{out}.lock"):
        return next(out.glob("*.whl"), None) or build("wheel", REPOSITORY, out)


def repository_files() -> set[str]:
    """What git holds or would hold."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout, to know what belongs to evit")
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = call("git", "-c", "safe.directory=*", *listing, cwd=REPOSITORY)
    return {name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()}


def package_files() -> set[str]:
    """What of it belongs into a wheel, by its name in there."""
    return {
        f"evit_cli/_data/{name}" if name.startswith(DATA) else name
        for name in repository_files()
        if name.partition("/")[0] in ("evit_cli", *DATA)
    }


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == package_files()


@pytest.mark.slow
def test_a_wheel_of_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", REPOSITORY, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    lacking = {name for name in repository_files() if not (source / name).exists()}
    assert not lacking
    again = build("wheel", source, tmp_path / "again")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


COMMANDS = """
import typer.main
from evit_cli.app import app

def walk(command, words):
    inner = getattr(command, "commands", None)
    if inner is None:
        print(" ".join(words))
    for name, one in (inner or {}).items():
        walk(one, [*words, name])

walk(typer.main.get_command(app), [])
"""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_it_works_without_the_repository(wheel: Path, tmp_path: Path, which: str) -> None:
    found = interpreters.find()
    if which == "oldest" and interpreters.OLDEST not in found:
        pytest.skip("needs Python 3.10")
    python = found[min(found) if which == "oldest" else max(found)]
    home = tmp_path / "environment"
    call(python, "-m", "venv", home)
    constraints = REPOSITORY / "constraints.txt"
    call(home / "bin" / "pip", "install", "--constraint", constraints, wheel)

    def evit(*arguments: object) -> subprocess.CompletedProcess[str]:
        return call(home / "bin" / "evit", *arguments, cwd=tmp_path)

    where = call(
        home / "bin" / "python", "-c", "import evit_cli; print(evit_cli.__file__)", cwd=tmp_path
    )
    assert str(home) in where.stdout
    commands = call(home / "bin" / "python", "-c", COMMANDS, cwd=tmp_path).stdout.splitlines()
    assert {"segment", "models ls", "recipes copy"} <= set(commands)
    for command in ("", *commands):
        assert "Usage: evit" in evit(*command.split(), "--help").stdout

    devices = {row["name"] for row in json.loads(evit("devices", "ls", "--json").stdout)}
    assert devices == {file.stem for file in (REPOSITORY / "devices").glob("*.yaml")}
    recipes = {row["name"] for row in json.loads(evit("recipes", "ls", "--json").stdout)}
    files = (REPOSITORY / "recipes").rglob("*.yaml")
    assert recipes == {str(f.relative_to(REPOSITORY / "recipes").with_suffix("")) for f in files}
    evit("recipes", "copy", "seg/custom", "mine.yaml")
    assert (tmp_path / "mine.yaml").is_file()

    checks = {row["check"]: row for row in json.loads(evit("doctor", "--json").stdout)}
    assert checks["shipped data"]["status"] == "ok"
    assert checks["torch"]["status"] == "missing"

    photo = Path(where.stdout.strip()).parent / "assets" / "photos" / "coffee.jpg"
    assert photo.is_file()
    said = evit("segment", photo, "--offline", "--save", "overlay,mask", "--out", "seen", "-q")
    assert len(said.stdout.split()) == len(list((tmp_path / "seen").iterdir())) == 2
    evit("models", "show", "seg-b0-street", "--json")
