"""The time of a layer from a device's ceilings: arithmetic or memory, whichever takes longer.

    time = max(2 macs / (compute * efficiency * fill), bytes / (bandwidth * efficiency)) + launch

`fill` is the share of the arithmetic units that a layer with few channels can use. Activations,
biases, normalisation and residual additions are part of the layer before them, as TensorRT fuses
them (`evit_cli.bench.estimates.layers`). To the sum of the layers comes the transfer of the input
and output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from evit_cli.bench.estimates.layers import Layer
from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError
from evit_cli.types import Precision

Floats = npt.NDArray[np.float64]
Bound = Literal["arithmetic", "bandwidth", "launch", "transfer"]

_ELEMENT_BYTES = {Precision.FP32: 4, Precision.FP16: 2, Precision.BF16: 2, Precision.INT8: 1}
_TRANSFERRED_BYTES = 4
"""Input and output cross the link in float32, as in the published measurements."""


@dataclass(frozen=True)
class Ceilings:
    """What a device can do at most at one precision.

    Attributes:
        compute: operations per second; a multiply-add is two.
        vector: the same outside matrix units, which layers in groups of channels do not reach.
        bandwidth: bytes per second of main memory.
        element_bytes: of an activation or weight.
    """

    compute: float
    vector: float
    bandwidth: float
    element_bytes: int


@dataclass(frozen=True)
class Coefficients:
    """What is fitted: shares of the ceilings that are reached, and fixed costs.

    Attributes:
        dense: share of `compute` that k x k convolutions reach.
        pointwise: the same of 1x1 convolutions, linear layers and products.
        bandwidth: share of `bandwidth` that layers reach.
        depthwise: what depthwise and grouped convolutions reach of that.
        half_channels: sums over, or outputs of, this many channels use half of the units.
        launch_us: microseconds of a layer besides its work.
        link_gb_per_s: rate at which input and output are transferred.
    """

    dense: float
    pointwise: float
    bandwidth: float
    depthwise: float
    half_channels: float
    launch_us: float
    link_gb_per_s: float


@dataclass(frozen=True)
class Work:
    """Layers of one or several models as arrays, for the arithmetic below.

    Attributes:
        macs: multiply-accumulates.
        elements: read and written, weights among them.
        depth: see `Layer`.
        width: see `Layer`.
        dense: 1 for a k x k convolution, else 0.
        grouped: 1 for a depthwise or grouped convolution, else 0.
    """

    macs: Floats
    elements: Floats
    depth: Floats
    width: Floats
    dense: Floats
    grouped: Floats


def work_of(layers: Iterable[Layer]) -> Work:
    """The layers as arrays."""
    rows = [
        (
            layer.macs,
            layer.weights + layer.inputs + layer.outputs,
            layer.depth,
            layer.width,
            layer.kind == "conv",
            layer.kind in ("depthwise", "grouped"),
        )
        for layer in layers
    ]
    return Work(*np.array(rows, dtype=np.float64).T)


def join_work(parts: Sequence[Work]) -> Work:
    """The layers of several models, one after the other."""
    return Work(
        *(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Work))
    )


def parts_s(work: Work, how: Coefficients, ceilings: Ceilings) -> tuple[Floats, Floats]:
    """Seconds that each layer's arithmetic takes, and its memory traffic."""
    share = np.where(work.dense > 0, how.dense, how.pointwise)
    half = how.half_channels
    fill = work.depth / (work.depth + half) * work.width / (work.width + half)
    matrix = ceilings.compute * share * fill
    arithmetic = 2 * work.macs / np.where(work.grouped > 0, ceilings.vector, matrix)
    reached = ceilings.bandwidth * how.bandwidth * np.where(work.grouped > 0, how.depthwise, 1.0)
    return arithmetic, ceilings.element_bytes * work.elements / reached


def layers_ms(work: Work, how: Coefficients, ceilings: Ceilings) -> Floats:
    """Milliseconds of each layer, its launch among them."""
    times: Floats = 1e3 * np.maximum(*parts_s(work, how, ceilings)) + 1e-3 * how.launch_us
    return times


def transferred_bytes(layers: Sequence[Layer], size_hw: tuple[int, int], batch: int) -> int:
    """Bytes of the image batch and of the last layer's output."""
    pixels = batch * size_hw[0] * size_hw[1]
    return _TRANSFERRED_BYTES * (3 * pixels + layers[-1].outputs)


def transfer_ms(moved: float | Floats, how: Coefficients) -> float | Floats:
    """Milliseconds for so many bytes over the link."""
    return 1e-6 * moved / how.link_gb_per_s


def ceilings_of(profile: Profile, precision: Precision) -> Ceilings:
    """The ceilings that a device profile gives.

    Raises:
        EvitError: it gives none, or not for this precision.
    """
    peak = profile.peak
    rates = peak.compute_tera_ops_per_s
    measure = "measure there: evit bench MODEL --host user@board"
    if not rates or peak.bandwidth_gb_per_s is None:
        raise EvitError(f"profile {profile.name} has no peak rates to estimate from", hint=measure)
    if precision not in rates:
        known = ", ".join(each.value for each in rates)
        raise EvitError(
            f"profile {profile.name} has no peak rate for {precision.value}",
            hint=f"--precision {known}; or {measure}",
        )
    compute = rates[precision].value
    vector = rates[Precision.FP32].value if Precision.FP32 in rates else compute
    bandwidth = 1e9 * peak.bandwidth_gb_per_s.value
    return Ceilings(1e12 * compute, 1e12 * vector, bandwidth, _ELEMENT_BYTES[precision])
