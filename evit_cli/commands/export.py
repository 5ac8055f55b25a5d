"""`evit export`: a model as a verified file for a runtime or a device."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evit_cli.commands import export_options as own
from evit_cli.commands import export_output as shown
from evit_cli.commands import options
from evit_cli.errors import UsageError, require
from evit_cli.ui.sink import Sink
from evit_cli.weights.untrained import info_by_name, model_for

if TYPE_CHECKING:
    from evit_cli.export.bundle_plan import BundlePlan
    from evit_cli.export.images import ImageSet
    from evit_cli.export.plan import ExportPlan, ExportRequest
    from evit_cli.types import ModelInfo

_IMAGES = 8
_EXAMPLES = options.examples(
    "evit export --model seg-b0-cityscapes --device orin --size 512x1024",
    "evit export --model seg-b0-cityscapes --target tflite --precision int8 --calib frames/",
    "evit export --weights runs/mine/best.safetensors --device snapdragon --dry-run",
    "evit export --model seg-b0-street --device nano --bundle nano/",
)


def export(
    model: options.Model = None,
    weights: options.Weights = None,
    random: own.Random = False,
    target: own.Target = None,
    device: own.Device = None,
    precision: options.PrecisionName = None,
    size: own.InputSize = None,
    max_size: own.MaxSize = None,
    batch: own.Batch = 1,
    layout: own.Layout = None,
    opset: own.Opset = None,
    calib: own.Calibration = None,
    islands: own.Islands = None,
    explain: own.Explain = False,
    images: own.Images = None,
    dataset: own.DatasetName = None,
    data: own.DataFolder = None,
    max_images: options.MaxImages = None,
    verify: own.Verify = True,
    dry_run: own.DryRun = False,
    out: options.Out = None,
    bundle: own.Bundle = None,
    force: options.Force = False,
    offline: options.Offline = False,
    threads: options.Threads = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model as one file for a runtime or a device, and compare it with its source."""
    sink = Sink(json_output=json_output, quiet=quiet)
    from evit_cli.export.images import load_calibration, load_images
    from evit_cli.runtime.open import parse_backend, parse_precision

    compared = load_images(images, limit=max_images or _IMAGES) if verify else None
    if model and Path(model).suffix == ".onnx":
        if bundle is not None:
            raise UsageError("a bundle is made from weights", hint="name the model or --weights")
        if target not in (None, "tensorrt"):
            raise UsageError(
                "of an .onnx file only an engine can be made", hint="--target tensorrt"
            )
        _build_engine(sink, Path(model), compared, device=device, out=out, force=force)
        return
    from evit_cli.export.plan import ExportPlan, ExportRequest

    request = ExportRequest(
        target=parse_backend(target),
        device=device,
        precision=parse_precision(precision),
        size_hw=options.parse_size(size),
        largest_hw=options.parse_size(max_size),
        batch=batch,
        opset=opset,
        layout=layout,
        out=out,
    )

    planned = partial(_planned, request, bundle=bundle, calibrated=calib is not None)
    if dry_run and weights is None and (known := info_by_name(model or "")):
        shown.show_plan(sink, planned(known))
        return
    require("torch", extra="export", why="exporting a model")
    from evit_cli.export.job import ExportJob
    from evit_cli.export.labels import open_labels
    from evit_cli.ui.download import download_progress

    fetch = download_progress(sink)
    module, info = model_for(model, weights, random=random, offline=offline, progress=fetch)
    plan = planned(info)
    if dry_run:
        shown.show_plan(sink, plan)
        return
    shown.check_free(plan, force=force)
    job = ExportJob(
        plan if isinstance(plan, ExportPlan) else plan.models[0].plan,
        module,
        calibration=load_calibration(calib),
        images=compared,
        labels=open_labels(info, dataset, data, max_images=max_images),
        islands=tuple(options.split_list(islands)),
        explain=explain,
        force=force,
        threads=threads,
        notice=sink.say,
    )
    shown.write(sink, plan, job)


def _planned(
    request: ExportRequest, info: ModelInfo, *, bundle: Path | None, calibrated: bool
) -> ExportPlan | BundlePlan:
    from evit_cli.export.bundle_plan import plan_bundle
    from evit_cli.export.plan import make_plan

    if bundle is None:
        return make_plan(request, info)
    return plan_bundle(request, info, bundle, calibrated=calibrated)


def _build_engine(
    sink: Sink,
    onnx: Path,
    images: ImageSet | None,
    *,
    device: str | None,
    out: Path | None,
    force: bool,
) -> None:
    from evit_cli.export.engine import build_from_onnx, check_free, engine_path
    from evit_cli.export.summary import report_document
    from evit_cli.ui.progress import progress_for

    check_free(engine_path(onnx, out), force=force)
    report = build_from_onnx(
        onnx,
        engine_path(onnx, out),
        device=device,
        images=images,
        notice=sink.say,
        progress=progress_for(sink),
    )
    shown.show(sink, report, report_document(report.written, report.description))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", epilog=_EXAMPLES)(export)
