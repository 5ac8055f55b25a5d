from __future__ import annotations

import json
from pathlib import Path

import pytest

from evit_cli.config.recipe import find_recipe, load_recipe, recipe_names
from tests.helpers.cli import evit


def test_ls_names_every_recipe() -> None:
    result = evit("recipes", "ls")
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split("\t") == ["name", "task", "model", "expected"]
    assert [row.split("\t")[0] for row in rows] == recipe_names()
    assert (
        "seg/cityscapes-b1\tsegment\tseg-b1-cityscapes\t"
        "mean_iou 80.547 % (published table, Cityscapes val, 1024x2048)"
    ) in rows
    assert "seg/custom\tsegment\tseg-b1-cityscapes\t" in rows


def test_ls_json() -> None:
    rows = json.loads(evit("recipes", "ls", "--json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == recipe_names()
    assert by_name["cls/imagenet-l2-r384"] == {
        "name": "cls/imagenet-l2-r384",
        "task": "classify",
        "model": "cls-l2",
        "data": "imagenet",
        "metric": "top1",
        "value_percent": 85.978,
        "value_db": None,
        "source": "published table, ImageNet val, 384x384",
    }
    assert by_name["seg/custom"]["value_percent"] is None
    assert by_name["sr/div2k-b"]["value_percent"] is None
    assert by_name["sr/div2k-b"]["value_db"] == 32.33


def test_show_is_the_file() -> None:
    result = evit("recipes", "show", "seg/ablation-local")
    assert result.exit_code == 0
    assert result.stdout == find_recipe("seg/ablation-local").read_text()


def test_show_json_has_every_default() -> None:
    document = json.loads(evit("recipes", "show", "seg/custom", "--json").stdout)
    assert document == load_recipe(find_recipe("seg/custom")).model_dump(mode="json")
    assert document["train"]["accumulate"] == 1


def test_copy_is_a_start(tmp_path: Path) -> None:
    mine = tmp_path / "new" / "mine.yaml"
    result = evit("recipes", "copy", "seg/custom", mine)
    assert result.exit_code == 0
    assert result.stdout == f"{mine}\n"
    assert f"evit train {mine}" in result.stderr
    assert mine.read_bytes() == find_recipe("seg/custom").read_bytes()
    assert evit("recipes", "show", mine).exit_code == 0


def test_copy_prints_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = evit("recipes", "copy", "cls/custom", "mine.yaml", "--json")
    assert json.loads(result.stdout) == {"recipe": "cls/custom", "path": f"{tmp_path}/mine.yaml"}
    assert evit("recipes", "copy", "cls/custom", "other.yaml", "-q").stderr == ""


def test_copy_overwrites_only_when_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("precious")
    refused = evit("recipes", "copy", "seg/custom", mine)
    assert refused.exit_code == 1
    assert "exists already" in refused.stderr
    assert "--force" in refused.stderr
    assert refused.stdout == ""
    assert mine.read_text() == "precious"
    assert evit("recipes", "copy", "seg/custom", mine, "--force").exit_code == 0
    assert mine.read_bytes() == find_recipe("seg/custom").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "seg/citiscapes-b1"), 1, "did you mean 'seg/cityscapes-b1'"),
        (("show",), 2, "Missing argument"),
        (("copy", "seg/nothing-like-it", "x.yaml"), 1, "there is no recipe"),
        (("copy", "seg/custom", "."), 1, "is a folder"),
        (("copy", "seg/custom"), 2, "Missing argument"),
    ],
)
def test_errors(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = evit("recipes", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_a_mistake_in_ones_own_file_names_line_and_key(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = find_recipe("seg/custom").read_text()
    mine.write_text(text.replace("  batch_size:", "  batchsize:"))
    result = evit("recipes", "show", mine)
    assert result.exit_code == 1
    assert "unknown key 'train.batchsize'" in result.stderr
    assert "did you mean 'batch_size'?" in result.stderr


@pytest.mark.parametrize("command", ["ls", "show", "copy"])
def test_help_ends_in_examples(command: str) -> None:
    text = evit("recipes", command, "--help").stdout
    assert text.partition("Examples")[2].count(f"evit recipes {command}") >= 2
