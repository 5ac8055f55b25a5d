"""Fits the estimates of `evit bench --device` to the published latencies: devices/fits/*.json.

`python -m benchmarks.fit_estimates` rewrites the files and prints the figures of docs/estimates.md.
`--check` writes nothing and ends with 1 where a file is not what the command would write.

The rows are those of our models in `evit_cli.bench.published`. Left out are the peers, which the
model of layers was not made for, and super-resolution, whose published layers nobody knows.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from evit_cli.bench.estimates.confidence import series_of
from evit_cli.bench.estimates.fit import (
    LEFT_OUT,
    ErrorFigures,
    Fit,
    Sample,
    estimate_ms,
    fit,
    fit_file,
    leave_out,
    read_fit,
)
from evit_cli.bench.estimates.layers import model_layers
from evit_cli.bench.estimates.roofline import ceilings_of, transferred_bytes, work_of
from evit_cli.bench.published import published_rows
from evit_cli.bench.row import Row
from evit_cli.config.device import load_profile
from evit_cli.models.variants import VARIANTS, Variant
from evit_cli.types import Precision
from evit_cli.weights.catalog import find_entry

DEVICES = ("jetson-agx-orin", "jetson-nano", "a100")
LENT = {"jetson-agx-orin": ("a100",)}
"""Whose coefficients are tried on whose rows: both have tensor cores of one generation."""
COMMAND = "python -m benchmarks.fit_estimates"


def variant_of(name: str) -> Variant | None:
    """The layers behind a published name; None where they are not known."""
    entry = find_entry(name)
    return VARIANTS.get(entry.variant if entry else name)


def rows_of(device: str) -> list[tuple[Row, Variant]]:
    """The published rows of our models on a device, with their layers."""
    rows = [row for row in published_rows(device=device) if not row.point.peer and row.host]
    pairs = [(row, variant_of(row.point.model)) for row in rows]
    return [(row, variant) for row, variant in pairs if variant is not None]


def sample_of(row: Row, variant: Variant) -> Sample:
    """A row as the fit takes it."""
    point = row.point
    layers = model_layers(variant, point.size_hw, batch=point.batch)
    assert row.latency_ms is not None
    task = "sam" if point.model.startswith("sam") else f"{variant.task.value} {variant.dataset}"
    return Sample(
        variant.name,
        task,
        work_of(layers),
        transferred_bytes(layers, point.size_hw, point.batch),
        row.latency_ms,
    )


def fit_device(device: str, other: Fit | None = None) -> Fit:
    """The coefficients of a device and their errors.

    Args:
        device: name of its profile.
        other: whose errors for a series left out to take where the rows are of one series; None for
            the kept fit of the first device.
    """
    pairs = rows_of(device)
    samples = [sample_of(row, variant) for row, variant in pairs]
    ceilings = ceilings_of(load_profile(device), Precision.FP16)
    coefficients = fit(samples, ceilings)
    published = np.array([sample.published_ms for sample in samples])
    errors = {
        "fitted": estimate_ms(samples, coefficients, ceilings) / published - 1,
        "row_by_row": leave_out(samples, ceilings, range(len(samples))),
        "model_by_model": leave_out(samples, ceilings, [sample.model for sample in samples]),
        "task_by_task": leave_out(samples, ceilings, [sample.task for sample in samples]),
    }
    series = [series_of(variant.backbone.name) for _, variant in pairs]
    if len(set(series)) > 1:
        errors["series_by_series"] = leave_out(samples, ceilings, series)
        across = ErrorFigures.of(errors["series_by_series"])
    else:
        other = other or read_fit(DEVICES[0])
        assert other is not None
        across = other.series_by_series
    borrowed = {}
    for taker in LENT.get(device, ()):
        theirs = [sample_of(row, variant) for row, variant in rows_of(taker)]
        there = estimate_ms(theirs, coefficients, ceilings_of(load_profile(taker), Precision.FP16))
        borrowed[taker] = ErrorFigures.of(there / [sample.published_ms for sample in theirs] - 1)
    return Fit(
        device=device,
        precision=Precision.FP16.value,
        command=COMMAND,
        coefficients=coefficients,
        row_by_row=ErrorFigures.of(errors["row_by_row"]),
        model_by_model=ErrorFigures.of(errors["model_by_model"]),
        task_by_task=ErrorFigures.of(errors["task_by_task"]),
        series_by_series=across,
        borrowed=borrowed,
        rows=[
            _describe(row, variant, {name: float(each[i]) for name, each in errors.items()})
            for i, (row, variant) in enumerate(pairs)
        ],
    )


def _describe(row: Row, variant: Variant, errors: Mapping[str, float]) -> dict[str, object]:
    point = row.point
    return {
        "model": point.model,
        "series": series_of(variant.backbone.name),
        "size_hw": list(point.size_hw),
        "batch": point.batch,
        "published_ms": row.latency_ms,
        "error": {name: round(value, 4) for name, value in errors.items()},
        "source": row.source,
    }


def report(result: Fit) -> None:
    """The figures, for docs/estimates.md."""
    values = ", ".join(f"{name} {value:.3g}" for name, value in vars(result.coefficients).items())
    print(f"{result.device}: {len(result.rows)} rows; {values}")
    for name in LEFT_OUT:
        figures = getattr(result, name)
        if name not in result.rows[0]["error"]:
            print(f"  {name}: of another device")
            continue
        worst = max(result.rows, key=lambda row: abs(row["error"][name]))
        size = "x".join(map(str, worst["size_hw"]))
        print(
            f"  {name}: median {figures.median:.1%}, 90th percentile {figures.p90:.1%}, "
            f"worst {worst['error'][name]:+.1%} ({worst['model']} {size})"
        )
    for other, figures in result.borrowed.items():
        print(f"  lent to {other}: median {figures.median:.1%}, worst {figures.worst:.1%}")


def is_current(kept: Fit | None, fresh: Fit) -> bool:
    """Whether a kept fit is of these rows and coefficients, but for the last digits."""
    if kept is None or len(kept.rows) != len(fresh.rows):
        return False
    names = ("model", "size_hw", "batch", "published_ms")
    same_rows = all(
        one[name] == other[name]
        if name == "model"
        else np.allclose(one[name], other[name], rtol=1e-5)
        for one, other in zip(kept.rows, fresh.rows, strict=True)
        for name in names
    )
    ours, theirs = (list(vars(each.coefficients).values()) for each in (kept, fresh))
    return same_rows and np.allclose(ours, theirs, rtol=0.01)


def by_macs_alone(samples: Sequence[Sample]) -> ErrorFigures:
    """Errors of `ms = a * macs ** b` with each row left out in turn: what a roofline must beat."""
    macs = np.log([sample.work.macs.sum() for sample in samples])
    times = np.log([sample.published_ms for sample in samples])
    errors = []
    for i in range(len(samples)):
        slope, level = np.polyfit(np.delete(macs, i), np.delete(times, i), 1)
        errors.append(np.exp(slope * macs[i] + level - times[i]) - 1)
    return ErrorFigures.of(np.array(errors))


def main() -> int:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rows", action="store_true", help="print the errors of every row")
    options = parser.parse_args()
    stale = 0
    first: Fit | None = None
    for device in DEVICES:
        result = fit_device(device, first)
        first = first or result
        report(result)
        base = by_macs_alone([sample_of(*pair) for pair in rows_of(device)])
        print(f"  by MACs alone: median {base.median:.1%}, worst {base.worst:.1%}")
        for row in result.rows if options.rows else ():
            size = "x".join(map(str, row["size_hw"]))
            errors = " ".join(f"{name} {value:+.3f}" for name, value in row["error"].items())
            print(f"    {row['model']:18} {size:9} x{row['batch']:<3} {errors}")
        path = fit_file(device)
        if options.check:
            stale += not is_current(read_fit(device), result)
            continue
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(result.to_json(), encoding="utf-8")
        os.replace(fresh, path)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
