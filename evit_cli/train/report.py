"""A page with the curves of a run and its predictions; it needs no other file and no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.media.images import write_image
from evit_cli.train.logbook import RunFolder, write_text

_WIDTH, _HEIGHT, _LEFT, _BELOW = 640, 200, 56, 24

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:14px sans-serif;margin:2em;max-width:1500px}}svg{{background:#fafafa;margin:6px}}
polyline{{fill:none;stroke:#1f6fb2;stroke-width:1.5}}text{{font-size:11px;fill:#555}}
img{{max-width:100%}}</style>
<h1>{title}</h1><p>{summary}</p><div>{curves}</div>{picture}</html>
"""


def write_report(
    folder: RunFolder,
    history: Sequence[Mapping[str, Any]],
    metric: str,
    picture: npt.NDArray[np.uint8] | None,
) -> None:
    """Write `report.html`, and `predictions.png` if there is a picture.

    Args:
        folder: of the run.
        history: the lines of its log.
        metric: the name of the value that counts.
        picture: (H, W, 3) RGB.
    """
    image = ""
    if picture is not None:
        write_image(folder.predictions, picture)
        encoded = base64.b64encode(folder.predictions.read_bytes()).decode()
        image = (
            "<h2>Image, labels, prediction</h2>"
            f'<img alt="predictions" src="data:image/png;base64,{encoded}">'
        )
    scores = [(line["step"], line["eval"][metric]) for line in history if "eval" in line]
    summary = "no evaluation yet"
    if scores:
        best = max(scores, key=lambda pair: pair[1])
        summary = f"best {metric} {best[1]:.4f} at step {best[0]}, newest {scores[-1][1]:.4f}"
    curves = [_curve(metric, scores)]
    for name in sorted({key for line in history if "eval" not in line for key in line}):
        if name not in ("step", "epoch"):
            curves.append(_curve(name, [(n["step"], n[name]) for n in history if name in n]))
    title = html.escape(folder.root.resolve().name)
    page = _PAGE.format(title=title, summary=summary, curves="".join(curves), picture=image)
    write_text(folder.report, page)


def _curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    """One value over the steps as an SVG line."""
    points = [(x, y) for x, y in points if np.isfinite(y)]
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    low, high = min(ys), max(ys)
    span_x, span_y = max(max(xs) - min(xs), 1), (high - low) or 1.0
    inner_w, inner_h = _WIDTH - _LEFT - 8, _HEIGHT - _BELOW - 20
    line = " ".join(
        f"{_LEFT + (x - min(xs)) / span_x * inner_w:.1f},{20 + (high - y) / span_y * inner_h:.1f}"
        for x, y in points
    )
    labels = (
        f'<text x="{_LEFT}" y="12">{html.escape(name)}</text>'
        f'<text x="2" y="26">{high:.4g}</text><text x="2" y="{20 + inner_h}">{low:.4g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">step {min(xs):g}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{max(xs):g}</text>'
    )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}"><polyline points="{line}"/>{labels}</svg>'
