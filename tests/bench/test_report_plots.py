"""Which numbers share a plot of a report, and its axes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench.report.axis import fit_axis, tick_texts
from evit_cli.bench.report.facets import facets, family, short_name
from evit_cli.bench.row import Kind
from tests.bench.report_rows import WORKSTATION, measured, published

ROW = measured()[0]


def test_plots_keep_apart_what_may_not_be_compared() -> None:
    batch = replace(ROW, point=replace(ROW.point, batch=16))
    other_size = replace(ROW, point=replace(ROW.point, size_hw=published()[-1].point.size_hw))
    other_machine = replace(ROW, environment={**WORKSTATION, "cpu": "another"}, device="x86")
    other_data = replace(ROW, metric={**ROW.metric, "dataset": "ADE20K val"})
    rows = [ROW, batch, other_size, other_machine, other_data]
    shown = [facet for facet in facets(rows) if not facet.y_log]
    assert len(shown) == 5
    assert all(len(series.marks) == 1 for facet in shown for series in facet.series)


def test_published_rows_stand_beside_their_board_only() -> None:
    board, workstation = measured()[0], measured()[6]
    known = published()[0]
    shown = [facet for facet in facets([board, workstation, known]) if not facet.y_log]
    kinds = {facet.where: {series.kind for series in facet.series} for facet in shown}
    (on_board,) = (where for where in kinds if "Orin" in where)
    (elsewhere,) = (where for where in kinds if "EPYC" in where)
    assert kinds[on_board] == {Kind.MEASURED, Kind.PUBLISHED}
    assert kinds[elsewhere] == {Kind.MEASURED}


@pytest.mark.parametrize(
    ("model", "of_family", "label"),
    [
        ("seg-b0-cityscapes", "seg-b-cityscapes", "b0"),
        ("seg-l2-ade20k", "seg-l-ade20k", "l2"),
        ("cls-b3-r288", "cls-b", "b3 r288"),
        ("sam-xl1", "sam-xl", "xl1"),
        ("segformer-b5", "segformer", "segformer-b5"),
        ("efficientnetv2-m", "efficientnetv2", "efficientnetv2-m"),
        ("swinir", "swinir", "swinir"),
        ("", "", ""),
    ],
)
def test_families(model: str, of_family: str, label: str) -> None:
    assert (family(model), short_name(model)) == (of_family, label)


@given(
    st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=5),
    st.booleans(),
)
def test_an_axis_holds_its_values(values: list[float], log: bool) -> None:
    axis = fit_axis(values, 50, 450, log=log)
    assert all(50 < axis.place(value) < 450 for value in values)
    ticks = axis.ticks
    assert 2 <= len(ticks) <= 10
    assert all(axis.low <= tick <= axis.high * (1 + 1e-9) for tick in ticks)
    assert len(tick_texts(axis)) == len(ticks)
