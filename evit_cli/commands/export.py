"""`evit export`: a model as a verified file for a runtime or a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_cli.commands import options
from evit_cli.errors import UsageError
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.export.job import ExportReport
    from evit_cli.export.plan import ExportPlan

_IMAGES = 8
_CALIBRATION_IMAGES = 64
_EXAMPLES = options.examples(
    "evit export --model seg-b0-cityscapes --device orin --size 512x1024",
    "evit export --model seg-b0-cityscapes --target tflite --precision int8 --calib frames/",
    "evit export --weights runs/mine/best.safetensors --device snapdragon --dry-run",
)


def export(
    model: options.Model = None,
    weights: options.Weights = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME", help="onnx, tflite, openvino or tensorrt."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="PROFILE", help="A name from `evit devices ls`, a file, or auto."
        ),
    ] = None,
    precision: options.PrecisionName = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Input size, multiples of 32.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="HxW", help="Take any size from --size to this."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=256, help="Images per run.")] = 1,
    layout: Annotated[
        str | None, typer.Option("--layout", metavar="NHWC|NCHW", help="Of the input.")
    ] = None,
    opset: Annotated[int | None, typer.Option("--opset", help="Of the ONNX file.")] = None,
    calib: Annotated[
        Path | None, typer.Option("--calib", metavar="DIR", help="Real images for int8 ranges.")
    ] = None,
    islands: Annotated[
        str | None,
        typer.Option("--islands", metavar="NAMES", help="Layers to keep in float in int8."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the error of each layer of an int8 model.")
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Compare on these; else on evit's own."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Compare mean IoU on this set.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Its folder.")] = None,
    max_images: options.MaxImages = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare the artifact with its source.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    out: options.Out = None,
    force: options.Force = False,
    offline: options.Offline = False,
    threads: options.Threads = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model as one file for a runtime or a device, and compare it with its source."""
    sink = Sink(json_output=json_output, quiet=quiet)
    from evit_cli.export.images import load_images
    from evit_cli.export.job import ExportJob, check_free, run_export
    from evit_cli.export.labels import open_labels
    from evit_cli.export.plan import ExportRequest, make_plan
    from evit_cli.runtime.open import parse_backend, parse_precision
    from evit_cli.ui.download import download_progress
    from evit_cli.ui.progress import progress_for
    from evit_cli.weights.load import load_model

    if (dataset is None) != (data is None):
        raise UsageError("--dataset and --data go together")
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
    loaded = load_model(model, weights=weights, offline=offline, progress=download_progress(sink))
    plan = make_plan(request, loaded.info)
    if dry_run:
        _show_plan(sink, plan)
        return
    check_free(plan.path, force=force)
    job = ExportJob(
        plan,
        loaded.model,
        calibration=None if calib is None else load_images(calib, limit=_CALIBRATION_IMAGES),
        images=load_images(images, limit=max_images or _IMAGES) if verify else None,
        labels=open_labels(loaded.info, dataset, data, max_images=max_images)
        if dataset and data
        else None,
        islands=tuple(options.split_list(islands)),
        explain=explain,
        force=force,
        threads=threads,
        notice=sink.say,
    )
    _render(sink, plan, run_export(job, progress=progress_for(sink)))


def _show_plan(sink: Sink, plan: ExportPlan) -> None:
    rows = [
        {"what": choice.what, "value": choice.value, "why": choice.why} for choice in plan.choices
    ]
    sink.json({"model": plan.info.name, "path": str(plan.path.absolute()), "choices": rows})
    for row in rows:
        sink.line(f"{row['what']}\t{row['value']}\t{row['why']}")
    sink.line(f"file\t{plan.path.absolute()}\t")


def _render(sink: Sink, plan: ExportPlan, report: ExportReport) -> None:
    from evit_cli.export.board import board_command
    from evit_cli.runtime.description import encode_description

    sink.json(
        {
            "written": [str(path) for path in report.written],
            "size_bytes": report.size_bytes,
            "seconds": round(report.seconds, 3),
            "description": json.loads(encode_description(report.description)),
        }
    )
    for path in report.written:
        sink.line(str(path))
    for layer in report.layers:
        sink.say(str(layer))
    found = report.verification
    if found is None:
        sink.warn("not compared with its source (--no-verify)")
    else:
        say = sink.say if found.verdict.value == "PASS" else sink.warn
        say(f"{found.verdict.value}: {found.reason}; SQNR {found.sqnr_db:.1f} dB")
        if found.mean_iou is not None:
            sink.say(f"mean IoU {found.mean_iou:.4f}, of its source {found.source_mean_iou:.4f}")
    sink.say(f"{report.size_bytes / 1e6:.2f} MB in {report.seconds:.1f} s")
    line = board_command(plan, report.description)
    if line is not None:
        sink.say(f"on the board: {line}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", epilog=_EXAMPLES)(export)
