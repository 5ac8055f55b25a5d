"""What trtexec says, release by release."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench.remote.trtexec_output import (
    TrtexecOutput,
    parse_times,
    parse_trtexec,
    version_of,
)
from tests.helpers.trtexec_texts import (
    COMPUTE,
    HOST,
    RELEASES,
    STAMP,
    Release,
    Said,
    numbers,
    times_json,
)

MS = st.floats(1e-4, 1e4)


@pytest.mark.parametrize("stamp", [STAMP, ""])
@pytest.mark.parametrize("version", RELEASES)
def test_every_release_is_read(version: str, stamp: str) -> None:
    said = parse_trtexec(Said(version, stamp).text())
    assert said.passed is True and said.error == ""
    assert (said.version, said.gpu, said.throughput_qps) == (version, "Orin", 199.733)
    assert said.compute is not None and said.host is not None
    for latency, truth in ((said.compute, COMPUTE), (said.host, HOST)):
        assert latency.n == 601
        assert (latency.min, latency.p50, latency.mean, latency.p99) == pytest.approx(
            (truth["min"], truth["median"], truth["mean"], truth["99"]), rel=1e-5
        )


@pytest.mark.parametrize("version", RELEASES)
def test_what_a_release_does_not_print_is_said(version: str) -> None:
    said = parse_trtexec(Said(version).text())
    lacking = any("p90" in words for words in said.taints)
    assert lacking == ("90" not in RELEASES[version].percentiles)
    assert any("spread" in words for words in said.taints)
    assert said.host is not None
    assert said.host.p90 == pytest.approx(HOST["99" if lacking else "90"])


def test_an_unstable_gpu_taints() -> None:
    said = parse_trtexec(Said(unstable="5.55763").text())
    assert any("unstable" in words and "5.55763 %" in words for words in said.taints)
    assert any(words.startswith("GPU compute time is unstable") for words in said.notes)
    assert not any("unstable" in words for words in parse_trtexec(Said().text()).taints)


def test_a_failed_call_keeps_the_error_that_tells_most() -> None:
    errors = (
        "Error[1]: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
        "[TRT] Error[4]: [pluginV2Runner.cpp::load::303] Serialization assertion failed.",
        "Engine could not be created from network",
        "Building engine failed",
        "Failed to create engine from model or file.",
        "Engine set up failed",
    )
    said = parse_trtexec(Said(passed=False, errors=errors).text())
    assert said.passed is False and said.compute is None and said.host is None
    assert said.error.startswith("[pluginV2Runner.cpp") and said.error.endswith("failed.")
    only = parse_trtexec(Said(passed=False, errors=errors[-1:]).text())
    assert only.error == "Engine set up failed"
    first = parse_trtexec(Said(passed=False, errors=errors[:1]).text())
    assert first.error.startswith("[defaultAllocator.cpp")


def test_a_call_that_was_killed_has_no_verdict() -> None:
    text = Said().text()
    cut = parse_trtexec(text[: text.index("H2D Latency")])
    assert cut.passed is None and cut.compute is None and cut.host is not None


def test_a_build_alone_has_no_times() -> None:
    text = "\n".join(line for line in Said().text().splitlines() if " ms" not in line)
    said = parse_trtexec(text)
    assert said.passed is True and said.host is None


@pytest.mark.parametrize(
    ("number", "version"),
    [("8201", "8.2.1"), ("8601", "8.6.1"), ("100300", "10.3.0"), ("101303", "10.13.3"),
     ("110000", "11.0.0"), ("", ""), ("82", ""), ("x8201", "")],
)  # fmt: skip
def test_versions(number: str, version: str) -> None:
    assert version_of(number) == version


@given(st.text(max_size=400))
def test_no_text_is_too_garbled(text: str) -> None:
    assert isinstance(parse_trtexec(text), TrtexecOutput)


@given(st.integers(0, 40), st.text(max_size=30))
def test_lines_of_others_in_between_change_nothing(at: int, noise: str) -> None:
    lines = Said().text().splitlines()
    noise = " ".join(noise.split()) + " from a library"
    at = min(at, len(lines))
    mixed = "\n".join([*lines[:at], noise, *lines[at:]])
    assert parse_trtexec(mixed) == parse_trtexec(Said().text())


@given(st.lists(MS, min_size=7, max_size=7))
def test_numbers_come_back(values: list[float]) -> None:
    low, middle, p90, p95, p99, high, mean = (*sorted(values[:6]), values[6])
    truth = {"min": low, "median": middle, "90": p90, "95": p95, "99": p99, "max": high}
    text = numbers(truth | {"mean": mean}, Release("100300"))
    host = parse_trtexec(f"{STAMP}[I] Latency: {text}").host
    assert host is not None
    read = (host.min, host.p50, host.p90, host.p95, host.p99, host.mean)
    assert read == pytest.approx((low, middle, p90, p95, p99, mean), rel=1e-5)


@given(st.lists(MS, min_size=1, max_size=50), st.booleans())
def test_exported_times_are_exact(times: list[float], old: bool) -> None:
    compute, host = parse_times(times_json(times, 0.5, old=old))
    assert compute.n == host.n == len(times)
    assert compute.min == min(times) and compute.mean == pytest.approx(sum(times) / len(times))
    assert host.p50 == pytest.approx(compute.p50 + 1.0)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[1, 2]", "[{}]", '[{"computeMs": 1}]', "cat: times.json: No such file",
     '[{"computeMs": "x", "latencyMs": 1}]', '[{"computeMs": NaN, "latencyMs": 1}]',
     '[{"computeMs": -1, "latencyMs": 1}]', '[{"computeMs": 1, "latencyMs": 1}'],
)  # fmt: skip
def test_what_is_no_list_of_times_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"times|runs|numbers|float"):
        parse_times(text)


NAMES = st.sampled_from(["computeMs", "latencyMs", "x"])


@given(
    st.recursive(
        st.none() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    )
)
def test_any_json_is_read_or_refused(document: object) -> None:
    try:
        compute, _ = parse_times(json.dumps(document))
    except ValueError:
        return
    assert math.isfinite(compute.mean)
