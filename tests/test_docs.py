"""Pages that could fall behind the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic_core import PydanticUndefined

from evit_cli.config.recipe import Recipe
from evit_cli.config.strict import Strict

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| `([a-z_.]+)` \| (?:`([^`]*)`|(required)) \|", re.MULTILINE)
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]


def section(annotation: Any) -> type[Strict] | None:
    """The model in `Part` or `Part | None`."""
    kinds = [annotation, *get_args(annotation)]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Strict)), None)


def keys(model: type[Strict], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a recipe as "a.b", with its default as the page writes it."""
    for name, field in model.model_fields.items():
        inner = section(field.annotation)
        if inner is not None:
            yield from keys(inner, f"{prefix}{name}.")
        elif field.default is PydanticUndefined:
            yield prefix + name, "required"
        elif isinstance(field.default, str) and field.default:
            yield prefix + name, field.default
        else:
            yield prefix + name, json.dumps(field.default)


def test_every_recipe_key_is_explained_with_its_default() -> None:
    page = (ROOT / "docs" / "recipe-keys.md").read_text("utf-8")
    rows = {key: default or required for key, default, required in ROW.findall(page)}
    expected = dict(keys(Recipe))
    assert {key: float_or_text(value) for key, value in rows.items()} == {
        key: float_or_text(value) for key, value in expected.items()
    }


def float_or_text(text: str) -> float | str:
    """1e-08 and 0.00000001 are one default."""
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), target
