"""Artifacts that a benchmark needs and nobody has made yet: exported once, kept in a cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evit_cli import __version__
from evit_cli.types import Backend, ImageSize, Precision

_WHAT_DECIDES = ("model", "peer", "weights", "sha256", "random", "backend", "precision", "device")


def cache_folder() -> Path:
    """EVIT_CACHE_DIR/bench, or evit/bench in XDG_CACHE_HOME, or in ~/.cache."""
    own = os.environ.get("EVIT_CACHE_DIR")
    if own:
        return Path(own).expanduser() / "bench"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "evit" / "bench"


def make_artifact(order: Mapping[str, Any]) -> Path:
    """The artifact for an order, from the cache if it was made before.

    int8 ranges come from the photographs that travel with evit: right for speed, not for accuracy.

    Args:
        order: as of `evit_cli.bench.subject.open_subject`, with "backend", "device" and "sha256"
            (of given weights).

    Raises:
        EvitError: it cannot be made.
        MissingDependency: a converter is not installed.
    """
    size, batch = ImageSize(*order["size_hw"]), int(order["batch"])
    decided = [str(order.get(key)) for key in _WHAT_DECIDES] + [str(size), str(batch), __version__]
    key = hashlib.sha256("\n".join(decided).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{order.get('peer') or order['model'] or 'weights'}-{key}"
    kept = _finished(folder)
    if kept is not None:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    backend, precision = Backend(order["backend"]), Precision(order["precision"])
    if order.get("peer"):
        from evit_cli.bench.peers.artifact import write_peer_artifact

        return write_peer_artifact(
            order["peer"], folder, backend=backend, precision=precision, size_hw=size, batch=batch
        )
    return _export(order, folder)


def _finished(folder: Path) -> Path | None:
    suffixes = (".onnx", ".tflite", ".xml", ".engine")
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix in suffixes and path.with_name(path.name + ".json").is_file():
            return path
    return None


def _export(order: Mapping[str, Any], folder: Path) -> Path:
    from evit_cli.bench.source import open_source
    from evit_cli.export.images import load_images
    from evit_cli.export.job import ExportJob, run_export
    from evit_cli.export.plan import ExportRequest, make_plan

    model, info = open_source(order)
    precision = Precision(order["precision"])
    request = ExportRequest(
        target=Backend(order["backend"]),
        device=order.get("device") or None,
        precision=precision,
        size_hw=ImageSize(*order["size_hw"]),
        batch=int(order["batch"]),
        out=folder,
    )
    calibration = load_images(None, limit=32) if precision is Precision.INT8 else None
    job = ExportJob(make_plan(request, info), model, calibration=calibration, force=True)
    return run_export(job).written[0]
