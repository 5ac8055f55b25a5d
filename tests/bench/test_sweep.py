"""Sweeps over real workers: rows come, are kept, and failures are rows too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evit_cli.bench.jobs import Job, SweepRequest, plan_jobs
from evit_cli.bench.measure import Settings
from evit_cli.bench.protocol import Protocol
from evit_cli.bench.row import Kind, Row
from evit_cli.bench.store import Store
from evit_cli.bench.sweep import SweepOptions, run_sweep
from evit_cli.models.build import build_model
from evit_cli.models.variants import get_variant
from evit_cli.types import Backend, ImageSize, Precision
from evit_cli.weights.remap import from_evit

BRIEF = Settings(
    Protocol(2, 0.0, warm_limit_s=0.1, runs=4, seconds=0.0, limit_s=5.0, rounds=2), ("host",)
)
STREET = SweepRequest(models=("seg-b0-street",), threads=(1,))
TORCH = replace(
    STREET, models=("seg-b0-cityscapes",), backends=(Backend.TORCH,), random=True,
    sizes=(ImageSize(64, 64),),
)  # fmt: skip


def sweep(jobs: list[Job], path: Path | None, *, again: bool = False) -> list[tuple[Row, bool]]:
    seen: list[tuple[Row, bool]] = []
    options = SweepOptions(BRIEF, again, lambda row, kept: seen.append((row, kept)))
    run_sweep(jobs, Store(path), options)
    return seen


def test_a_row_says_what_was_measured(tmp_path: Path) -> None:
    ((row, kept),) = sweep(plan_jobs(STREET), tmp_path / "rows.jsonl")
    assert (row.kind, kept) == (Kind.MEASURED, False)
    assert row.host is not None and row.host.n >= 4
    assert row.compute is None and row.e2e is None  # not asked for
    assert row.params == 705_659
    assert row.macs == pytest.approx(1.08e9, rel=0.01)
    assert row.file_bytes == Path(plan_jobs(STREET)[0].order["artifact"]).stat().st_size
    assert row.peak_rss_bytes is not None and row.peak_rss_bytes > 20e6
    assert row.environment["cpu"] and row.time
    assert any("runs were measured" in reason for reason in row.tainted)


def test_what_is_measured_already_is_kept(tmp_path: Path) -> None:
    path, jobs = tmp_path / "rows.jsonl", plan_jobs(STREET)
    first = sweep(jobs, path)[0][0]
    assert sweep(jobs, path) == [(first, True)]
    ((other, kept),) = sweep(jobs, path, again=True)
    assert not kept and other.key == first.key
    assert len(Store(path).rows) == 2


def test_a_failure_is_a_row_and_the_sweep_goes_on(tmp_path: Path) -> None:
    good, bad = plan_jobs(STREET)[0], plan_jobs(TORCH)[0]
    bad = Job(bad.point, {**bad.order, "form": "cuda-graph"})
    path = tmp_path / "rows.jsonl"
    rows = [row for row, _ in sweep([bad, good], path)]
    assert [row.kind for row in rows] == [Kind.FAILED, Kind.MEASURED]
    assert "GPU" in rows[0].error["reason"]
    assert [kept for _, kept in sweep([bad, good], path)] == [False, True]  # it is tried again


def test_a_model_that_gives_nan_is_broken_not_fast(tmp_path: Path) -> None:
    model = build_model(get_variant("seg-b0-cityscapes"))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    weights = tmp_path / "efficientvit_seg_b0_cityscapes.pt"
    variant = get_variant("seg-b0-cityscapes")
    torch.save({"state_dict": from_evit(model.state_dict(), variant, "published")}, weights)
    request = replace(TORCH, random=False, weights=weights)
    ((row, _),) = sweep(plan_jobs(request), None)
    assert row.kind is Kind.FAILED
    assert "NaN" in row.error["reason"]


def test_out_of_memory_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    from evit_cli.bench import client

    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "from evit_cli.bench.worker import main; main()"
    )
    real = client.subprocess.Popen

    def popen(command: list[str], **how: object) -> object:
        return real([command[0], "-c", limited], **how)  # type: ignore[call-overload]

    monkeypatch.setattr(client.subprocess, "Popen", popen)
    huge = replace(TORCH, sizes=(ImageSize(8192, 8192),), precisions=(Precision.FP32,))
    ((row, _),) = sweep(plan_jobs(huge), None)
    assert row.kind is Kind.FAILED
    assert "memory" in row.error["reason"]


def test_models_that_are_compared_have_a_ratio_with_its_spread() -> None:
    request = replace(TORCH, against=("seg-b1-cityscapes",), sizes=(ImageSize(256, 256),))
    (own, _), (other, _) = sweep(plan_jobs(request), None)
    assert own.ratio == {}
    ratio = other.ratio
    assert ratio["to"] == "seg-b0-cityscapes"
    assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]


def test_an_interruption_keeps_finished_rows(tmp_path: Path) -> None:
    path, jobs = tmp_path / "rows.jsonl", plan_jobs(replace(STREET, threads=(1, 2)))

    def stop(row: Row, kept: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(jobs, Store(path), SweepOptions(BRIEF, on_row=stop))
    assert [row.point.threads for row in Store(path).rows] == [1]
