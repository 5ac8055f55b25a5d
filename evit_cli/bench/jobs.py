"""From what a user asks for to the points that are timed, each with the orders for its worker."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evit_cli.bench.row import Point
from evit_cli.bench.source import RANDOM
from evit_cli.config.device import detect_profile, load_profile
from evit_cli.errors import EvitError, UsageError
from evit_cli.runtime.description import Description, read_description
from evit_cli.runtime.open import backend_of
from evit_cli.runtime.torch_forms import EAGER
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess
from evit_cli.weights.embedded import EMBEDDED
from evit_cli.weights.untrained import info_by_name

_RUNTIMES = {
    Backend.OPENVINO: ("openvino", "torch"),
    Backend.TFLITE: ("ai_edge_litert", "litert_torch"),
    Backend.ONNX: ("onnxruntime", "torch"),
    Backend.TENSORRT: ("tensorrt", "torch"),
    Backend.TORCH: ("torch",),
}
"""What must be installed to make a backend's artifact and run it."""


@dataclass(frozen=True)
class SweepRequest:
    """What shall be measured: every combination of these.

    Attributes:
        models: names, artifacts or weights files.
        weights: weights for the one named model.
        backends: empty for the best that is installed.
        precisions: empty for what the artifact has, else fp32.
        sizes: empty for the size a model was measured at by its authors.
        batches: images per run.
        threads: CPU threads, None for the runtime's choice.
        forms: how torch runs it.
        against: peers and other models to compare with.
        random: take random weights; for speed alone.
        offline: make no network request.
        device: a profile whose export rules artifacts follow, "" for none.
    """

    models: tuple[str, ...]
    weights: Path | None = None
    backends: tuple[Backend, ...] = ()
    precisions: tuple[Precision, ...] = ()
    sizes: tuple[ImageSize, ...] = ()
    batches: tuple[int, ...] = (1,)
    threads: tuple[int | None, ...] = (None,)
    forms: tuple[str, ...] = (EAGER,)
    against: tuple[str, ...] = ()
    random: bool = False
    offline: bool = False
    device: str = ""


@dataclass(frozen=True)
class Job:
    """One point, how its worker gets at it, and what it is compared with in the same run."""

    point: Point
    order: Mapping[str, Any]
    peers: tuple[Job, ...] = field(default=())

    @property
    def needs_artifact(self) -> bool:
        """Whether an artifact must be made first."""
        return self.point.backend is not Backend.TORCH and not self.order.get("artifact")


def plan_jobs(request: SweepRequest) -> list[Job]:
    """Every combination that can be measured, in a fixed order.

    Raises:
        UsageError: there is none, or an artifact was asked to be something else.
        EvitError: a model is not known or a file not readable.
    """
    jobs: list[Job] = []
    for model in request.models:
        jobs += _jobs_of(model, request)
    if not jobs:
        raise UsageError(
            "nothing can be measured: torch has no int8 and artifacts no bf16",
            hint="name another --backend or --precision",
        )
    return list({job.point: job for job in jobs}.values())


def _jobs_of(model: str, request: SweepRequest) -> Iterator[Job]:
    kind = backend_of(model)
    if kind is not None:
        yield from _artifact_jobs(Path(model), kind, request)
        return
    if is_peer(model):
        yield from _peer_jobs(model, request)
        return
    info = _info(model, request)
    for backend in request.backends or (default_backend(model),):
        for precision in request.precisions or (Precision.FP32,):
            if precision is (Precision.INT8 if backend is Backend.TORCH else Precision.BF16):
                continue
            for size, batch, threads, form in _grid(request, info, backend):
                point = Point(
                    info.name,
                    info.task,
                    backend,
                    precision,
                    size,
                    batch=batch,
                    threads=threads,
                    form=form,
                    weights=RANDOM if request.random else info.sha256,
                )
                order = _order(point, request) | {"model": model, "random": request.random}
                order |= {"artifact": _embedded_file(model, point, request)}
                yield Job(point, order, _peers(point, request))


def _peer_jobs(name: str, request: SweepRequest) -> Iterator[Job]:
    """A model of others, measured for itself."""
    from evit_cli.bench.peers.build import check_library
    from evit_cli.bench.peers.catalog import find_peer

    peer = find_peer(name)
    check_library(peer)
    info = ModelInfo(peer.name, peer.task, Preprocess(peer.size_hw))
    for backend in request.backends or (default_backend(name),):
        for precision in request.precisions or (Precision.FP32,):
            for size, batch, threads, form in _grid(request, info, backend):
                point = Point(name, peer.task, backend, precision, size, batch, threads, form)
                point = replace(point, peer=True, weights=RANDOM)
                yield Job(point, _order(point, request) | {"peer": name}, _peers(point, request))


def is_peer(name: str) -> bool:
    """Whether a name is that of a model of others."""
    from evit_cli.bench.peers.catalog import PEERS

    return name in PEERS


def _grid(
    request: SweepRequest, info: ModelInfo, backend: Backend
) -> Iterable[tuple[ImageSize, int, int | None, str]]:
    sizes, stride = request.sizes or (info.preprocess.size_hw,), info.preprocess.stride
    for size in sizes:
        if any(side % stride for side in size):
            raise UsageError(f"{size} is no multiple of {stride}, which {info.name} wants")
    forms = request.forms if backend is Backend.TORCH else ("",)
    return itertools.product(sizes, request.batches, request.threads, forms)


def _artifact_jobs(path: Path, kind: Backend, request: SweepRequest) -> Iterator[Job]:
    from evit_cli.weights.checkpoint import sha256_of

    own = read_description(path)
    asked = (
        (request.backends, kind, "--backend"),
        (request.precisions, own.precision, "--precision"),
    )
    for wanted, value, option in asked:
        if wanted and value not in wanted:
            raise UsageError(f"'{path}' is {value.value}", hint=f"leave {option} away")
    for size in _artifact_sizes(path, own, request):
        for threads in request.threads:
            point = Point(
                own.info.name,
                own.info.task,
                kind,
                own.precision,
                size,
                batch=own.batch,
                threads=threads,
                weights=sha256_of(path),
            )
            order = _order(point, request) | {"artifact": str(path.absolute())}
            yield Job(point, order, _peers(point, request))


def _artifact_sizes(path: Path, own: Description, request: SweepRequest) -> tuple[ImageSize, ...]:
    if own.largest_hw is not None:
        return request.sizes or (own.size_hw,)
    if request.sizes and own.size_hw not in request.sizes:
        raise UsageError(f"'{path}' runs at {own.size_hw} only", hint="leave --size away")
    return (own.size_hw,)


def _order(point: Point, request: SweepRequest) -> dict[str, Any]:
    weights = None if request.weights is None else str(request.weights.absolute())
    return {
        "backend": point.backend.value,
        "precision": point.precision.value,
        "size_hw": list(point.size_hw),
        "batch": point.batch,
        "threads": point.threads,
        "form": point.form,
        "weights": weights,
        "sha256": point.weights,
        "offline": request.offline,
        "device": request.device,
    }


def _peers(point: Point, request: SweepRequest) -> tuple[Job, ...]:
    """The same point with other models in it."""
    from evit_cli.bench.peers.build import check_library
    from evit_cli.bench.peers.catalog import find_peer

    jobs = []
    for name in request.against:
        ours = None if is_peer(name) else info_by_name(name)
        if ours is None:
            check_library(find_peer(name))
        task = ours.task if ours is not None else find_peer(name).task
        if task is not point.task:
            raise UsageError(
                f"{name} is for '{task.value}', and {point.model} for '{point.task.value}'",
                hint="compare models of one task",
            )
        other = Point(
            name,
            point.task,
            point.backend,
            point.precision,
            point.size_hw,
            batch=point.batch,
            threads=point.threads,
            form=point.form,
            peer=ours is None,
            weights=RANDOM,
        )
        whose = {"model": name, "random": True} if ours is not None else {"peer": name}
        jobs.append(Job(other, _order(other, request) | {"weights": None} | whose))
    return tuple(jobs)


def _info(model: str, request: SweepRequest) -> ModelInfo:
    """What is known of a model before it is opened."""
    if request.weights is None:
        if model in EMBEDDED:
            own = read_description(EMBEDDED[model].artifact)
            return replace(own.info, preprocess=replace(own.info.preprocess, size_hw=own.size_hw))
        known = info_by_name(model)
        if known is not None:
            return known
    from evit_cli.bench.source import open_source

    order = {"model": model, "weights": request.weights, "random": request.random}
    return open_source(order | {"offline": request.offline})[1]


def _embedded_file(model: str, point: Point, request: SweepRequest) -> str | None:
    """The artifact that travels with evit, where it is what is asked for."""
    embedded = EMBEDDED.get(model)
    if embedded is None or request.weights or point.backend is not Backend.TFLITE:
        return None
    own = read_description(embedded.artifact)
    same = (own.precision, own.size_hw, own.batch) == (point.precision, point.size_hw, point.batch)
    return str(embedded.artifact) if same else None


def default_backend(model: str) -> Backend:
    """What evit would run a model with here: its own artifact, else what the machine prefers."""
    if model in EMBEDDED:
        return Backend.TFLITE
    try:
        preferred = [choice.backend for choice in detect_profile().profile.backends]
    except EvitError:
        preferred = [choice.backend for choice in load_profile("x86").backends]
    for backend in preferred:
        if all(importlib.util.find_spec(name) for name in _RUNTIMES[backend]):
            return backend
    return Backend.TORCH
