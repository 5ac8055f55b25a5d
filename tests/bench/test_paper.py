"""Published and measured side by side: the ratios are right, and settings are not mixed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench.paper import compare_with_paper, paper_points, paper_rows
from evit_cli.bench.peers.catalog import PEERS
from evit_cli.bench.published import PAPER
from evit_cli.bench.row import Kind, Latency, Point, Row
from evit_cli.errors import UsageError
from evit_cli.types import Backend, ImageSize, Precision, Task
from evit_cli.weights.catalog import CATALOG

CITY = ImageSize(1024, 2048)
HALF = ImageSize(512, 1024)


def measured(model: str, ms: float, *, size: ImageSize = CITY, batch: int = 1) -> Row:
    point = Point(model, Task.SEGMENT, Backend.ONNX, Precision.FP32, size, batch=batch)
    return Row(
        Kind.MEASURED, replace(point, peer=model in PEERS),
        host=Latency(100, ms, ms, ms, ms, ms, ms, 0.02),
    )  # fmt: skip


def failed(model: str) -> Row:
    row = measured(model, 1.0)
    return replace(row, kind=Kind.FAILED, host=None, error={"reason": "out of memory"})


def comparison(lines, model: str, to: str):
    (line,) = [line for line in lines if line.model == model]
    (found,) = [c for c in line.comparisons if c.to == to]
    return found


@pytest.mark.parametrize("table", PAPER)
def test_points_are_models_that_can_be_built(table: str) -> None:
    for model, size_hw in paper_points(table):
        assert model in CATALOG or PEERS[model].library
        assert min(size_hw) >= 160
    assert len(set(paper_points(table))) == len(paper_points(table))


def test_what_no_library_has_is_not_asked_for() -> None:
    models = {point.model for point in paper_points("table3")}
    assert {"seg-b0-cityscapes", "segformer-b1", "seg-l2-cityscapes"} <= models
    assert not models & {"segnext-t", "deeplabv3plus-mbv2"}


@pytest.mark.parametrize("table", PAPER)
def test_without_measurements_the_table_comes_as_published(table: str) -> None:
    lines = compare_with_paper(table, [])
    assert len(lines) == len(PAPER[table].lines)
    assert all(line.measured_ms is None and line.missing for line in lines)
    assert all(line.comparisons or not line.peer for line in lines)
    assert {"no well-kept library has it", "not measured"} & {line.missing for line in lines}


def test_the_claim_is_beside_the_ratios() -> None:
    rows = [measured("segformer-b5", 9000), measured("seg-l1-cityscapes", 3000)]
    found = comparison(compare_with_paper("table3", rows), "segformer-b5", "seg-l1-cityscapes")
    assert found.claimed == {"jetson-agx-orin": 13.9, "a100": 10.2}
    assert found.published["jetson-agx-orin"] == pytest.approx(638 / 45.9)
    assert found.measured == pytest.approx(3.0)
    assert found.low == pytest.approx(3 * 0.99 / 1.01) and found.high > found.measured


def test_batches_are_compared_per_image() -> None:
    rows = [measured("segformer-b1", 800, batch=2), measured("seg-b1-cityscapes", 100, batch=2)]
    lines = compare_with_paper("table3", rows)
    assert comparison(lines, "segformer-b1", "seg-b1-cityscapes").measured == pytest.approx(8)
    assert {line.model: line.measured_ms for line in lines}["segformer-b1"] == pytest.approx(400)


def test_only_the_same_part_of_both_is_compared() -> None:
    ours = measured("seg-b1-cityscapes", 100)
    peer = replace(measured("segformer-b1", 800), host=None, compute=ours.host)
    lines = compare_with_paper("table3", [ours, peer])
    assert comparison(lines, "segformer-b1", "seg-b1-cityscapes").measured is None


def test_settings_are_not_mixed() -> None:
    ours, peer = measured("seg-b1-cityscapes", 100), measured("segformer-b1", 800)
    other = replace(peer, point=replace(peer.point, backend=Backend.OPENVINO))
    lines = compare_with_paper("table3", [ours, other])
    assert len(lines) == 2 * len(PAPER["table3"].lines)
    assert all(c.measured is None for line in lines for c in line.comparisons)


def test_only_rows_of_the_table_and_of_its_sizes_count() -> None:
    rows = [
        measured("seg-b1-cityscapes", 1, size=HALF),
        measured("seg-b1-ade20k", 1),
        replace(measured("segformer-b1", 1), kind=Kind.ESTIMATE),
    ]
    assert all(line.measured_ms is None for line in compare_with_paper("table3", rows))


def test_a_smaller_size_can_stand_in_and_is_said() -> None:
    assert {size for _, size in paper_points("table3", HALF)} == {HALF}
    rows = [
        measured("segformer-b1", 600, size=HALF), measured("seg-b1-cityscapes", 100, size=HALF)
    ]  # fmt: skip
    lines = compare_with_paper("table3", rows, HALF)
    assert comparison(lines, "segformer-b1", "seg-b1-cityscapes").measured == pytest.approx(6)
    assert all("at 512x1024" in line.setting and line.size_hw == CITY for line in lines)


def test_why_there_is_no_measurement_is_said() -> None:
    lines = compare_with_paper("table3", [failed("segformer-b5"), measured("segformer-b1", 1)])
    missing = {line.model: line.missing for line in lines}
    assert missing["segformer-b5"] == "out of memory"
    assert missing["segnext-t"] == "no well-kept library has it"
    assert missing["segformer-b3"] == "not measured" and missing["segformer-b1"] == ""


def test_the_table_for_people_is_text_and_the_document_is_json() -> None:
    tainted = replace(measured("segformer-b1", 800), tainted=("the clock changed",))
    lines = compare_with_paper("table3", [tainted, measured("seg-b1-cityscapes", 100)])
    rows = paper_rows(lines)
    assert len({tuple(row) for row in rows}) == 1
    assert all(isinstance(cell, str) for row in rows for cell in row.values())
    (row,) = [row for row in rows if row["model"] == "segformer-b1"]
    assert row["here ms"] == "800 (tainted)" and row["orin ms"] == "146"
    assert row["x here"].startswith("8.00 (") and row["x orin"] == "6.01"
    assert json.loads(json.dumps([line.document() for line in lines]))


def test_models_of_several_sizes_keep_their_lines() -> None:
    lines = compare_with_paper("table5", [])
    pairs = [(line.model, line.size_hw, c.to) for line in lines for c in line.comparisons]
    assert len(set(pairs)) == len(pairs)
    large = next(line for line in lines if line.size_hw == (512, 512))
    assert large.comparisons[0].published["a100"] == pytest.approx(92.0 / 14.3)


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(UsageError, match="table9"):
        compare_with_paper("table9", [])


@given(st.floats(1e-3, 1e3), st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_a_slower_machine_changes_no_ratio(scale: float, slow: float, fast: float) -> None:
    def ratio(by: float) -> float:
        rows = [measured("segformer-b3", slow * by), measured("seg-b2-cityscapes", fast * by)]
        lines = compare_with_paper("table3", rows)
        return comparison(lines, "segformer-b3", "seg-b2-cityscapes").measured

    assert ratio(scale) == pytest.approx(ratio(1.0)) == pytest.approx(slow / fast)
