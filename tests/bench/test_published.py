"""The published numbers agree with each other, with the catalog and with the paper's own words."""

from __future__ import annotations

import pytest

from evit_cli.bench.peers.catalog import PEERS
from evit_cli.bench.published import PAPER, READMES, TABLES, get_table, published_rows
from evit_cli.bench.published.claims import CLAIMS, Claim
from evit_cli.bench.published.entry import Line, Table
from evit_cli.bench.row import Kind, decode_row, encode_row
from evit_cli.errors import EvitError, UsageError
from evit_cli.types import Backend, ImageSize, Precision
from evit_cli.weights.catalog import CATALOG

LINES = [(table, line) for table in TABLES.values() for line in table.lines]
IDS = [f"{table.name}-{line.model}-{table.size_of(line)}" for table, line in LINES]
# Super-resolution models of the paper whose layout was never published.
UNPUBLISHED = {"efficientvit-sr", "efficientvit-sr-w075"}


def test_no_line_of_a_table_is_lost() -> None:
    counts = {name: len(table.lines) for name, table in PAPER.items()}
    assert counts == {"table2": 20, "table3": 14, "table4": 13, "table5": 10, "sam": 6}
    assert sum(len(table.lines) for table in READMES.values()) == 20 + 6 + 5 + 5


@pytest.mark.parametrize(("table", "line"), LINES, ids=IDS)
def test_every_name_is_one_that_a_user_can_type(table: Table, line: Line) -> None:
    if line.model in UNPUBLISHED:
        return
    known = CATALOG[line.model] if line.ours else PEERS[line.model]
    assert known.task is table.task


@pytest.mark.parametrize(
    ("table", "line"), [(t, line) for t, line in LINES if line.ours and line.params]
)
def test_rounded_numbers_of_ours_are_the_catalogs(table: Table, line: Line) -> None:
    entry = CATALOG[line.model]
    gmacs, _, size = entry.macs.partition("G @")
    assert line.params == pytest.approx(entry.params, rel=0.05)
    assert line.gmacs == pytest.approx(float(gmacs), rel=0.05)
    assert ImageSize.parse(size) == table.size_of(line)
    assert line.metric == pytest.approx(float(entry.metric.split()[1]), abs=0.06)


@pytest.mark.parametrize(
    ("table", "line"), [(t, line) for t, line in LINES if not line.ours and line.params]
)
def test_peers_carry_the_numbers_of_their_line(table: Table, line: Line) -> None:
    peer = PEERS[line.model]
    assert (peer.published_params, peer.published_gmacs) == (line.params, line.gmacs)
    assert peer.size_hw == table.size_of(line)


def test_paper_and_readmes_say_the_same() -> None:
    seen = {
        (line.model, table.size_of(line), device): (ms, line.metric)
        for table in READMES.values()
        for line in table.lines
        for device, ms in table.latencies_ms(line).items()
    }
    compared = 0
    for table in PAPER.values():
        for line in table.lines:
            for device, ms in table.latencies_ms(line).items():
                exact = seen.get((line.model, table.size_of(line), device))
                if exact is not None:
                    compared += 1
                    assert ms == pytest.approx(exact[0], rel=0.02)  # the paper has two digits
                    assert line.metric == pytest.approx(exact[1], abs=0.06)
    assert compared > 30


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.slower}-{c.faster}-{c.device}")
def test_what_the_paper_says_in_words_follows_from_its_tables(claim: Claim) -> None:
    table = get_table(claim.table)
    slow, fast = (
        next(
            table.latencies_ms(line)[claim.device]
            for line in table.lines
            if line.model == model and claim.size_hw in (None, table.size_of(line))
        )
        for model in (claim.slower, claim.faster)
    )
    assert slow / fast == pytest.approx(claim.times, abs=0.051)


def test_rows_are_published_ones_with_a_source() -> None:
    rows = published_rows()
    assert len(rows) > 140
    for row in rows:
        assert row.kind is Kind.PUBLISHED and "TensorRT fp16" in row.source
        assert (row.point.backend, row.point.precision) == (Backend.TENSORRT, Precision.FP16)
        assert row.host is not None and row.host.n == 0 and row.host.p50 > 0
        assert row.device in ("jetson-nano", "jetson-agx-orin", "a100")
        assert decode_row(encode_row(row)) == row


def test_each_result_comes_once_and_from_where_it_has_more_digits() -> None:
    rows = published_rows()
    keys = [(r.point.model, r.point.size_hw, r.device, r.point.batch) for r in rows]
    assert len(set(keys)) == len(keys)
    (row,) = [r for r in rows if r.point.model == "cls-b2-r256" and r.device == "jetson-agx-orin"]
    assert row.latency_ms == 2.84 and "README" in row.source


def test_throughput_is_kept_with_its_batch() -> None:
    rows = {r.point.model: r for r in published_rows(device="a100")}
    assert rows["seg-l1-ade20k"].point.batch == 16
    assert rows["seg-l1-ade20k"].images_per_s == pytest.approx(947)
    assert rows["seg-b0-cityscapes"].point.batch == 1
    assert rows["seg-b0-cityscapes"].latency_ms == pytest.approx(1000 / 263)
    assert "batch not published" in rows["convnext-t"].source
    assert "batch not published" not in rows["segformer-b1"].source


def test_a_device_may_be_named_by_its_alias() -> None:
    orin = published_rows("table3", "orin")
    assert orin == published_rows("table3", "jetson-agx-orin")
    assert {r.point.model: r.latency_ms for r in orin}["segformer-b1"] == 146
    assert published_rows("table5", "nano") == []


def test_models_without_latency_come_when_asked_for() -> None:
    untimed = [r for r in published_rows("table4", timed=False) if r.host is None]
    assert {r.point.model for r in untimed} == {"mask2former-swin-t", "maskformer-swin-t"}
    assert all(r.metric["value"] > 46 and r.device == "" for r in untimed)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="table33") as caught:
        published_rows("table33")
    assert "table3" in caught.value.hint
    with pytest.raises(EvitError):
        published_rows(device="no-such-board")
