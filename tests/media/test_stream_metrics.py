"""`/metrics` read back by a parser written from the text format's description, version 0.0.4."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.media.stream import FrameStream, open_stream
from evit_cli.media.stream.metrics import exposition
from evit_cli.media.stream.status import BUCKETS_S, Status
from tests.helpers.media_files import numbered
from tests.helpers.stream_clients import ask, parts, watch

METRIC = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({METRIC})(?:{{((?:{LABEL})(?:,{LABEL})*,?)}})? (\S+)( -?\d+)?")
KINDS = ("counter", "gauge", "histogram", "summary", "untyped")

Labels = frozenset[tuple[str, str]]


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)


def value_of(text: str) -> float:
    if text in ("+Inf", "-Inf", "NaN"):
        return float(text)
    assert re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text), text
    return float(text)


def parsed(text: str) -> dict[str, dict[tuple[str, Labels], float]]:
    """{family: {(name, labels): value}}; asserts everything that the format demands."""
    assert text.endswith("\n")
    families: dict[str, dict[tuple[str, Labels], float]] = {}
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    current = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            _, _, name, said = line.split(" ", 3)
            assert re.fullmatch(METRIC, name) and said and name not in helped
            assert "\\" not in re.sub(r"\\[\\n]", "", said)
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current in helped and current not in kinds and kind in KINDS
            kinds[current], families[current] = kind, {}
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            name = match[1]
            endings = ("_bucket", "_sum", "_count") if kinds[current] == "histogram" else ("",)
            assert name in {current + ending for ending in endings}, "samples are kept together"
            labels = frozenset((k, unescaped(v)) for k, v in re.findall(LABEL, match[2] or ""))
            assert (name, labels) not in families[current], "every sample once"
            families[current][name, labels] = value_of(match[7])
    for name, kind in kinds.items():
        assert families[name]
        if kind == "counter":
            assert name.endswith("_total")
            assert all(value >= 0 for value in families[name].values())
        if kind == "histogram":
            check_histogram(name, families[name])
    return families


def check_histogram(name: str, samples: dict[tuple[str, Labels], float]) -> None:
    buckets = {
        value_of(dict(labels)["le"]): value
        for (sample, labels), value in samples.items()
        if sample == f"{name}_bucket"
    }
    assert list(buckets) == sorted(buckets) and math.inf in buckets
    assert list(buckets.values()) == sorted(buckets.values()), "buckets are cumulative"
    assert buckets[math.inf] == samples[f"{name}_count", frozenset()]
    assert samples[f"{name}_sum", frozenset()] >= 0


@pytest.fixture
def stream() -> Iterator[FrameStream]:
    with open_stream("http://127.0.0.1:0") as opened:
        yield opened


def test_metrics_of_a_run_with_a_client(stream: FrameStream) -> None:
    stream.describe(model='an "odd\\name"\nindeed', source="caf\udce9")  # a file name
    stream.offer(lambda: numbered(0), model_ms=20.0)
    viewer = parts(watch(stream.url)[1])
    next(viewer)
    for n in (1, 2):
        stream.offer(lambda n=n: numbered(n), model_ms=20.0, source_dropped=7)
        next(viewer)
    assert ask(stream.url, "nothing").status == 404
    reply = ask(stream.url, "metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = parsed(reply.body.decode())
    plain = {name: next(iter(samples.values())) for name, samples in found.items()}
    assert plain["evit_frames_total"] == 3
    assert plain["evit_source_dropped_frames_total"] == 7
    assert plain["evit_stream_clients"] == plain["evit_stream_clients_total"] == 1
    assert plain["evit_stream_sent_frames_total"] in (2, 3)  # the last may not be counted yet
    assert plain["evit_stream_encoded_frames_total"] == 3
    assert plain["evit_stalled"] == 0
    refused = found["evit_stream_refused_requests_total"]
    assert refused["evit_stream_refused_requests_total", frozenset({("status", "404")})] == 1
    ((_, labels),) = found["evit_info"]
    assert dict(labels) == {"model": 'an "odd\\name"\nindeed', "source": "caf?"}
    times = found["evit_model_seconds"]
    assert times["evit_model_seconds_sum", frozenset()] == pytest.approx(0.06)
    assert times["evit_model_seconds_bucket", frozenset({("le", "0.01")})] == 0
    assert times["evit_model_seconds_bucket", frozenset({("le", "0.025")})] == 3


@given(
    times_ms=st.lists(st.floats(0, 1e6), max_size=300),
    facts=st.dictionaries(st.sampled_from(["model", "source"]), st.text()),
)
def test_any_run_can_be_read(times_ms: list[float], facts: dict[str, str]) -> None:
    status = Status(10.0)
    status.facts = facts
    for ms in times_ms:
        status.count(ms, 0)
    found = parsed(exposition(status, watching=0, encoded=0))
    if facts:
        ((_, labels),) = found["evit_info"]
        assert dict(labels) == facts
    times = found["evit_model_seconds"]
    for limit in BUCKETS_S:
        below = sum(ms / 1e3 <= limit for ms in times_ms)
        assert times["evit_model_seconds_bucket", frozenset({("le", str(limit))})] == below
    assert found["evit_frames_total"]["evit_frames_total", frozenset()] == len(times_ms)
