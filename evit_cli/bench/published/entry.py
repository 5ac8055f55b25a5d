"""The form of a published result, and the rows it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evit_cli.bench.row import Kind, Point, Row, single
from evit_cli.types import Backend, ImageSize, Precision, Task
from evit_cli.weights.catalog import find_entry

NANO, ORIN, A100 = "jetson-nano", "jetson-agx-orin", "a100"
"""Names of device profiles."""

_IMAGENET = ImageSize(224, 224)


@dataclass(frozen=True)
class Line:
    """One line of a published table.

    Attributes:
        model: a catalog name, or a peer's.
        metric: the table's metric; None where it is not given.
        params: rounded as published; None where not given.
        gmacs: multiply-accumulates of one image in 1e9, rounded as published.
        nano_ms: milliseconds for one image on a Jetson Nano.
        orin_ms: milliseconds for one image on a Jetson AGX Orin.
        a100_per_s: images per second on an A100.
        a100_ms: milliseconds for one image on an A100.
        size_hw: of the input; None for the table's.
        group: lines of one number are compared with each other: ours, and peers of its accuracy.
        also: further metrics by name.
    """

    model: str
    metric: float | None = None
    params: float | None = None
    gmacs: float | None = None
    nano_ms: float | None = None
    orin_ms: float | None = None
    a100_per_s: float | None = None
    a100_ms: float | None = None
    size_hw: ImageSize | None = None
    group: int = 0
    also: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def ours(self) -> bool:
        """Whether it is an EfficientViT."""
        return find_entry(self.model) is not None or self.model.startswith("efficientvit")


@dataclass(frozen=True)
class Table:
    """A published table. Every latency is TensorRT float16 with the transfer of data included.

    Attributes:
        name: what a user types.
        source: where it stands.
        task: of its models.
        dataset: of its metric.
        metric: name of its metric.
        lines: in its order.
        size_hw: of the input, where a line does not say another.
        a100_batch: images per run behind the throughput on the A100.
        batch_known: whether that batch was published; if not, it is the other tables'.
    """

    name: str
    source: str
    task: Task
    dataset: str
    metric: str
    lines: tuple[Line, ...]
    size_hw: ImageSize = _IMAGENET
    a100_batch: int = 1
    batch_known: bool = True

    def size_of(self, line: Line) -> ImageSize:
        """The input size of a line."""
        return line.size_hw or self.size_hw

    def latencies_ms(self, line: Line) -> dict[str, float]:
        """Milliseconds per image by device profile."""
        found = {NANO: line.nano_ms, ORIN: line.orin_ms, A100: line.a100_ms}
        if line.a100_per_s is not None:
            found[A100] = 1e3 / line.a100_per_s
        return {device: ms for device, ms in found.items() if ms is not None}

    def rows(self) -> Iterator[Row]:
        """A row per line and device; for a line without latency one row without a device."""
        for line in self.lines:
            for device, ms in self.latencies_ms(line).items() or (("", None),):
                batch = self.a100_batch if device == A100 and line.a100_per_s else 1
                yield self._row(line, device, batch, None if ms is None else ms * batch)

    def _row(self, line: Line, device: str, batch: int, ms: float | None) -> Row:
        point = Point(
            line.model,
            self.task,
            Backend.TENSORRT,
            Precision.FP16,
            self.size_of(line),
            batch=batch,
            peer=not line.ours,
        )
        return Row(
            Kind.PUBLISHED,
            point,
            host=None if ms is None else single(ms),
            device=device,
            params=None if line.params is None else round(line.params),
            macs=None if line.gmacs is None else round(line.gmacs * 1e9),
            metric=self._metric(line),
            source=self._source(line, device, batch),
        )

    def _metric(self, line: Line) -> dict[str, Any]:
        if line.metric is None:
            return {}
        return {
            "name": self.metric,
            "dataset": self.dataset,
            "value": line.metric,
            "source": "published",
            **line.also,
        }

    def _source(self, line: Line, device: str, batch: int) -> str:
        if not device:
            return f"{self.source}; no latency given"
        text = f"{self.source}; TensorRT fp16, data transfer included"
        if device != A100 or line.a100_per_s is None:
            return text
        known = f"batch {batch}" if self.batch_known else f"batch not published, {batch} assumed"
        return f"{text}; from {line.a100_per_s:g} images/s ({known})"
