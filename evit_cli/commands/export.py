"""`evit export`: a model as a verified file for a runtime or a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evit_cli.commands import export_options as own
from evit_cli.commands import options
from evit_cli.errors import UsageError, require
from evit_cli.ui.sink import Mode, Sink
from evit_cli.weights.untrained import info_by_name, model_for

if TYPE_CHECKING:
    from evit_cli.export.engine import EngineReport
    from evit_cli.export.images import ImageSet
    from evit_cli.export.job import ExportReport
    from evit_cli.export.plan import ExportPlan

_IMAGES = 8
_EXAMPLES = options.examples(
    "evit export --model seg-b0-cityscapes --device orin --size 512x1024",
    "evit export --model seg-b0-cityscapes --target tflite --precision int8 --calib frames/",
    "evit export --weights runs/mine/best.safetensors --device snapdragon --dry-run",
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
    force: options.Force = False,
    offline: options.Offline = False,
    threads: options.Threads = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model as one file for a runtime or a device, and compare it with its source."""
    sink = Sink(json_output=json_output, quiet=quiet)
    from evit_cli.export.engine import check_free, engine_path
    from evit_cli.export.images import load_calibration, load_images
    from evit_cli.runtime.open import parse_backend, parse_precision

    compared = load_images(images, limit=max_images or _IMAGES) if verify else None
    if model and Path(model).suffix == ".onnx":
        if target not in (None, "tensorrt"):
            raise UsageError(
                "of an .onnx file only an engine can be made", hint="--target tensorrt"
            )
        check_free(engine_path(Path(model), out), force=force)
        _build_engine(sink, Path(model), compared, device, out)
        return
    from evit_cli.export.plan import ExportRequest, make_plan

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
    if dry_run and weights is None and (known := info_by_name(model or "")):
        _show_plan(sink, make_plan(request, known))
        return
    require("torch", extra="export", why="exporting a model")
    from evit_cli.export.job import ExportJob, run_export
    from evit_cli.export.labels import open_labels
    from evit_cli.ui.download import download_progress
    from evit_cli.ui.progress import progress_for

    fetch = download_progress(sink)
    module, info = model_for(model, weights, random=random, offline=offline, progress=fetch)
    plan = make_plan(request, info)
    if dry_run:
        _show_plan(sink, plan)
        return
    check_free(plan.path, force=force)
    job = ExportJob(
        plan,
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
    _render(sink, plan, run_export(job, progress=progress_for(sink)))


def _build_engine(
    sink: Sink, onnx: Path, images: ImageSet | None, device: str | None, out: Path | None
) -> None:
    from evit_cli.export.engine import build_from_onnx, engine_path
    from evit_cli.export.summary import report_document
    from evit_cli.ui.progress import progress_for

    report = build_from_onnx(
        onnx,
        engine_path(onnx, out),
        device=device,
        images=images,
        notice=sink.say,
        progress=progress_for(sink),
    )
    _show(sink, report, report_document(report.written, report.description))


def _show_plan(sink: Sink, plan: ExportPlan) -> None:
    from evit_cli.export.summary import plan_rows

    rows = plan_rows(plan)
    sink.json({"model": plan.info.name, "choices": rows})
    for row in rows:
        sink.line("\t".join(row.values()).rstrip())


def _show(sink: Sink, report: ExportReport | EngineReport, document: dict[str, Any]) -> None:
    from evit_cli.export.summary import verdict_line

    sink.json(document)
    for path in report.written:
        sink.line(str(path))
    good, line = verdict_line(report.verification)
    (sink.say if good else sink.warn)(line)


def _render(sink: Sink, plan: ExportPlan, report: ExportReport) -> None:
    from evit_cli.export.summary import board_command, layer_rows, report_document

    layers, seconds = layer_rows(report.layers), round(report.seconds, 3)
    more = {"size_bytes": report.size_bytes, "seconds": seconds, "layers": layers}
    _show(sink, report, report_document(report.written, report.description, **more))
    if layers and sink.mode is not Mode.JSON:
        sink.table(tuple(layers[0]), layers, "Signal to error of each layer")
    sink.say(f"{report.size_bytes / 1e6:.2f} MB in {report.seconds:.1f} s")
    command = board_command(plan, report.description)
    if command is not None:
        sink.say(f"on the board: {command}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", epilog=_EXAMPLES)(export)
