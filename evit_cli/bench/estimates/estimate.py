"""What a model would take on a board that is not at hand: an estimate, never a measurement.

>>> row = estimate("seg-b1-cityscapes", load_profile("orin"))
>>> row.kind, row.estimate["low_ms"], row.estimate["high_ms"]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evit_cli.bench.estimates.confidence import how_sure, series_of
from evit_cli.bench.estimates.fit import Fit, read_fit
from evit_cli.bench.estimates.layers import Layer, model_layers, model_params
from evit_cli.bench.estimates.roofline import (
    Bound,
    Ceilings,
    ceilings_of,
    layers_ms,
    parts_s,
    transfer_ms,
    transferred_bytes,
    work_of,
)
from evit_cli.bench.row import Kind, Point, Row, single
from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError
from evit_cli.models.variants import VARIANTS, Variant, get_variant
from evit_cli.types import Backend, ImageSize, Precision, Task
from evit_cli.weights.catalog import find_entry
from evit_cli.weights.embedded import EMBEDDED

_LENDERS = {"jetson-orin-nano": "jetson-agx-orin"}
"""Profiles without published latencies that take the coefficients of one of the same generation."""


@dataclass(frozen=True)
class LayerTime:
    """One layer's part of an estimate.

    Attributes:
        name: of the module, or "input and output" for their transfer.
        kind: see `Layer`; "transfer" for the transfer.
        size_hw: of its output.
        ms: milliseconds per run.
        share: of the whole.
        bound: what it waits for.
        gmacs: multiply-accumulates in 1e9.
        mbytes: bytes moved in 1e6.
    """

    name: str
    kind: str
    size_hw: ImageSize
    ms: float
    share: float
    bound: Bound
    gmacs: float = 0.0
    mbytes: float = 0.0


@dataclass(frozen=True)
class _Case:
    """Everything that decides one estimate."""

    name: str
    variant: Variant
    profile: Profile
    precision: Precision
    size_hw: ImageSize
    batch: int
    fit: Fit
    ceilings: Ceilings

    @property
    def layers(self) -> list[Layer]:
        return model_layers(self.variant, self.size_hw, batch=self.batch)


def variant_by_name(name: str) -> Variant:
    """The variant behind a name of the catalog, of an embedded model, or of a variant itself.

    Raises:
        EvitError: the name is not known, or evit has no layers for it.
        MissingDependency: torch is not installed and the model travels with evit.
    """
    if name in EMBEDDED:
        from evit_cli.weights.load import load_model

        return load_model(name).variant
    entry = find_entry(name)
    if entry is not None and entry.variant not in VARIANTS:
        raise EvitError(f"{name} cannot be estimated: evit does not know its layers yet")
    return get_variant(entry.variant if entry else name)


def estimate(
    model: str | Variant,
    profile: Profile,
    *,
    precision: Precision | None = None,
    size_hw: tuple[int, int] | None = None,
    batch: int = 1,
) -> Row:
    """The latency with transfer of input and output, as a row of `Kind.ESTIMATE`.

    `Row.estimate` holds "method"; "fitted_on", the device whose published latencies were used, and
    "rows", how many; "power_mode" of the ceilings; "median_error" and "worst_error" of published
    rows that the fit had not seen, for a case like this one; "low_ms" and "high_ms", between which
    nine of ten such rows lie, and all of them where the case lies outside the rows; and where they
    apply "extrapolated" (reasons) and "note".

    Args:
        model: a catalog name, an embedded model, a variant's name, or a variant.
        profile: of the device.
        precision: None for the profile's first.
        size_hw: of the input; None for the size at which the model was published.
        batch: images per run.

    Raises:
        EvitError: the model is not known, or nothing is published for the device.
        MissingDependency: torch is not installed.
    """
    case = _case(model, profile, precision=precision, size_hw=size_hw, batch=batch)
    layers = case.layers
    ms = float(sum(_layer_ms(case, layers))) + _transfer_ms(case, layers)
    point = Point(
        case.name, case.variant.task, Backend.TENSORRT, case.precision, case.size_hw, case.batch
    )
    series = series_of(case.variant.backbone.name)
    return Row(
        Kind.ESTIMATE,
        point,
        host=single(ms),
        device=profile.name,
        params=model_params(case.variant),
        macs=sum(layer.macs for layer in layers) // case.batch,
        estimate=how_sure(case.fit, profile, point, series=series, ms=ms),
    )


def explain_layers(
    model: str | Variant,
    profile: Profile,
    *,
    precision: Precision | None = None,
    size_hw: tuple[int, int] | None = None,
    batch: int = 1,
    top: int | None = 10,
) -> list[LayerTime]:
    """The layers that an estimate says cost most, the transfer among them.

    Args:
        model: see `estimate`.
        profile: see `estimate`.
        precision: see `estimate`.
        size_hw: see `estimate`.
        batch: see `estimate`.
        top: how many, None for all.

    Raises:
        EvitError: see `estimate`.
    """
    case = _case(model, profile, precision=precision, size_hw=size_hw, batch=batch)
    found = sorted(_layer_times(case), key=lambda each: -each.ms)
    return found[:top]


def _layer_times(case: _Case) -> list[LayerTime]:
    layers, how = case.layers, case.fit.coefficients
    times, transfer = _layer_ms(case, layers), _transfer_ms(case, layers)
    total = sum(times) + transfer
    parts = zip(*parts_s(work_of(layers), how, case.ceilings), strict=True)
    found = []
    for layer, ms, (arithmetic, memory) in zip(layers, times, parts, strict=True):
        bound: Bound = "arithmetic" if arithmetic > memory else "bandwidth"
        if 1e-6 * how.launch_us > max(arithmetic, memory):
            bound = "launch"
        moved = case.ceilings.element_bytes * (layer.weights + layer.inputs + layer.outputs)
        found.append(
            LayerTime(
                layer.name,
                layer.kind,
                layer.size_hw,
                ms,
                ms / total,
                bound,
                gmacs=1e-9 * layer.macs,
                mbytes=1e-6 * moved,
            )
        )
    moved = transferred_bytes(layers, case.size_hw, case.batch)
    share, mbytes = transfer / total, 1e-6 * moved
    name, kind = "input and output", "transfer"
    found.append(LayerTime(name, kind, case.size_hw, transfer, share, "transfer", mbytes=mbytes))
    return found


def _case(
    model: str | Variant,
    profile: Profile,
    *,
    precision: Precision | None,
    size_hw: tuple[int, int] | None,
    batch: int,
) -> _Case:
    if batch < 1:
        raise EvitError(f"a run has at least 1 image, got {batch}")
    fit = read_fit(_LENDERS.get(profile.name, profile.name))
    if fit is None:
        raise EvitError(
            f"no estimate can be made for {profile.name}: no latencies of it are published",
            hint="measure there, with --host user@board or --adb; or estimate for another --device:"
            " orin, orin-nano, nano, a100",
        )
    wanted = precision or profile.precision
    ceilings = ceilings_of(profile, wanted)
    variant = model if isinstance(model, Variant) else variant_by_name(model)
    name = variant.name if isinstance(model, Variant) else model
    size = ImageSize(*size_hw) if size_hw else _usual_size(name, variant)
    return _Case(name, variant, profile, wanted, size, batch, fit, ceilings)


def _usual_size(name: str, variant: Variant) -> ImageSize:
    if name in EMBEDDED:
        from evit_cli.runtime.description import read_description

        return read_description(EMBEDDED[name].artifact).size_hw
    entry = find_entry(name)
    if entry is not None:
        return entry.preprocess.size_hw
    if variant.task is Task.CLASSIFY:
        return ImageSize(224, 224)
    return ImageSize(512, 512) if variant.dataset == "ade20k" else ImageSize(1024, 2048)


def _layer_ms(case: _Case, layers: Sequence[Layer]) -> list[float]:
    times = layers_ms(work_of(layers), case.fit.coefficients, case.ceilings)
    return [float(ms) for ms in times]


def _transfer_ms(case: _Case, layers: Sequence[Layer]) -> float:
    moved = transferred_bytes(layers, case.size_hw, case.batch)
    return float(transfer_ms(moved, case.fit.coefficients))
