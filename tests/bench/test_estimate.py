"""Estimates: the fits that travel with evit are current and as good as they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import fit_estimates
from evit_cli.bench.estimates.estimate import estimate, explain_layers
from evit_cli.bench.estimates.fit import (
    LEFT_OUT,
    ErrorFigures,
    Sample,
    estimate_ms,
    fit,
    leave_out,
    read_fit,
)
from evit_cli.bench.estimates.layers import model_layers
from evit_cli.bench.estimates.roofline import Coefficients, ceilings_of, transferred_bytes, work_of
from evit_cli.bench.row import Kind, decode_row, encode_row
from evit_cli.config.device import load_profile
from evit_cli.errors import EvitError
from evit_cli.models.variants import VARIANTS
from evit_cli.types import ImageSize, Precision, Task

BARS = {"jetson-agx-orin": 0.15, "jetson-nano": 0.20, "a100": 0.20}
"""Median errors with each row left out, at most."""
REFITTED = [
    pytest.param("jetson-agx-orin", marks=pytest.mark.slow),
    "jetson-nano",
    pytest.param("a100", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("device", REFITTED)
def test_kept_fit_is_what_the_command_writes(device: str) -> None:
    kept, fresh = read_fit(device), fit_estimates.fit_device(device)
    assert fit_estimates.is_current(kept, fresh), f"run {fit_estimates.COMMAND}"
    assert kept is not None
    assert fresh.row_by_row.median <= BARS[device]
    for name in LEFT_OUT:
        assert vars(getattr(kept, name)) == pytest.approx(vars(getattr(fresh, name)), abs=0.01)


@pytest.mark.parametrize("device", BARS)
def test_kept_fit_is_good_and_of_all_published_rows(device: str) -> None:
    kept = read_fit(device)
    assert kept is not None
    published = {
        (row.point.model, tuple(row.point.size_hw), row.point.batch): row.latency_ms
        for row, _ in fit_estimates.rows_of(device)
    }
    own = {(r["model"], tuple(r["size_hw"]), r["batch"]): r["published_ms"] for r in kept.rows}
    assert own == pytest.approx(published, rel=1e-4)
    assert len(vars(kept.coefficients)) < len(kept.rows) / 2
    for name in kept.rows[0]["error"].keys() - {"fitted"}:
        errors = ErrorFigures.of(np.array([row["error"][name] for row in kept.rows]))
        assert vars(errors) == pytest.approx(vars(getattr(kept, name)), abs=1e-3)
    assert kept.row_by_row.median <= BARS[device]
    assert read_fit(device) == kept and read_fit("x86") is None


def samples_of(names: dict[str, tuple[int, int]], how: Coefficients) -> list[Sample]:
    ceilings = ceilings_of(load_profile("orin"), Precision.FP16)
    samples = []
    for name, size_hw in names.items():
        layers = model_layers(VARIANTS[name], size_hw)
        moved = transferred_bytes(layers, size_hw, 1)
        samples.append(Sample(name, name[:3], work_of(layers), moved, 1.0))
    times = estimate_ms(samples, how, ceilings)
    return [
        replace(sample, published_ms=float(ms)) for sample, ms in zip(samples, times, strict=True)
    ]


MODELS = {
    "cls-b0": (224, 224),
    "cls-b1": (288, 288),
    "cls-l1": (224, 224),
    "cls-l2": (384, 384),
    "seg-b0-cityscapes": (1024, 2048),
    "seg-b1-ade20k": (512, 512),
    "seg-l1-ade20k": (512, 512),
    "seg-l1-cityscapes": (1024, 2048),
}


def test_fit_finds_the_device_behind_the_rows() -> None:
    device = Coefficients(0.6, 0.3, 0.8, 0.3, 25.0, 15.0, 6.0)
    samples = samples_of(MODELS, device)
    ceilings = ceilings_of(load_profile("orin"), Precision.FP16)
    found = fit(samples, ceilings)
    assert found == fit(samples, ceilings)
    errors = estimate_ms(samples, found, ceilings) / [s.published_ms for s in samples] - 1
    assert np.abs(errors).max() < 0.03
    assert found.launch_us == pytest.approx(device.launch_us, rel=0.2)
    unseen = samples_of({"cls-b2": (256, 256), "seg-l2-cityscapes": (1024, 2048)}, device)
    ahead = estimate_ms(unseen, found, ceilings) / [s.published_ms for s in unseen] - 1
    assert np.abs(ahead).max() < 0.05


def test_a_row_left_out_has_no_say() -> None:
    ceilings = ceilings_of(load_profile("orin"), Precision.FP16)
    samples = samples_of(MODELS, Coefficients(0.6, 0.3, 0.8, 0.3, 25.0, 15.0, 6.0))
    wrong = [replace(samples[0], published_ms=3 * samples[0].published_ms), *samples[1:]]
    honest = (leave_out(samples, ceilings, range(8))[0] + 1) * samples[0].published_ms
    misled = (leave_out(wrong, ceilings, range(8))[0] + 1) * wrong[0].published_ms
    assert misled == pytest.approx(honest)
    # Together with its group, it misleads nobody of the group.
    tasks = [sample.task for sample in samples]
    before, after = (leave_out(each, ceilings, tasks) for each in (samples, wrong))
    assert before[1:4] == pytest.approx(after[1:4])
    assert before[4:] != pytest.approx(after[4:])


def test_row_says_that_it_is_an_estimate_and_how_good() -> None:
    row = estimate("cls-b2-r256", load_profile("orin"))
    assert row.kind is Kind.ESTIMATE and row.device == "jetson-agx-orin"
    assert row.point.size_hw == ImageSize(256, 256) and row.point.task is Task.CLASSIFY
    assert row.point.precision is Precision.FP16
    assert row.host is not None and row.host.n == 0 and row.compute is None
    said = row.estimate
    assert said["fitted_on"] == "jetson-agx-orin" and said["rows"] > 20
    assert said["low_ms"] < row.host.p50 < said["high_ms"]
    assert "extrapolated" not in said and "note" not in said
    assert said["low_ms"] < 2.84 < said["high_ms"]  # published
    assert row.params == 24_330_712 and row.macs == pytest.approx(2.068e9, rel=1e-3)
    assert decode_row(encode_row(row)).estimate == said


@pytest.mark.parametrize(
    ("model", "device", "options", "reason"),
    [
        ("cls-b1", "orin", {"precision": Precision.INT8}, "int8"),
        ("seg-b0-cityscapes", "orin", {"size_hw": (2048, 4096)}, "224x224 to 1024x2048"),
        ("cls-b1", "orin", {"size_hw": (128, 128)}, "224x224 to 1024x2048"),
        ("cls-b1", "orin", {"batch": 8}, "batch is 1"),
        ("cls-b1", "a100", {"batch": 64}, "batch is 1 to 16"),
        ("cls-l1", "nano", {}, "L series"),
    ],
)
def test_beyond_the_published_rows_it_says_so_and_is_less_sure(
    model: str, device: str, options: dict[str, object], reason: str
) -> None:
    profile = load_profile(device)
    row = estimate(model, profile, **options)  # type: ignore[arg-type]
    assert any(reason in said for said in row.estimate["extrapolated"])
    sure = estimate("cls-b1", load_profile(device)).estimate
    assert "extrapolated" not in sure
    assert row.estimate["worst_error"] > sure["worst_error"]
    width, usual = (each["high_ms"] / each["low_ms"] for each in (row.estimate, sure))
    assert width > usual


def test_orin_nano_borrows_and_says_so() -> None:
    lent = estimate("seg-b1-cityscapes", load_profile("orin-nano"), size_hw=(512, 1024))
    own = estimate("seg-b1-cityscapes", load_profile("orin"), size_hw=(512, 1024))
    assert lent.device == "jetson-orin-nano"
    assert lent.estimate["note"] == "efficiencies of jetson-agx-orin, not fitted"
    assert lent.host is not None and own.host is not None
    # Between the ratios of their bandwidths and of their arithmetic.
    assert 1 < lent.host.p50 / own.host.p50 < 42.5 / 17
    assert lent.estimate["worst_error"] > own.estimate["worst_error"]


def test_embedded_model_at_the_size_of_its_artifact() -> None:
    row = estimate("seg-b0-street", load_profile("orin"))
    assert row.point.size_hw == ImageSize(544, 960)
    assert row.params == 705_659


@pytest.mark.parametrize(
    ("model", "device", "options", "message"),
    [
        ("cls-b1-r224", "x86", {}, "no estimate can be made for x86"),
        ("cls-b1-r224", "snapdragon-8-gen1", {}, "no latencies of it are published"),
        ("cls-b1-r224", "nano", {"precision": Precision.INT8}, "no peak rate for int8"),
        ("cls-b1-r224", "orin", {"batch": 0}, "at least 1 image"),
        ("cls-b9", "orin", {}, "cls-b9"),
    ],
)
def test_what_cannot_be_estimated(
    model: str, device: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(EvitError, match=message) as caught:
        estimate(model, load_profile(device), **options)  # type: ignore[arg-type]
    assert caught.value.hint or "image" in message


@settings(max_examples=4, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 4), st.integers(1, 4))
def test_more_work_never_takes_less(height: int, width: int, batch: int, more: int) -> None:
    profile = load_profile("orin")
    size_hw, larger = (32 * height, 32 * width), (32 * height, 32 * (width + more))
    times = [
        estimate("seg-b0-cityscapes", profile, size_hw=size, batch=count).latency_ms
        for size, count in ((size_hw, batch), (larger, batch), (larger, batch + 1))
    ]
    assert times == sorted(times)  # type: ignore[type-var]
    assert times[0] < times[-1]  # type: ignore[operator]


def test_explanation_adds_up() -> None:
    profile = load_profile("orin")
    row = estimate("seg-l1-cityscapes", profile)
    parts = explain_layers("seg-l1-cityscapes", profile, top=None)
    assert sum(part.ms for part in parts) == pytest.approx(row.latency_ms)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert [part.ms for part in parts] == sorted((part.ms for part in parts), reverse=True)
    assert explain_layers("seg-l1-cityscapes", profile, top=3) == parts[:3]
    bound = {part.name: part.bound for part in parts}
    assert bound["input and output"] == "transfer"
    assert {"arithmetic", "bandwidth"} <= set(bound.values())
    depthwise = [part.bound for part in parts if part.kind == "depthwise"]
    assert "arithmetic" not in depthwise
    small = explain_layers("cls-b1-r224", profile, top=None)
    assert sum(part.share for part in small if part.bound == "launch") > 0.5
