"""A bundle from its plan to the finished folder: each model exported and compared, then the rest.

Everything happens in a hidden folder beside it, which is renamed when all is there.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evit_cli.errors import EXIT_VERIFICATION, EvitError
from evit_cli.export.bundle_board import write_board_files
from evit_cli.export.bundle_files import write_classes, write_manifest
from evit_cli.export.bundle_phone import write_phone_files
from evit_cli.export.bundle_plan import BundleKind, BundleModel, BundlePlan, check_bundle_free
from evit_cli.export.job import ExportJob, ExportReport, run_export
from evit_cli.export.verify import Verification
from evit_cli.export.workshop import workshop
from evit_cli.runtime.description import description_path
from evit_cli.types import Precision, Progress


@dataclass(frozen=True)
class BundleReport:
    """What was made.

    Attributes:
        folder: absolute.
        manifest: what stands in its bundle.json.
        size_bytes: of all files.
        seconds: of all exports.
        verifications: by the model's file, None where nothing was compared.
    """

    folder: Path
    manifest: dict[str, Any]
    size_bytes: int
    seconds: float
    verifications: dict[str, Verification | None]


def make_bundle(
    plan: BundlePlan, job: ExportJob, *, progress: Progress | None = None
) -> BundleReport:
    """Make the folder.

    Args:
        plan: all decisions.
        job: how each model is exported; its own plan is not looked at.
        progress: of the comparisons.

    Raises:
        EvitError: the folder exists, or an export failed; of a model that does not agree with its
            source the exit code is 3. Nothing is left behind.
        MissingDependency: a library that an export needs is not installed.
    """
    check_bundle_free(plan.folder, force=job.force)
    with workshop(plan.folder) as folder:
        reports = [_export(model, job, folder, progress) for model in plan.models]
        descriptions = [report.description for report in reports]
        assert plan.info.classes is not None  # only segmentation gets here
        write_classes(folder, plan.info.classes)
        if plan.kind is BundleKind.BOARD:
            more = write_board_files(folder, plan, descriptions[0], job.model)
        else:
            more = write_phone_files(folder, plan, descriptions)
        manifest = write_manifest(folder, plan, descriptions, more)
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        _hand_over(folder, plan.folder)
    return BundleReport(
        plan.folder,
        manifest,
        size_bytes,
        sum(report.seconds for report in reports),
        {m.name: r.verification for m, r in zip(plan.models, reports, strict=True)},
    )


def _export(
    model: BundleModel, job: ExportJob, folder: Path, progress: Progress | None
) -> ExportReport:
    """One model of the bundle; its description stays inside the file and in the manifest."""
    plan = replace(model.plan, path=folder / model.plan.path)
    calibration = job.calibration if plan.precision is Precision.INT8 else None
    try:
        report = run_export(replace(job, plan=plan, calibration=calibration), progress=progress)
    except EvitError as error:
        if error.exit_code != EXIT_VERIFICATION:
            raise
        name = plan.path.name
        raise EvitError(
            f"no bundle was made, since {name} fails: {error.message}",
            hint="try --precision fp32; without --bundle the file is kept to be looked at",
            exit_code=EXIT_VERIFICATION,
        ) from error
    description_path(plan.path).unlink()
    return report


def _hand_over(partial: Path, folder: Path) -> None:
    """Give the finished folder its name; what has that name goes when it is free."""
    old = folder.with_name(f".evit-replaced-{folder.name}-{os.getpid()}")
    replaced = os.path.lexists(folder)
    if replaced:
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        if replaced:
            old.rename(folder)
        raise
    if old.is_symlink():
        old.unlink()
    elif replaced:
        shutil.rmtree(old, ignore_errors=True)
