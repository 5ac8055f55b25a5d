"""What there is to say about an export: lines for people, one document for programs."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evit_cli.export.plan import ExportPlan
from evit_cli.export.trtexec import trtexec_command
from evit_cli.export.verdict import Verdict
from evit_cli.export.verify import Verification
from evit_cli.runtime.description import Description, encode_description
from evit_cli.types import Backend

if TYPE_CHECKING:
    from evit_cli.export.quantize import LayerError


def plan_rows(plan: ExportPlan) -> list[dict[str, str]]:
    """Every choice with its reason, and the files last."""
    rows = [{"what": c.what, "value": c.value, "why": c.why} for c in plan.choices]
    files = [{"what": "file", "value": str(p.path.absolute()), "why": ""} for p in plan.parts]
    return [*rows, *files]


def report_document(
    written: tuple[Path, ...], description: Description, **more: Any
) -> dict[str, Any]:
    """Paths, the artifact's description, and `more`."""
    plain = json.loads(encode_description(description))
    return {"written": [str(path) for path in written], **more, "description": plain}


def layer_rows(errors: Iterable[LayerError]) -> list[dict[str, Any]]:
    """The table of `--explain`; an error that is not there at all is None."""

    def plain(value: float) -> float | None:
        return round(value, 1) if math.isfinite(value) else None

    return [
        {
            "layer": e.name.removeprefix("model."),
            "alone_db": plain(e.alone_db),
            "cumulative_db": plain(e.cumulative_db),
            "kept": "float" if e.island else "int8",
        }
        for e in errors
    ]


def verdict_line(found: Verification | None) -> tuple[bool, str]:
    """Whether all is well, and the sentence that says so."""
    if found is None:
        return False, "not compared with its source"
    line = f"{found.verdict.value}: {found.reason}; SQNR {found.sqnr_db:.1f} dB"
    if found.mean_iou is not None and found.source_mean_iou is not None:
        line += f"; mean IoU {found.mean_iou:.4f}, of its source {found.source_mean_iou:.4f}"
    if found.original_psnr_db is not None and found.source_original_psnr_db is not None:
        line += f"; its source {found.source_original_psnr_db:.2f} dB"
    return found.verdict is Verdict.PASS, line


def board_command(plan: ExportPlan, description: Description) -> str | None:
    """The trtexec line for a board that builds its own engine; None where nothing is left to do."""
    if plan.backend is not Backend.TENSORRT or plan.engine or plan.profile is None:
        return None
    engine = plan.path.with_suffix(".engine").name
    command = trtexec_command(plan.path.name, engine, description=description, profile=plan.profile)
    return shlex.join(command)
