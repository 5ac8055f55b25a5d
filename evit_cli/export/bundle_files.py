"""The files of a bundle: templates with their gaps filled, tables of classes, the manifest."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from evit_cli import __version__
from evit_cli.export.bundle_plan import ENGINE, MANIFEST, BundleModel, BundlePlan
from evit_cli.export.verdict import Verdict
from evit_cli.runtime.description import Description, encode_description
from evit_cli.types import ClassSet

FORMAT = 1
NOT_COMPARED = "not compared"
_GAP = re.compile(r"@([A-Z][A-Z_]*)@")
_PROGRAMS = (".sh", ".py")


def read_template(kind: str, name: str) -> str:
    """The text of `evit_cli/assets/bundles/KIND/NAME.in`."""
    return (files("evit_cli") / "assets" / "bundles" / kind / f"{name}.in").read_text("utf-8")


def fill(template: str, values: Mapping[str, object]) -> str:
    """A template with every @NAME@ replaced.

    >>> fill("size @SIZE@", {"SIZE": "64x96"})
    'size 64x96'

    Raises:
        KeyError: a value is missing.
    """
    return _GAP.sub(lambda gap: str(values[gap[1]]), template)


def write_text(folder: Path, name: str, text: str) -> None:
    """Write one file of a bundle; scripts can be executed."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")
    if path.suffix in _PROGRAMS:
        path.chmod(0o755)


def write_classes(folder: Path, classes: ClassSet) -> None:
    """labels.txt and palette.csv."""
    write_text(folder, "labels.txt", "".join(f"{name}\n" for name in classes.classes))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("index", "name", "red", "green", "blue"))
    for index, (name, color) in enumerate(zip(classes.classes, classes.colors_rgb, strict=True)):
        rows.writerow((index, name, *color))
    write_text(folder, "palette.csv", table.getvalue())


def verdict_of(descriptions: list[Description]) -> str:
    """The worst verdict of several models, as it stands in the manifest."""
    found = [str(d.verification.get("verdict", NOT_COMPARED)) for d in descriptions]
    order = [Verdict.PASS.value, Verdict.WARN.value, NOT_COMPARED, Verdict.FAIL.value]
    return max(found, key=order.index)


def write_manifest(
    folder: Path,
    plan: BundlePlan,
    descriptions: list[Description],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """bundle.json, last: it has the sha256 of every other file.

    Args:
        folder: with all other files in it.
        plan: of the bundle.
        descriptions: of its models, in order, after they were compared.
        more: what the kind's own programs read.

    Returns:
        What was written.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "evit_version": __version__,
        "device": plan.profile.name,
        "kind": plan.kind.value,
        "model": plan.info.name,
        "verdict": verdict_of(descriptions),
        "run_on_hardware_by_us": plan.profile.run_on_hardware_by_us,
        "models": [
            _model(model, description)
            for model, description in zip(plan.models, descriptions, strict=True)
        ],
        **more,
        "files": _listing(folder),
    }
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    write_text(folder, MANIFEST, text)
    return document


def _model(model: BundleModel, description: Description) -> dict[str, Any]:
    document = {"file": model.name, "uses": list(model.uses)}
    if ENGINE in model.uses:
        document["engine"] = Path(model.name).with_suffix(".engine").as_posix()
    return document | {"description": json.loads(encode_description(description))}


def _listing(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in paths
    }
