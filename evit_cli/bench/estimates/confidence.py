"""How far off an estimate may be, judged by published rows that a fit had not seen."""

from __future__ import annotations

from typing import Any

from evit_cli.bench.estimates.fit import ErrorFigures, Fit
from evit_cli.bench.row import Point
from evit_cli.config.profile import Profile

METHOD = "roofline per layer, fitted to published latencies"


def series_of(backbone: str) -> str:
    """The series of a backbone by its name: "b", or "l" for L and XL, which are built alike."""
    return "l" if backbone.startswith("x") else backbone[0]


def how_sure(fit: Fit, profile: Profile, point: Point, *, series: str, ms: float) -> dict[str, Any]:
    """What `Row.estimate` says; its keys are in `evit_cli.bench.estimates.estimate.estimate`.

    Args:
        fit: whose coefficients were used; it may be of another device than the profile.
        profile: of the device.
        point: what was estimated.
        series: of the model, by `series_of`.
        ms: the estimate.
    """
    reasons = outside(fit, point, series)
    lent = fit.device != profile.name
    strange = series not in {row["series"] for row in fit.rows}
    errors = _errors_like_this(fit, lent=lent, far=bool(reasons), strange=strange)
    width = errors.worst if lent or reasons else max(errors.p90, fit.model_by_model.p90)
    said: dict[str, Any] = {
        "method": METHOD,
        "fitted_on": fit.device,
        "rows": len(fit.rows),
        "power_mode": profile.peak.power_mode,
        "median_error": round(errors.median, 3),
        "worst_error": round(errors.worst, 3),
        # Published and estimated latency differ by a factor: low and high are equally far in it.
        "low_ms": ms / (1 + width),
        "high_ms": ms * (1 + width),
    }
    if lent:
        said["note"] = f"efficiencies of {fit.device}, not fitted"
    if reasons:
        said["extrapolated"] = reasons
    return said


def _errors_like_this(fit: Fit, *, lent: bool, far: bool, strange: bool) -> ErrorFigures:
    """The errors of rows that were as far from those of the fit as this case is."""
    kinds = [fit.task_by_task if far else fit.row_by_row]
    kinds += [fit.series_by_series] if strange else []
    kinds += list(fit.borrowed.values()) if lent else []
    return ErrorFigures(
        max(kind.median for kind in kinds),
        max(kind.p90 for kind in kinds),
        max(kind.worst for kind in kinds),
    )


def outside(fit: Fit, point: Point, series: str) -> list[str]:
    """Why the published rows say little about a point; empty where they do."""
    reasons = []
    if point.precision.value != fit.precision:
        reasons.append(f"nothing is published in {point.precision.value}")
    by_area = sorted((row["size_hw"] for row in fit.rows), key=lambda size: int(size[0] * size[1]))
    (h0, w0), (h1, w1) = by_area[0], by_area[-1]
    if not h0 * w0 <= point.size_hw.height * point.size_hw.width <= h1 * w1:
        reasons.append(f"the published sizes are {h0}x{w0} to {h1}x{w1}")
    batches = [row["batch"] for row in fit.rows]
    if not min(batches) <= point.batch <= max(batches):
        most = f" to {max(batches)}" if max(batches) > min(batches) else ""
        reasons.append(f"the published batch is {min(batches)}{most}")
    if series not in {row["series"] for row in fit.rows}:
        reasons.append(f"no model of the {series.upper()} series is published for this device")
    return reasons
