"""One line of a benchmark: what was timed, how, and what came out. Rows are kept as JSON lines.

A row says what kind of number it is, and nothing may print one kind like another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import Any

from evit_cli import __version__
from evit_cli.types import Backend, ImageSize, Precision, Task

FORMAT = 1


class Kind(str, Enum):
    """How a row's latency was obtained."""

    MEASURED = "measured"
    PUBLISHED = "published"
    ESTIMATE = "estimate"
    FAILED = "failed"
    """It could not be measured; `Row.error` says why."""


@dataclass(frozen=True)
class Point:
    """What is timed: everything that tells one row from another on one machine.

    Attributes:
        model: a catalog name, the name of a peer ("segformer-b1"), or the name inside an artifact.
        task: what it does.
        backend: what runs it.
        precision: of its arithmetic.
        size_hw: of the input.
        batch: images per run.
        threads: CPU threads, None for the runtime's choice.
        form: how torch runs it ("eager", "compiled", "cuda-graph"), or an accelerator of a phone
            ("cpu", "gpu", "npu"); "" where there is one way only.
        peer: whether it is a model of others, with random weights.
        weights: sha256 of the weights or artifact, "random" where speed alone is meant.
    """

    model: str
    task: Task
    backend: Backend
    precision: Precision
    size_hw: ImageSize
    batch: int = 1
    threads: int | None = None
    form: str = ""
    peer: bool = False
    weights: str = ""

    @property
    def label(self) -> str:
        """Short words for a table: "seg-b0-cityscapes tflite fp32 512x1024"."""
        parts = [self.model, self.backend.value, self.precision.value, str(self.size_hw)]
        parts += [f"x{self.batch}"] if self.batch > 1 else []
        parts += [self.form] if self.form else []
        return " ".join(parts)


@dataclass(frozen=True)
class Latency:
    """Milliseconds per run (of `batch` images) over all runs; no outlier is dropped.

    Attributes:
        n: number of runs.
        min: the fastest.
        p50: the median; p90, p95, p99 the further percentiles, linearly interpolated.
        p90: see p50.
        p95: see p50.
        p99: see p50.
        mean: of all runs.
        iqr_ratio: the interquartile range divided by the median.
    """

    n: int
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    iqr_ratio: float


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        kind: how the latency was obtained.
        point: what was timed.
        compute: the invocation alone; None where it was not obtained.
        host: with the transfer of input and output: the paper's number. Published rows and
            estimates have this one, with n = 0 and one value in every field.
        e2e: from the encoded image to the drawn or ranked result.
        device: name of the device profile it holds for, "" where none fits.
        params: of the model, None where unknown.
        macs: multiply-accumulates of one image.
        file_bytes: of the artifact.
        peak_rss_bytes: largest resident memory of the process that ran it alone.
        peak_gpu_bytes: largest allocated memory on the GPU.
        energy_j: per image, by `energy_counter`.
        energy_counter: "rapl", "ina", "nvml", or "" where none is readable.
        metric: the model's published or measured accuracy, e.g. {"name": "mIoU",
            "dataset": "Cityscapes val", "value": 75.653, "source": "published"}.
        tainted: why the numbers may be off, a sentence each; empty for a clean row.
        ratio: against another model in the same run, e.g. {"to": "seg-b1-cityscapes",
            "value": 5.9, "low": 5.7, "high": 6.2}: this model's time divided by the other's.
        estimate: of an estimate: {"method": ..., "median_error": 0.08, "rows": 17}.
        error: of a failed row: {"reason": "out of memory", "detail": ...}.
        source: of a published row: where it was published.
        environment: the machine and its state (`evit_cli.bench.machine.environment`).
        host_name: the board it was measured on over ssh or adb, "" for this machine.
        evit: version that wrote it.
        time: when, ISO 8601 in UTC.
    """

    kind: Kind
    point: Point
    compute: Latency | None = None
    host: Latency | None = None
    e2e: Latency | None = None
    device: str = ""
    params: int | None = None
    macs: int | None = None
    file_bytes: int | None = None
    peak_rss_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    energy_j: float | None = None
    energy_counter: str = ""
    metric: Mapping[str, Any] = field(default_factory=dict)
    tainted: tuple[str, ...] = ()
    ratio: Mapping[str, Any] = field(default_factory=dict)
    estimate: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    host_name: str = ""
    evit: str = __version__
    time: str = ""

    @property
    def latency_ms(self) -> float | None:
        """The median with transfer, per run; without it where that is all there is."""
        latency = self.host or self.compute
        return None if latency is None else latency.p50

    @property
    def images_per_s(self) -> float | None:
        """Throughput by `latency_ms`."""
        ms = self.latency_ms
        return None if not ms else 1e3 * self.point.batch / ms

    @property
    def key(self) -> str:
        """What a row is a row of: equal where measuring again would repeat it."""
        machine = {k: self.environment.get(k) for k in ("cpu", "gpu", "versions", "power_mode")}
        what = [self.kind.value, self.host_name, self.device, asdict(self.point), machine]
        text = json.dumps(what, default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def single(ms: float) -> Latency:
    """A published or estimated latency: one number, of no run of ours."""
    return Latency(0, ms, ms, ms, ms, ms, ms, 0.0)


def encode_row(row: Row) -> str:
    """One line of JSON that `decode_row` reads back; empty fields are left out."""
    document: dict[str, Any] = {"format": FORMAT}
    for item in fields(row):
        value = getattr(row, item.name)
        if value is None or value == "" or value == () or value == {}:
            continue
        document[item.name] = asdict(value) if isinstance(value, Point | Latency) else value
    document["images_per_s"] = row.images_per_s  # for readers without this package
    return json.dumps(document, ensure_ascii=False)


def decode_row(line: str) -> Row:
    """Read one line of JSON.

    Raises:
        ValueError: it is no row of this format; the message says what is wrong.
    """
    try:
        raw = dict(json.loads(line))
        if raw.pop("format") != FORMAT:
            raise ValueError(f"it has another format than {FORMAT}")
        raw.pop("images_per_s", None)
        raw["kind"], raw["point"] = Kind(raw["kind"]), _point(raw["point"])
        for name in ("compute", "host", "e2e"):
            if raw.get(name) is not None:
                raw[name] = Latency(**raw[name])
        raw["tainted"] = tuple(raw.get("tainted", ()))
        return Row(**raw)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"it is not a benchmark row: {error!r}") from error


def _point(raw: Mapping[str, Any]) -> Point:
    point = Point(**raw)
    return replace(
        point,
        task=Task(point.task),
        backend=Backend(point.backend),
        precision=Precision(point.precision),
        size_hw=ImageSize(*point.size_hw),
    )
