"""What is known of a device that is not at hand: published latencies, and estimates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evit_cli.bench.estimates.estimate import estimate, explain_layers
from evit_cli.bench.facts import model_facts
from evit_cli.bench.jobs import SweepRequest
from evit_cli.bench.published import published_rows
from evit_cli.bench.row import Kind, Row
from evit_cli.config.device import load_profile
from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError, UsageError
from evit_cli.runtime.description import read_description
from evit_cli.runtime.open import backend_of
from evit_cli.types import ImageSize, Precision

_Case = tuple[str, Precision | None, ImageSize | None, int]


def rows_for_device(request: SweepRequest) -> list[Row]:
    """For each model: what was published for the device, then an estimate for what is asked.

    Raises:
        UsageError: peers are asked for, whose layers evit does not know.
        EvitError: the model is not known, or nothing is published for the device.
        MissingDependency: torch is not installed.
    """
    if request.against:
        raise UsageError(
            "models of others are measured, not estimated", hint="leave --against or --device away"
        )
    profile = load_profile(request.device)
    published = published_rows(device=profile.name)
    rows: list[Row] = []
    for name, precision, size, batch in _cases(request):
        known = [row for row in published if row.point.model == name]
        rows += [row for row in known if row not in rows]
        try:
            row = estimate(name, profile, precision=precision, size_hw=size, batch=batch)
            rows.append(replace(row, metric=model_facts(row.point).metric))
        except EvitError as error:
            if not known:
                raise
            reason = {"reason": error.message, "hint": error.hint}
            rows.append(Row(Kind.FAILED, known[0].point, device=profile.name, error=reason))
    return rows


def layer_tables(request: SweepRequest) -> Iterator[tuple[str, Sequence[Mapping[str, str]]]]:
    """For each estimate a title and a table of the layers that cost most."""
    profile = load_profile(request.device)
    for case in _cases(request):
        yield _layer_table(profile, case)


def _layer_table(profile: Profile, case: _Case) -> tuple[str, list[dict[str, str]]]:
    name, precision, size, batch = case
    layers = explain_layers(name, profile, precision=precision, size_hw=size, batch=batch)
    rows = [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "output": str(layer.size_hw),
            "estimated ms": f"{layer.ms:.3g}",
            "share": f"{layer.share:.1%}",
            "bound by": layer.bound,
            "GMACs": f"{layer.gmacs:.3g}",
            "MB moved": f"{layer.mbytes:.3g}",
        }
        for layer in layers
    ]
    return f"Layers of {name} that cost most on {profile.name}, by estimate", rows


def _cases(request: SweepRequest) -> Iterator[_Case]:
    for model in request.models:
        name, precisions, sizes = model, request.precisions, request.sizes
        if backend_of(model) is not None:
            own = read_description(Path(model))
            name = own.info.name
            precisions, sizes = precisions or (own.precision,), sizes or (own.size_hw,)
        for precision in precisions or (None,):
            for size in sizes or (None,):
                for batch in request.batches:
                    yield name, precision, size, batch
