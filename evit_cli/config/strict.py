"""Strict YAML: a file becomes a pydantic model, or one sentence that says file, line and key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from evit_cli.errors import EvitError, UsageError

_MAX_BYTES = 1 << 20


class Strict(BaseModel):
    """A frozen model that knows no key but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ModelT = TypeVar("ModelT", bound=Strict)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key written twice: PyYAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key '{key_node.value}' is written twice",
                        problem_mark=key_node.start_mark,
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path, model: type[ModelT], *, overrides: Sequence[str] = ()) -> ModelT:
    """Read one file into `model`.

    Args:
        path: the file.
        model: what it shall become.
        overrides: "a.b=value" each, applied before the check; the value is YAML.

    Raises:
        EvitError: unreadable, not YAML, or not what `model` wants; one sentence with the line.
        UsageError: an override is not of that form.
    """
    text = _read(path)
    try:
        data = yaml.load(text, _UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise EvitError(f"{path}{line} is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise EvitError(f"{path} is not valid YAML: {reason}") from error
    if not isinstance(data, Mapping):
        raise EvitError(f"{path} holds {_kind(data)}, not keys with values")
    for override in overrides:
        data = _with_override(data, override)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        node = yaml.compose(text, yaml.SafeLoader)  # only now: it reads the whole file again
        raise _explain(path, model, error.errors(include_url=False), node=node) from error


def _with_override(data: Mapping[str, Any], override: str) -> dict[str, Any]:
    """A copy of `data` in which "a.b=value" holds."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"'{override}' is not KEY=VALUE", hint="for example train.epochs=20")
    try:
        value = yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"the value in '{override}' is not valid YAML") from error
    top = dict(data)
    here = top
    for part in parts[:-1]:
        inner = here.get(part)
        if inner is not None and not isinstance(inner, Mapping):
            raise UsageError(f"'{part}' in '{key}' holds {_kind(inner)}, not keys with values")
        here[part] = dict(inner or {})
        here = here[part]
    here[parts[-1]] = value
    return top


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise EvitError(f"{path} is larger than 1 MiB: not a settings file")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EvitError(f"{path} is not a text file") from error
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise EvitError(f"cannot read {path}: {reason}") from error


def _kind(data: object) -> str:
    names = {type(None): "nothing", list: "a list", str: "text"}
    return names.get(type(data), f"a {type(data).__name__}")


def _explain(
    path: Path, model: type[Strict], errors: list[ErrorDetails], *, node: yaml.Node | None
) -> EvitError:
    """The first of pydantic's errors as one sentence; an unknown key goes before all others.

    Others often follow from it: the key that it was meant to be is missing.
    """
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    loc = first["loc"]
    key = _dotted(loc)
    where = f"{path} line {_line(node, loc)}"
    if first["type"] == "extra_forbidden":
        return EvitError(
            f"{where}: unknown key '{key}'",
            hint=_closest(str(loc[-1]), _known_keys(model, loc[:-1])),
        )
    if first["type"] == "missing":
        return EvitError(f"{where}: key '{key}' is missing")
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if first["type"] == "string_type" and isinstance(first["input"], (int, float)):
        reason += f': write it in quotes, "{first["input"]}"'
    elif isinstance(first["input"], (str, int, float)) and str(first["input"]) not in reason:
        reason += f", not '{first['input']}'"
    return EvitError(f"{where}: {key}: {reason}" if key else f"{where}: {reason}")


def _dotted(loc: tuple[int | str, ...]) -> str:
    """("rules", 0, "gpu") -> "rules[0].gpu"; pydantic's own "[key]" marks are dropped."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":
            text += f".{part}" if text else str(part)
    return text


def _line(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest part of `loc` that the file has."""
    line = node.start_mark.line if node else 0
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line if node else line
        else:
            break
    return line + 1


def _closest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"did you mean '{close[0]}'?" if close else "known keys: " + ", ".join(known)


def _known_keys(model: type[Strict], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at `loc` inside `model` has."""
    here: Any = model
    for part in loc:
        inner = _model_in(here)
        if inner is not None and isinstance(part, str) and part in inner.model_fields:
            here = inner.model_fields[part].annotation
    found = _model_in(here)
    return sorted(found.model_fields) if found else []


def _model_in(annotation: Any) -> type[Strict] | None:
    """The model inside `Model | None`, `tuple[Model, ...]` or `dict[K, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple, list, dict):
        for inner in reversed(get_args(annotation)):
            found = _model_in(inner)
            if found is not None:
                return found
    return None
