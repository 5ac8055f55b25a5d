"""The state of a run in Prometheus' text exposition format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from evit_cli.media.stream.status import BUCKETS_S, Reading, Status

KIND = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, dict[str, str], float]


def exposition(status: Status, *, watching: int, encoded: int) -> str:
    """Everything that is counted.

    Args:
        status: of the run.
        watching: clients at the moment.
        encoded: frames that became JPEGs.
    """
    reading, traffic = status.read(), status.traffic
    plain = (
        ("evit_frames_total", "counter", "Frames processed.", reading.frames),
        ("evit_frames_per_second", "gauge", "Over the last 100 frames.", reading.fps),
        (
            "evit_source_dropped_frames_total",
            "counter",
            "Frames of a live source that were overtaken by newer ones.",
            reading.source_dropped,
        ),
        ("evit_stalled", "gauge", "1 while no frames come.", reading.state == "stalled"),
        ("evit_start_time_seconds", "gauge", "Unix time of the start.", status.started_at),
        ("evit_uptime_seconds", "gauge", "Time since the start.", reading.uptime_s),
        ("evit_stream_clients", "gauge", "Clients that watch.", watching),
        ("evit_stream_clients_total", "counter", "Clients that ever watched.", traffic.clients),
        ("evit_stream_encoded_frames_total", "counter", "Frames made into JPEGs.", encoded),
        (
            "evit_stream_sent_frames_total",
            "counter",
            "Frames sent, summed over clients.",
            traffic.sent,
        ),
        (
            "evit_stream_dropped_frames_total",
            "counter",
            "Frames that clients were too slow for, summed over clients.",
            traffic.dropped,
        ),
    )
    lines: list[str] = []
    if status.facts:
        lines += family("evit_info", "gauge", "What runs.", [("", status.facts, 1)])
    for name, kind, said, value in plain:
        lines += family(name, kind, said, [("", {}, value)])
    refused = [("", {"status": str(code)}, n) for code, n in sorted(traffic.refused.items())]
    if refused:
        lines += family(
            "evit_stream_refused_requests_total", "counter", "Requests not answered.", refused
        )
    lines += family(
        "evit_model_seconds", "histogram", "Time of the model per frame.", histogram(reading)
    )
    return "\n".join(lines) + "\n"


def histogram(reading: Reading) -> list[Sample]:
    """The samples of the model's times: cumulative buckets, sum and count."""
    limits = [*map(_number, BUCKETS_S), "+Inf"]
    upto = accumulate(reading.buckets)
    return [
        *(("_bucket", {"le": le}, n) for le, n in zip(limits, upto, strict=True)),
        ("_sum", {}, reading.model_seconds),
        ("_count", {}, reading.frames),
    ]


def family(name: str, kind: str, said: str, samples: Iterable[Sample]) -> Iterator[str]:
    """The lines of one metric."""
    yield f"# HELP {name} {said}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{suffix}{'{' + pairs + '}' if pairs else ''} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(int(value))
