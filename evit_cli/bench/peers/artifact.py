"""A peer as an artifact that the same sessions run and the same clock times.

It is converted as anybody would: the library's model with normalisation in front, and no graph
work of ours (`benchmarks/plain_model.py` does the same with our own models). It says what it is
like every artifact, so `open_artifact` takes it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evit_cli.bench.peers.build import build_peer
from evit_cli.bench.peers.catalog import Peer, find_peer
from evit_cli.errors import EvitError, UsageError
from evit_cli.runtime.description import Description, describe_artifact, description_path
from evit_cli.types import Backend, ImageSize, ModelInfo, NoProgress, Precision, Preprocess

if TYPE_CHECKING:
    from torch import nn

    from evit_cli.export.plan import ExportPlan

_OPSET = 18
_LARGEST_BYTES = 1_950_000_000
"""An .onnx file is one protobuf and a .tflite file one flatbuffer: both end at 2 GiB."""


def write_peer_artifact(
    name: str,
    folder: Path,
    *,
    backend: Backend,
    precision: Precision,
    size_hw: ImageSize,
    batch: int = 1,
    engine: bool = True,
) -> Path:
    """Write a peer's artifact into a folder, with its description inside and beside it.

    Input `image` is uint8 RGB, (B, H, W, 3), or (B, 3, H, W) for TensorRT; the output is `logits`,
    or `upscaled` of super-resolution: whatever the peer gives (`build_peer`), channels last in a
    .tflite file. The weights are random.

    Args:
        name: of a peer.
        folder: where to; made if it is missing.
        backend: what shall run it; not torch, which needs no artifact.
        precision: fp32 or fp16.
        size_hw: of the input.
        batch: images per run.
        engine: for TensorRT: build the engine here; otherwise write the .onnx file for it.

    Returns:
        The artifact.

    Raises:
        UsageError: torch or int8 was asked for, or the peer does not take this size.
        EvitError: no well-kept library has the peer, or a converter does not take it.
        MissingDependency: a library or converter is not installed.
    """
    peer, size_hw = find_peer(name), ImageSize(*size_hw)
    _check(backend, precision)
    plan = _plan(peer, (backend, precision), size_hw, batch, folder, engine)
    _check_bytes(peer, plan)
    model = build_peer(name, size_hw=size_hw, batch=batch)
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".evit-partial-{plan.path.name}-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        made = work / plan.path.name
        _convert(_image_model(model, plan), made, plan=plan)
        describe_artifact(made, _description(plan))
        return _hand_over(made, plan.path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check(backend: Backend, precision: Precision) -> None:
    if backend is Backend.TORCH:
        raise UsageError("torch runs a peer as it is, without an artifact")
    if precision not in (Precision.FP32, Precision.FP16):
        raise UsageError(
            f"peers are converted in fp32 and fp16, not {precision.value}",
            hint="a peer has random weights: int8 ranges would mean nothing",
        )


def _check_bytes(peer: Peer, plan: ExportPlan) -> None:
    size = (peer.params or 0) * (2 if plan.typed_fp16 else 4)
    if size > _LARGEST_BYTES:
        raise EvitError(
            f"{peer.name} has {size / 1e9:.1f} GB of weights, more than one file may hold (2 GB)",
            hint="time it with --backend torch, or --backend onnx --precision fp16",
        )


def _plan(
    peer: Peer,
    kind: tuple[Backend, Precision],
    size_hw: ImageSize,
    batch: int,
    folder: Path,
    engine: bool,
) -> ExportPlan:
    """The decisions that `evit export` would make, and no form of ours."""
    from evit_cli.export.form import Form
    from evit_cli.export.plan import SUFFIXES, ExportPlan

    backend, precision = kind
    trt = backend is Backend.TENSORRT
    suffix = ".onnx" if trt and not engine else SUFFIXES[backend]
    return ExportPlan(
        info=ModelInfo(peer.name, peer.task, Preprocess(size_hw, stride=peer.stride)),
        backend=backend,
        precision=precision,
        size_hw=size_hw,
        largest_hw=None,
        batch=batch,
        opset=_OPSET,
        form=Form(channels_last=not trt, outputs_last=backend is Backend.TFLITE),
        profile=None,
        path=folder / f"{peer.name}-{size_hw}-{precision.value}{suffix}",
        engine=trt and engine,
        choices=(),
    )


def _image_model(model: nn.Module, plan: ExportPlan) -> nn.Module:
    """RGB from 0 to 255 in, as `evit_cli.export.lower.ImageModel` but left to the converter."""
    import torch
    from torch import nn

    half = plan.typed_fp16
    last, outputs_last = plan.form.channels_last, plan.form.outputs_last
    preprocess = plan.info.preprocess

    class PeerOfImages(nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.model = model.half() if half else model
            self.register_buffer("mean", torch.tensor(preprocess.mean_rgb).view(3, 1, 1))
            self.register_buffer("std", torch.tensor(preprocess.std_rgb).view(3, 1, 1))

        def forward(self, image: Any) -> Any:
            """Uint8 images -> float32 output."""
            x = image.permute(0, 3, 1, 2) if last else image
            x = (x.float() / 255 - self.mean) / self.std
            out = self.model(x.half() if half else x).float()
            return out.permute(0, 2, 3, 1) if outputs_last and out.ndim == 4 else out

    return PeerOfImages().eval().requires_grad_(False)


def _convert(model: nn.Module, path: Path, *, plan: ExportPlan) -> None:
    try:
        _write(model, path, plan=plan)
    except UsageError:
        raise
    except EvitError as error:
        if error.exit_code != EvitError.exit_code:  # a library that is not installed
            raise
        raise EvitError(
            f"{plan.info.name} cannot be converted for {plan.backend.value}: {error.message}",
            hint="time it with --backend torch, or with another --backend",
        ) from error


def _write(model: nn.Module, path: Path, *, plan: ExportPlan) -> None:
    if plan.backend is Backend.TFLITE:
        from evit_cli.export.litert import write_litert

        write_litert(model, path, plan=plan)
        return
    from evit_cli.export.onnx import write_onnx

    onnx = path.with_suffix(".onnx")
    write_onnx(model, onnx, plan=plan)
    if plan.backend is Backend.OPENVINO:
        from evit_cli.export.openvino import write_openvino

        write_openvino(onnx, path, precision=plan.precision)
        onnx.unlink()
    elif plan.engine:
        from evit_cli.export.engine_cache import EngineCache
        from evit_cli.export.tensorrt import EngineRequest, build_engine

        request = EngineRequest(_description(plan), None, EngineCache(), lambda _: None)
        build_engine(onnx, path, request=request, progress=NoProgress())
        onnx.unlink()


def _description(plan: ExportPlan) -> Description:
    return Description(
        plan.info, plan.size_hw, plan.precision, batch=plan.batch, layout=plan.layout, dtype="uint8"
    )


def _hand_over(made: Path, goal: Path) -> Path:
    """Rename what is finished into place, the artifact last: it is whole when it appears."""
    if goal.suffix == ".xml":
        os.replace(made.with_suffix(".bin"), goal.with_suffix(".bin"))
    os.replace(description_path(made), description_path(goal))
    os.replace(made, goal)
    return goal
