"""How `evit export` writes what was planned, and what it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evit_cli.ui.sink import Mode, Sink

if TYPE_CHECKING:
    from evit_cli.export.bundle import BundleReport
    from evit_cli.export.bundle_plan import BundlePlan
    from evit_cli.export.engine import EngineReport
    from evit_cli.export.job import ExportJob, ExportReport
    from evit_cli.export.plan import ExportPlan


def show_plan(sink: Sink, plan: ExportPlan | BundlePlan) -> None:
    """Every choice with its reason, and the files."""
    from evit_cli.export.bundle_plan import BundlePlan, bundle_rows
    from evit_cli.export.summary import plan_rows

    rows = bundle_rows(plan) if isinstance(plan, BundlePlan) else plan_rows(plan)
    sink.json({"model": plan.info.name, "choices": rows})
    for row in rows:
        sink.line("\t".join(row.values()).rstrip())


def show(sink: Sink, report: ExportReport | EngineReport, document: dict[str, Any]) -> None:
    """The files written, and the verdict; `document` for programs."""
    from evit_cli.export.summary import verdict_line

    sink.json(document)
    for path in report.written:
        sink.line(str(path))
    good, line = verdict_line(report.verification)
    (sink.say if good else sink.warn)(line)


def render(sink: Sink, plan: ExportPlan, report: ExportReport) -> None:
    """The files, the verdict, what it took, and what is left to do."""
    from evit_cli.export.summary import board_command, layer_rows, report_document

    layers, seconds = layer_rows(report.layers), round(report.seconds, 3)
    more = {"size_bytes": report.size_bytes, "seconds": seconds, "layers": layers}
    show(sink, report, report_document(report.written, report.description, **more))
    if layers and sink.mode is not Mode.JSON:
        sink.table(tuple(layers[0]), layers, "Signal to error of each layer")
    sink.say(f"{report.size_bytes / 1e6:.2f} MB in {report.seconds:.1f} s")
    command = board_command(plan, report.description)
    if command is not None:
        sink.say(f"on the board: {command}")


def render_bundle(sink: Sink, plan: BundlePlan, report: BundleReport) -> None:
    """Where it is, how each model in it compares, and what to do next."""
    from evit_cli.export.summary import verdict_line

    sink.json({"written": [str(report.folder)], "bundle": report.manifest})
    sink.line(str(report.folder))
    for name, verification in report.verifications.items():
        good, line = verdict_line(verification)
        (sink.say if good else sink.warn)(f"{name}: {line}")
    sink.say(f"{report.size_bytes / 1e6:.2f} MB in {report.seconds:.1f} s")
    if not plan.profile.run_on_hardware_by_us:
        sink.say(f"not run on hardware by us: {plan.profile.title}")
    sink.say(f"next: {plan.next_step}")


def check_free(plan: ExportPlan | BundlePlan, *, force: bool) -> None:
    """Refuse to overwrite before a model is converted for nothing."""
    from evit_cli.export.bundle_plan import BundlePlan, check_bundle_free
    from evit_cli.export.engine import check_free as check_file_free

    if isinstance(plan, BundlePlan):
        check_bundle_free(plan.folder, force=force)
    else:
        check_file_free(plan.path, force=force)


def write(sink: Sink, plan: ExportPlan | BundlePlan, job: ExportJob) -> None:
    """Do it, and print what came of it."""
    from evit_cli.export.bundle import make_bundle
    from evit_cli.export.bundle_plan import BundlePlan
    from evit_cli.export.job import run_export
    from evit_cli.ui.progress import progress_for

    progress = progress_for(sink)
    if isinstance(plan, BundlePlan):
        render_bundle(sink, plan, make_bundle(plan, job, progress=progress))
    else:
        render(sink, plan, run_export(job, progress=progress))
