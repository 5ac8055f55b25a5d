"""Measuring promptable models: what `evit eval` does and says of masks by box and by click."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evit_cli.commands.options import processes, speaks
from evit_cli.errors import EvitError, UsageError
from evit_cli.ui.sink import Mode, Sink

if TYPE_CHECKING:
    from evit_cli.commands.evaluate_options import PromptedEval
    from evit_cli.inference.evaluate_sam import SamScore
    from evit_cli.inference.evaluate_sam_ap import ApScore
    from evit_cli.runtime.sam import SamSession

_PROMPT_NAMES = {"box": "box", "1": "1 click", "3": "3 clicks", "5": "5 clicks"}


def open_prompted(
    sink: Sink,
    model: str | None,
    *,
    weights: Path | None,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    offline: bool,
) -> SamSession:
    """The promptable model that the model options ask for."""
    from evit_cli.runtime.open import parse_backend, parse_precision
    from evit_cli.runtime.sam import open_sam
    from evit_cli.ui.download import download_progress

    return open_sam(
        model,
        weights=weights,
        backend=parse_backend(backend),
        precision=parse_precision(precision),
        threads=threads,
        offline=offline,
        progress=download_progress(sink),
    )


def show_prompted(sink: Sink, session: SamSession, asked: PromptedEval) -> None:
    """Measure and show mean IoU by prompt and band of sizes, and average precision."""
    from evit_cli.data.instances import (
        InstanceSet,
        Objects,
        Rules,
        open_instances,
        open_regions,
    )
    from evit_cli.inference.evaluate_sam import evaluate_sam, parse_prompts
    from evit_cli.inference.evaluate_sam_ap import evaluate_detections
    from evit_cli.ui.progress import progress_for

    kinds = parse_prompts(asked.prompts)
    found: Objects
    if asked.dataset == "regions":
        found = open_regions(asked.data, images=asked.images, part=asked.mask_part)
    else:
        rules: Rules = "lvis" if asked.dataset == "lvis" else "coco"
        found = open_instances(rules, asked.data, part=asked.mask_part)
    score: SamScore | None = None
    precision: ApScore | None = None
    with processes() as group:
        progress = progress_for(sink) if speaks(group) else None
        if asked.detections is not None:
            if group is not None or not isinstance(found, InstanceSet):
                raise UsageError("--detections is for COCO and LVIS, and for one process")
            precision = evaluate_detections(
                session, found, asked.detections, max_images=asked.max_images, progress=progress
            )
        if asked.detections is None or asked.prompts:
            score = evaluate_sam(
                session,
                found,
                prompts=kinds,
                max_images=asked.max_images,
                group=group,
                progress=progress,
            )
    if speaks(group):
        _show_prompted(sink, session, asked, score, precision)


def _show_prompted(
    sink: Sink,
    session: SamSession,
    asked: PromptedEval,
    score: SamScore | None,
    precision: ApScore | None,
) -> None:
    if score is not None and not score.objects["all"]:
        raise EvitError(
            f"no object in {asked.data} counts: {score.left_out} have no pixel or an area below 1",
            hint="COCO's files say the area of every object in pixels",
        )
    which = {"model": session.info.name, "backend": session.backend}
    which |= {"precision": session.precision, "dataset": asked.dataset, "part": asked.part}
    numbers = {} if score is None else asdict(score)
    ap = {} if precision is None else {"average_precision": asdict(precision)}
    sink.json(_without_nan(which | numbers | ap))
    if score is not None and sink.mode is not Mode.JSON:
        bands = list(score.objects)
        rows = [
            {"prompt": _PROMPT_NAMES[kind]} | {band: _fixed(means[band]) for band in bands}
            for kind, means in score.mean_iou.items()
        ]
        sink.table(["prompt", *bands], rows, title="mean IoU by size")
        counted = ", ".join(f"{count} {band}" for band, count in score.objects.items())
        sink.say(f"objects: {counted}; {score.left_out} left out")
        sink.say(f"{score.images} images in {score.seconds:.1f} s; {score.protocol}")
    if precision is not None:
        sink.line("  ".join(f"{name} {_fixed(v)}" for name, v in precision.values.items()))
        sink.say(f"{precision.images} images in {precision.seconds:.1f} s; {precision.protocol}")


def _fixed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _without_nan(document: Mapping[str, Any]) -> dict[str, Any]:
    """For JSON, which has no NaN: None in its place."""
    plain: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            plain[name] = _without_nan(value)
        else:
            plain[name] = None if isinstance(value, float) and math.isnan(value) else value
    return plain
