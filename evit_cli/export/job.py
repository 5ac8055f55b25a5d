"""One export from its plan to the finished file: build, describe, compare, and only then hand over.

Everything happens in a hidden folder beside the artifact; what is finished is renamed into place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from evit_cli.errors import EXIT_VERIFICATION, EvitError
from evit_cli.export.engine import check_free
from evit_cli.export.fidelity import Originals, psnr_on
from evit_cli.export.graph import Built, build_graph
from evit_cli.export.images import ImageSet
from evit_cli.export.labels import Labels, mean_ious
from evit_cli.export.litert import write_litert
from evit_cli.export.onnx import write_onnx
from evit_cli.export.openvino import write_openvino
from evit_cli.export.plan import ExportPlan
from evit_cli.export.quantize import LayerError
from evit_cli.export.sam_plan import with_embedding
from evit_cli.export.sam_verify import verify_sam
from evit_cli.export.verdict import Verdict
from evit_cli.export.verify import Verification, verify, with_labels, with_originals
from evit_cli.export.workshop import workshop
from evit_cli.models.sam.model import Sam
from evit_cli.runtime.description import Description, describe_artifact, description_path
from evit_cli.runtime.open import open_artifact
from evit_cli.runtime.sam import SamSession
from evit_cli.runtime.torch_sam import embedding_of, torch_halves
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import Backend, NoProgress, Progress

FAILED = ".failed"


@dataclass(frozen=True)
class ExportJob:
    """What to export, and what to compare it on.

    Attributes:
        plan: all decisions.
        model: maps normalised RGB (B, 3, H, W) to logits, or a SAM model; it is copied, not
            changed.
        calibration: images for int8 ranges; needed for int8 only.
        images: to compare on; None does not compare.
        labels: to measure mean IoU on too, or originals to measure PSNR on.
        islands: of an int8 model: layers to keep in float, beside those chosen by evit.
        explain: measure the error of each layer of an int8 model.
        force: replace existing files.
        threads: for the comparison.
        notice: told in one sentence what is being done.
    """

    plan: ExportPlan
    model: nn.Module
    calibration: ImageSet | None = None
    images: ImageSet | None = None
    labels: Labels | Originals | None = None
    islands: tuple[str, ...] = ()
    explain: bool = False
    force: bool = False
    threads: int | None = None
    notice: Callable[[str], None] = field(default=lambda _: None)


@dataclass(frozen=True)
class ExportReport:
    """What was made.

    Attributes:
        written: absolute paths, the artifact first; of a SAM model the encoder.
        description: inside it.
        size_bytes: of the artifact, or both, with weights.
        seconds: of all of it, and of the comparison within it.
        verify_s: of the comparison.
        verification: None where nothing was compared.
        layers: errors per layer, where asked for.
    """

    written: tuple[Path, ...]
    description: Description
    size_bytes: int
    seconds: float
    verify_s: float
    verification: Verification | None
    layers: tuple[LayerError, ...] = ()
    decoder: Description | None = None


@dataclass(frozen=True)
class _Made:
    """An artifact in the making: its plan, what it was built from, its file and description."""

    plan: ExportPlan
    built: Built
    file: Path
    description: Description


def run_export(job: ExportJob, *, progress: Progress | None = None) -> ExportReport:
    """Make the artifact.

    Raises:
        EvitError: a file exists already, a converter or runtime failed, or the artifact does not
            agree with its source (exit code 3; it is then kept under a `.failed` name).
        MissingDependency: a library that the target needs is not installed.
    """
    plan, started = job.plan, time.perf_counter()
    if isinstance(job.model, Sam):
        plan = with_embedding(plan, embedding_of(job.model)[0])
    for part in plan.parts:
        check_free(part.path, force=job.force)
    with workshop(plan.path) as folder:
        job.notice(f"exporting {plan.info.name} to {plan.backend.value} {plan.precision.value}")
        made = [_make(job, part, folder, progress or NoProgress()) for part in plan.parts]
        compared = time.perf_counter()
        verification = None
        if job.images is not None:
            job.notice(f"comparing it with its source on {job.images.count} images")
            verification = _compare(job, [one.file for one in made], progress or NoProgress())
            made = [_with_verification(one, verification) for one in made]
        verify_s = time.perf_counter() - compared
        failed = verification is not None and verification.verdict is Verdict.FAIL
        written: tuple[Path, ...] = ()
        for one in reversed(made):
            done = _hand_over(one.file, one.plan.path, FAILED if failed else "")
            written = (*done, *written)
    if failed:
        assert verification is not None
        raise EvitError(
            f"the artifact does not agree with its source: {verification.reason}",
            hint=f"it is kept as {written[0]}; try --precision fp32, or --explain for int8",
            exit_code=EXIT_VERIFICATION,
        )
    return ExportReport(
        written,
        made[0].description,
        sum(path.stat().st_size for path in written if path.suffix != ".json"),
        time.perf_counter() - started,
        verify_s,
        verification,
        made[0].built.layers,
        decoder=made[1].description if len(made) > 1 else None,
    )


def _make(job: ExportJob, plan: ExportPlan, folder: Path, progress: Progress) -> _Made:
    """Build, write and describe one artifact in the workshop."""
    built = build_graph(plan, job.model, job.calibration, islands=job.islands, explain=job.explain)
    artifact = folder / plan.path.name
    _write(job, plan, built, artifact, progress)
    description = describe(plan, built)
    describe_artifact(artifact, description)
    return _Made(plan, built, artifact, description)


def _with_verification(made: _Made, verification: Verification) -> _Made:
    description = replace(made.description, verification=verification.document())
    describe_artifact(made.file, description)
    return replace(made, description=description)


def describe(plan: ExportPlan, built: Built) -> Description:
    """What the artifact says about itself before it was compared."""
    return Description(
        replace(plan.info, source=""),
        plan.size_hw,
        plan.precision,
        largest_hw=plan.largest_hw,
        batch=plan.batch,
        layout=plan.layout,
        dtype="uint8" if plan.form.uint8 else "float32",
        islands=built.islands,
        calibration=built.calibration,
        profile=plan.profile.name if plan.profile else "",
        sam=plan.sam,
    )


def _write(
    job: ExportJob, plan: ExportPlan, built: Built, artifact: Path, progress: Progress
) -> None:
    if plan.backend is Backend.TFLITE:
        write_litert(built.model, artifact, plan=plan)
        return
    onnx = artifact.with_suffix(".onnx")
    write_onnx(built.model, onnx, plan=plan)
    if plan.backend is Backend.OPENVINO:
        write_openvino(onnx, artifact, precision=plan.precision)
        onnx.unlink()
    elif plan.engine:
        from evit_cli.export.engine_cache import EngineCache
        from evit_cli.export.tensorrt import EngineRequest, build_engine

        request = EngineRequest(describe(plan, built), plan.profile, EngineCache(), job.notice)
        build_engine(onnx, artifact, request=request, progress=progress)
        onnx.unlink()


def _compare(job: ExportJob, artifacts: list[Path], progress: Progress) -> Verification:
    assert job.images is not None
    if isinstance(job.model, Sam):
        return _compare_halves(job, job.model, artifacts, progress)
    session = open_artifact(artifacts[0], threads=job.threads)
    source = TorchSession(job.model, job.plan.info, threads=job.threads, device="cpu")
    try:
        plan = job.plan
        result = verify(
            session,
            source,
            job.images,
            images_sha256=job.images.sha256,
            sizes_hw=(plan.size_hw, plan.largest_hw) if plan.largest_hw else (),
            progress=progress,
        )
        if job.labels is None or (
            result.verdict is Verdict.FAIL and not isinstance(job.labels, Originals)
        ):
            return result
        if isinstance(job.labels, Originals):
            found = psnr_on(session, source, job.labels, progress)
            return with_originals(result, plan.precision, *found)
        return with_labels(result, *mean_ious(session, source, job.labels, progress))
    finally:
        session.close()


def _compare_halves(
    job: ExportJob, model: Sam, artifacts: list[Path], progress: Progress
) -> Verification:
    assert job.images is not None
    halves: list[Any] = [open_artifact(file, threads=job.threads) for file in artifacts]
    session = SamSession(*halves)
    source = SamSession(*torch_halves(model, replace(job.plan.info, source=""), device="cpu"))
    try:
        return verify_sam(
            session, source, job.images, images_sha256=job.images.sha256, progress=progress
        )
    finally:
        session.close()


def _hand_over(artifact: Path, path: Path, ending: str) -> tuple[Path, ...]:
    """Rename the finished files into place, the artifact last: it is whole when it appears."""
    moves = [(description_path(artifact), description_path(path)), (artifact, path)]
    if path.suffix == ".xml":
        moves.insert(0, (artifact.with_suffix(".bin"), path.with_suffix(".bin")))
    written = []
    for made, goal in moves:
        goal = goal.with_name(goal.name + ending)
        made.replace(goal)
        written.append(goal.absolute())
    return tuple(reversed(written))
