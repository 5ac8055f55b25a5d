"""The roofline's coefficients from published latencies, and how far off it is on rows left out.

The error that is made small is the logarithm of estimate / published, so that 1 ms and 1 s count
alike. To it comes a penalty for leaving what is plausible for any GPU (`_PRIOR`): a coefficient
that the rows do not determine stays there instead of going wherever the noise sends it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from evit_cli.bench.estimates.roofline import (
    Ceilings,
    Coefficients,
    Floats,
    Work,
    join_work,
    layers_ms,
    transfer_ms,
)
from evit_cli.config.find import data_folder
from evit_cli.errors import EvitError

# typical value, spread (of its logarithm), least, most
_PRIOR: Mapping[str, tuple[float, float, float, float]] = {
    "dense": (0.5, 0.4, 0.02, 1.0),
    "pointwise": (0.5, 0.4, 0.02, 1.0),
    "bandwidth": (0.7, 0.25, 0.1, 1.0),
    "depthwise": (0.5, 0.5, 0.05, 1.0),
    "half_channels": (16.0, 0.7, 0.1, 500.0),
    "launch_us": (8.0, 1.0, 0.1, 500.0),
    "link_gb_per_s": (10.0, 0.7, 0.5, 60.0),
}
_NOISE = 0.05
"""Share by which a published latency may be off for reasons that no layer explains."""
_STARTS = 2
_STEPS = 80

LEFT_OUT = ("row_by_row", "model_by_model", "task_by_task", "series_by_series")
"""Fields of `Fit` with errors on rows that a fit had not seen."""


@dataclass(frozen=True)
class Sample:
    """A published latency with the layers of its model.

    Attributes:
        model: its name.
        task: what its rows are left out with when a whole task is left out.
        work: its layers.
        moved_bytes: over the link.
        published_ms: per run.
    """

    model: str
    task: str
    work: Work
    moved_bytes: float
    published_ms: float


class _Problem:
    """Samples as a table of different layers and how often each sample has them."""

    def __init__(self, samples: Sequence[Sample], ceilings: Ceilings) -> None:
        works = [sample.work for sample in samples]
        joined = join_work(works)
        columns = np.stack([getattr(joined, item.name) for item in fields(Work)], axis=1)
        _, first, kind = np.unique(columns, axis=0, return_index=True, return_inverse=True)
        owner = np.repeat(np.arange(len(works)), [len(work.macs) for work in works])
        self.counts = np.zeros((len(works), len(first)))
        np.add.at(self.counts, (owner, kind.reshape(-1)), 1)
        self.work = Work(*(getattr(joined, item.name)[first] for item in fields(Work)))
        self.moved = np.array([sample.moved_bytes for sample in samples])
        self.published = np.array([sample.published_ms for sample in samples])
        self.ceilings = ceilings

    def estimates_ms(self, how: Coefficients) -> Floats:
        times = self.counts @ layers_ms(self.work, how, self.ceilings)
        return np.asarray(times + transfer_ms(self.moved, how))

    def residuals(self, logs: Floats) -> Floats:
        """What is made small: the errors in units of the noise, and the prior's penalties."""
        how = Coefficients(*np.exp(logs))
        errors = np.log(self.estimates_ms(how) / self.published) / _NOISE
        return np.concatenate([errors, (logs - _TYPICAL) / _SPREAD])


_TYPICAL, _SPREAD, _LEAST, _MOST = (
    np.array(column) for column in zip(*_PRIOR.values(), strict=True)
)
_TYPICAL, _LEAST, _MOST = np.log(_TYPICAL), np.log(_LEAST), np.log(_MOST)


def estimate_ms(samples: Sequence[Sample], how: Coefficients, ceilings: Ceilings) -> Floats:
    """The roofline's milliseconds for each sample."""
    return _Problem(samples, ceilings).estimates_ms(how)


def fit(samples: Sequence[Sample], ceilings: Ceilings) -> Coefficients:
    """The coefficients for these rows; the same rows always give the same.

    Args:
        samples: at least one.
        ceilings: of the device at the precision of the rows.
    """
    problem = _Problem(samples, ceilings)
    random = np.random.default_rng(0)
    best: tuple[float, Floats] | None = None
    for number in range(_STARTS):
        start = _TYPICAL + (random.normal(0, 0.5, len(_TYPICAL)) if number else 0.0)
        found = _descend(problem, np.clip(start, _LEAST, _MOST))
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    return Coefficients(*(float(value) for value in np.exp(best[1])))


def _descend(problem: _Problem, logs: Floats) -> tuple[float, Floats]:
    """Levenberg-Marquardt within the bounds, with differences for derivatives."""
    step, damping = 1e-4, 1e-2
    residuals = problem.residuals(logs)
    cost = float(residuals @ residuals)
    for _ in range(_STEPS):
        shifted = [problem.residuals(logs + step * axis) for axis in np.eye(len(logs))]
        slopes = (np.stack(shifted) - residuals) / step
        before = cost
        while damping < 1e9:
            matrix = slopes @ slopes.T + damping * np.eye(len(logs))
            move = np.clip(np.linalg.solve(matrix, -slopes @ residuals), -1, 1)
            candidate = np.clip(logs + move, _LEAST, _MOST)
            tried = problem.residuals(candidate)
            if float(tried @ tried) < cost:
                logs, residuals, cost = candidate, tried, float(tried @ tried)
                damping = max(damping / 3, 1e-6)
                break
            damping *= 4
        if before - cost < 1e-7 * before:
            break
    return cost, logs


def leave_out(samples: Sequence[Sample], ceilings: Ceilings, groups: Sequence[Hashable]) -> Floats:
    """Signed errors (estimate / published - 1) of rows that the fit has not seen.

    Args:
        samples: the rows.
        ceilings: of the device.
        groups: of each row; rows of one group are left out together, and the fit starts anew.
    """
    errors = np.empty(len(samples))
    for group in dict.fromkeys(groups):
        out = [i for i, other in enumerate(groups) if other == group]
        kept = [sample for i, sample in enumerate(samples) if i not in out]
        left = [samples[i] for i in out]
        estimates = estimate_ms(left, fit(kept, ceilings), ceilings)
        errors[out] = estimates / [sample.published_ms for sample in left] - 1
    return errors


@dataclass(frozen=True)
class ErrorFigures:
    """Absolute relative errors over rows: 0.05 is 5 %."""

    median: float
    p90: float
    worst: float

    @classmethod
    def of(cls, errors: Floats) -> ErrorFigures:
        """The figures of signed errors."""
        sizes = np.abs(errors)
        p90 = float(np.quantile(sizes, 0.9))
        return cls(float(np.median(sizes)), p90, float(sizes.max()))


@dataclass(frozen=True)
class Fit:
    """A device's coefficients with everything that says how good they are.

    Attributes:
        device: name of the profile.
        precision: of the rows.
        command: that wrote it.
        coefficients: of the roofline.
        row_by_row: errors with each row left out in turn.
        model_by_model: with all sizes and batches of a model left out together.
        task_by_task: with all rows of a task and data set left out together.
        series_by_series: with the B or the L series left out; of another device where the rows are
            of one series.
        borrowed: of these coefficients on the rows of another device, by its name.
        rows: the published rows, each with its errors.
    """

    device: str
    precision: str
    command: str
    coefficients: Coefficients
    row_by_row: ErrorFigures
    model_by_model: ErrorFigures
    task_by_task: ErrorFigures
    series_by_series: ErrorFigures
    borrowed: Mapping[str, ErrorFigures]
    rows: Sequence[Mapping[str, Any]]

    def to_json(self) -> str:
        """A document that `read_fit` reads back, the same for the same rows."""
        return json.dumps(_rounded(asdict(self)), indent=1, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    """Six digits: more would differ between processors."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def fit_file(device: str) -> Path:
    """Where the fit of a device lies, whether there is one or not."""
    return data_folder("devices") / "fits" / f"{device}.json"


def read_fit(device: str) -> Fit | None:
    """The fit of a device profile; None where there is none.

    Raises:
        EvitError: the file is damaged.
    """
    path = fit_file(device)
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text("utf-8"))
        raw["coefficients"] = Coefficients(**raw["coefficients"])
        for name in LEFT_OUT:
            raw[name] = ErrorFigures(**raw[name])
        raw["borrowed"] = {name: ErrorFigures(**each) for name, each in raw["borrowed"].items()}
        return Fit(**raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvitError(f"{path} is damaged: {error}", hint="reinstall evit") from error
