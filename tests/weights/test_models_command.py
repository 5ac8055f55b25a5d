from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.hub_server import Hub
from tests.helpers.paths import REPOSITORY, shared_dir
from tests.helpers.weight_files import pt_bytes, write

Evit = Callable[..., Result]
SEG = "han-cai/efficientvit-seg"
B1_FILE = "efficientvit_seg_b1_cityscapes.pt"
B0_FILE = "efficientvit_seg_b0_cityscapes.pt"


@pytest.fixture
def stocked(hub: Hub) -> Hub:
    hub.add(SEG, B1_FILE, pt_bytes("seg-b1-cityscapes"))
    return hub


def _error(result: Result, exit_code: int = 1) -> str:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return re.sub(r"\s+", " ", result.stderr)


def test_ls_lists_every_published_model(evit: Evit) -> None:
    result = evit("models", "ls")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].split("\t") == ["name", "task", "params", "MACs", "metric", "size", "cached"]
    assert len(lines) == 1 + len(EMBEDDED) + 37
    row = next(line for line in lines if line.startswith("seg-b0-cityscapes\t")).split("\t")
    assert row[1:] == [
        *("segment", "0.7M", "4.39G @1024x2048", "mIoU 75.653 (Cityscapes val)", "2.9 MB", "no")
    ]


def test_ls_filters_by_task(evit: Evit) -> None:
    names = [
        line.split("\t")[0] for line in evit("models", "ls", "--task", "sam").stdout.splitlines()
    ]
    assert names == ["name", "sam-b0", "sam-l0", "sam-l1", "sam-l2", "sam-xl0", "sam-xl1"]
    assert len(evit("models", "ls", "--timm").stdout.splitlines()) == 1 + len(EMBEDDED) + 37 + 19
    assert evit("models", "ls", "--task", "cooking").exit_code == 2


def test_ls_as_json(evit: Evit) -> None:
    rows = json.loads(evit("models", "ls", "--json", "--task", "classify").stdout)
    assert len(rows) == 21
    row = next(row for row in rows if row["name"] == "cls-b1-r256")
    assert row["variant"] == "cls-b1"
    assert row["task"] == "classify"
    assert row["preprocess"]["size_hw"] == [256, 256]
    assert row["sha256"] is None
    assert row["cached"] is False


def test_show(evit: Evit) -> None:
    result = evit("models", "show", "seg-b0-cityscapes")
    facts = dict(line.partition("\t")[::2] for line in result.stdout.splitlines())
    assert facts["repo"] == SEG
    assert facts["file"] == B0_FILE
    assert facts["size_hw"] == "1024x2048"
    assert facts["licence"] == "Apache-2.0"
    assert facts["path"] == ""
    document = json.loads(evit("models", "show", "cls-b1", "--json").stdout)
    assert document["name"] == "cls-b1-r224"


def test_show_suggests(evit: Evit) -> None:
    assert "'seg-b0-cityscapes'" in _error(evit("models", "show", "seg-b0-cityscape"))


def test_pull_prints_the_path_and_the_list_knows(evit: Evit, stocked: Hub) -> None:
    result = evit("models", "pull", "seg-b1-cityscapes")
    assert result.exit_code == 0
    path = Path(result.stdout.strip())
    assert path.is_absolute()
    assert path.read_bytes() == pt_bytes("seg-b1-cityscapes")
    assert "fetched" in result.stderr
    assert "%" not in result.stderr  # no bar where nobody watches
    listed = json.loads(evit("models", "ls", "--json").stdout)
    here = [row["name"] for row in listed if row["cached"]]
    assert here == [*EMBEDDED, "seg-b1-cityscapes"]
    stocked.requests.clear()
    again = evit("models", "pull", "seg-b1-cityscapes", "--offline")
    assert again.stdout == result.stdout
    assert "kept" in again.stderr
    assert stocked.requests == []


def test_pull_quietly_and_as_json(evit: Evit, stocked: Hub) -> None:
    quiet = evit("models", "pull", "-q", "seg-b1-cityscapes")
    assert quiet.stderr == ""
    assert len(quiet.stdout.splitlines()) == 1
    result = evit("models", "pull", "--json", "seg-b1-cityscapes")
    assert result.stderr == ""
    (row,) = json.loads(result.stdout)
    assert row["path"] == quiet.stdout.strip()
    assert row["size_bytes"] == len(pt_bytes("seg-b1-cityscapes"))
    assert row["kept"] is True
    assert row["checked"] is True


def test_pull_to_a_folder_that_then_serves_names(
    evit: Evit, stocked: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.add("me/street", "w.pt", b"mine")
    result = evit("models", "pull", "seg-b1-cityscapes", "hf://me/street", "--to", tmp_path / "to")
    placed = tmp_path / "to" / SEG / B1_FILE
    assert result.stdout.splitlines() == [
        str(placed),
        str(tmp_path / "to" / "me" / "street" / "w.pt"),
    ]
    assert placed.read_bytes() == pt_bytes("seg-b1-cityscapes")
    assert sorted(p.name for p in (tmp_path / "to").rglob("*") if p.is_file()) == [B1_FILE, "w.pt"]
    monkeypatch.setenv("EVIT_MODELS_DIR", str(tmp_path / "to"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "another"))
    shown = json.loads(evit("models", "show", "seg-b1-cityscapes", "--json").stdout)
    assert shown["path"] == str(placed)


def test_pull_keeps_what_is_right_and_does_not_overwrite_what_is_not(
    evit: Evit, stocked: Hub, tmp_path: Path
) -> None:
    arguments = ("models", "pull", "seg-b1-cityscapes", "--to", tmp_path)
    assert evit(*arguments).exit_code == 0
    placed = tmp_path / SEG / B1_FILE
    before = placed.stat()
    again = evit(*arguments)
    assert again.exit_code == 0
    assert "kept" in again.stderr
    assert placed.stat().st_mtime_ns == before.st_mtime_ns
    placed.write_bytes(b"somebody's notes")
    assert "is another file" in _error(evit(*arguments))
    assert placed.read_bytes() == b"somebody's notes"
    assert evit(*arguments, "--force").exit_code == 0
    assert placed.read_bytes() == pt_bytes("seg-b1-cityscapes")


def test_pull_finds_out_that_the_cache_was_spoiled(evit: Evit, stocked: Hub) -> None:
    path = Path(evit("models", "pull", "seg-b1-cityscapes").stdout.strip())
    spoiled = bytearray(path.read_bytes())
    spoiled[1000] ^= 1
    path.resolve().write_bytes(spoiled)
    assert "is not the published file" in _error(evit("models", "pull", "seg-b1-cityscapes"))
    assert evit("models", "pull", "seg-b1-cityscapes", "--force").exit_code == 0
    assert path.read_bytes() == pt_bytes("seg-b1-cityscapes")


def test_pull_checks_the_published_hash(evit: Evit, hub: Hub, tmp_path: Path) -> None:
    hub.add(SEG, B0_FILE, pt_bytes("seg-b0-cityscapes"))
    message = _error(evit("models", "pull", "seg-b0-cityscapes", "--to", tmp_path / "to"))
    assert "923d6fdd5e93640cc0c2f3f213764f34e80b477cd98a6b294d870ea6df5acc50" in message
    assert not (tmp_path / "to").exists()


def test_pull_of_everything_stops_at_the_first_trouble(evit: Evit, stocked: Hub) -> None:
    stocked.add(SEG, B0_FILE, b"not it")
    assert "is not the published file" in _error(evit("models", "pull", "--all"))


def test_pull_errors(evit: Evit, stocked: Hub, tmp_path: Path) -> None:
    assert "name the models" in _error(evit("models", "pull"), 2)
    assert "name the models" in _error(evit("models", "pull", "--all", "seg-b1-cityscapes"), 2)
    assert "did you mean" in _error(evit("models", "pull", "seg-b1-cityscape"))
    assert "forbids fetching" in _error(evit("models", "pull", "seg-b1-cityscapes", "--offline"))
    here = write(tmp_path / "w.pt", b"x")
    assert "on this machine already" in _error(evit("models", "pull", here), 2)
    write(tmp_path / "file", b"x")
    message = _error(evit("models", "pull", "seg-b1-cityscapes", "--to", tmp_path / "file"))
    assert "cannot write" in message


def test_the_program_needs_only_the_environment(stocked: Hub, tmp_path: Path) -> None:
    stocked.token = "hf_secret"
    command = [sys.executable, "-m", "evit_cli", "models", "pull", "seg-b1-cityscapes"]
    paths = {"HF_ENDPOINT": stocked.endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_secret"}
    done = subprocess.run(
        command, env=os.environ | paths, capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "hub")
    assert done.stderr.startswith("seg-b1-cityscapes: fetched, sha256 ")
    assert len(done.stderr.splitlines()) == 1
    stocked.requests.clear()
    again = subprocess.run(
        command, env=os.environ | paths, capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )
    assert again.stdout == done.stdout
    assert stocked.requests == []


@pytest.mark.shared
def test_a_verified_copy_needs_no_network(evit: Evit, tmp_path: Path) -> None:
    content = shared_dir("data", "weights", B0_FILE).read_bytes()
    placed = write(tmp_path / SEG / B0_FILE, content)
    result = evit("models", "pull", "seg-b0-cityscapes", "--to", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(placed)


@pytest.mark.parametrize("command", ["ls", "show", "pull"])
def test_help_ends_in_examples_and_has_the_common_options(evit: Evit, command: str) -> None:
    text = evit("models", command, "--help").stdout
    for option in ("--json", "--quiet", "-q", "--offline"):
        assert option in text
    assert text.count(f"evit models {command}") >= 2
