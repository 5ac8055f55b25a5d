"""Rows as JSON lines: what is written is read back, and a torn line loses nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench.row import Kind, Latency, Point, Row, decode_row, encode_row, single
from evit_cli.bench.store import Store, read_rows
from evit_cli.errors import EvitError
from evit_cli.types import Backend, ImageSize, Precision, Task

POINT = Point("seg-b0-street", Task.SEGMENT, Backend.TFLITE, Precision.FP32, ImageSize(64, 128))
ROW = Row(
    Kind.MEASURED,
    POINT,
    host=Latency(100, 1.0, 2.0, 3.0, 4.0, 5.0, 2.5, 0.01),
    environment={"cpu": "a processor"},
)

latencies = st.builds(
    Latency,
    n=st.integers(0, 10**6),
    min=st.floats(0, 1e6),
    p50=st.floats(0.001, 1e6),
    p90=st.floats(0, 1e6),
    p95=st.floats(0, 1e6),
    p99=st.floats(0, 1e6),
    mean=st.floats(0, 1e6),
    iqr_ratio=st.floats(0, 100),
)
points = st.builds(
    Point,
    model=st.text(min_size=1, max_size=20),
    task=st.sampled_from(Task),
    backend=st.sampled_from(Backend),
    precision=st.sampled_from(Precision),
    size_hw=st.builds(ImageSize, st.integers(1, 9999), st.integers(1, 9999)),
    batch=st.integers(1, 64),
    threads=st.none() | st.integers(1, 64),
    form=st.sampled_from(["", "eager", "gpu"]),
    peer=st.booleans(),
)
rows = st.builds(
    Row,
    kind=st.sampled_from(Kind),
    point=points,
    compute=st.none() | latencies,
    host=st.none() | latencies,
    params=st.none() | st.integers(0, 10**9),
    energy_j=st.none() | st.floats(0, 1e3),
    tainted=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    error=st.just({}) | st.just({"reason": "out of memory"}),
    environment=st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    evit=st.just("1"),
)


@given(rows)
def test_a_row_survives_its_line(row: Row) -> None:
    line = encode_row(row)
    assert "\n" not in line
    assert decode_row(line) == row


@pytest.mark.parametrize(
    "line",
    ["", "7", "[]", "{", '{"format": 99}', '{"format": 1}', '{"format": 1, "kind": "guess"}'],
)
def test_other_lines_are_no_rows(line: str) -> None:
    with pytest.raises(ValueError):
        decode_row(line)


def test_throughput_counts_the_batch() -> None:
    assert replace(ROW, point=replace(POINT, batch=4)).images_per_s == 2000.0
    assert replace(ROW, host=None).images_per_s is None


def test_the_same_point_on_the_same_machine_has_the_same_key() -> None:
    assert replace(ROW, host=single(9.0), time="later").key == ROW.key
    assert replace(ROW, environment={"cpu": "another"}).key != ROW.key
    assert replace(ROW, point=replace(POINT, batch=2)).key != ROW.key
    assert replace(ROW, kind=Kind.ESTIMATE).key != ROW.key


def test_rows_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    Store(path).add([ROW, replace(ROW, kind=Kind.FAILED)])
    again = Store(path)
    assert again.rows == [ROW, replace(ROW, kind=Kind.FAILED)]
    assert again.find(ROW.key) == ROW
    assert again.find(replace(ROW, kind=Kind.FAILED).key) is None  # it is tried again


def test_a_line_cut_by_lost_power_is_left_out_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    whole = encode_row(ROW) + "\n"
    other = replace(ROW, point=replace(POINT, batch=8))
    for cut in (1, len(whole) // 2, len(whole) - 2):
        path.write_text(whole + whole[:cut])
        store = Store(path)
        assert store.rows == [ROW]
        store.add([other])
        assert read_rows(path) == [ROW, other]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{encode_row(ROW)}\nnonsense\n{encode_row(ROW)}\n")
    with pytest.raises(EvitError, match="line 2"):
        read_rows(path)


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvitError, match="cannot write"):
        Store(tmp_path / "file" / "rows.jsonl").add([ROW])
