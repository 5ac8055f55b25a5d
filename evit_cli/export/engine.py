"""From an .onnx artifact to an engine on the board that will run it; no torch is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from evit_cli.config.device import detect_profile, load_profile
from evit_cli.config.profile import Profile
from evit_cli.errors import EXIT_VERIFICATION, EvitError, MissingDependency
from evit_cli.export.engine_cache import EngineCache
from evit_cli.export.images import ImageSet
from evit_cli.export.tensorrt import EngineRequest, build_engine
from evit_cli.export.verdict import Verdict
from evit_cli.export.verify import Verification, verify
from evit_cli.runtime.description import (
    Description,
    describe_artifact,
    description_path,
    read_description,
)
from evit_cli.runtime.onnx_session import OnnxSession
from evit_cli.runtime.tensorrt_session import TensorRTSession
from evit_cli.types import Backend, NoProgress, Progress


@dataclass(frozen=True)
class EngineReport:
    """What was made: absolute paths, and how the engine compares with the file it was built from.

    `verification` is None where it was not compared.
    """

    written: tuple[Path, ...]
    description: Description
    verification: Verification | None


def check_free(path: Path, *, force: bool) -> None:
    """Refuse to overwrite.

    Raises:
        EvitError: one of the files that would be written exists.
    """
    if force:
        return
    others = [description_path(path)]
    others += [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    for other in (path, *others):
        if other.exists():
            raise EvitError(f"{other} exists already", hint="--force replaces it")


def engine_path(onnx: Path, out: Path | None) -> Path:
    """Where the engine goes: beside the file, into a folder, or under the name given."""
    if out is None:
        return onnx.with_suffix(".engine")
    return out if out.suffix in (".engine", ".plan") else out / onnx.with_suffix(".engine").name


def build_from_onnx(
    onnx: Path,
    engine: Path,
    *,
    device: str | None = None,
    images: ImageSet | None = None,
    notice: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> EngineReport:
    """Build an engine here from an .onnx file of `evit export`, and compare the two.

    Args:
        onnx: the file, with its description inside.
        engine: to write.
        device: the board's profile; None takes the one recognised, if any.
        images: to compare on; None does not compare.
        notice: told in one sentence what is being done.
        progress: of the builder and of the comparison.

    Raises:
        EvitError: the build failed, or the engine does not agree (exit code 3; it is then kept
            under a `.failed` name).
        MissingDependency: TensorRT, or what reaches the GPU's memory, is not installed.
    """
    description = read_description(onnx)
    request = EngineRequest(
        replace(description, verification={}), _profile(device), EngineCache(), notice
    )
    build_engine(onnx, engine, request=request, progress=progress)
    files = (engine, description_path(engine))
    verification = None if images is None else _compare(onnx, engine, images, notice, progress)
    if verification is not None:
        description = replace(description, verification=verification.document())
        describe_artifact(engine, description)
        if verification.verdict is Verdict.FAIL:
            failed = [path.replace(path.with_name(path.name + ".failed")) for path in files]
            raise EvitError(
                f"the engine does not agree with {onnx.name}: {verification.reason}",
                hint=f"it is kept as {failed[0]}; export with --precision fp32",
                exit_code=EXIT_VERIFICATION,
            )
    return EngineReport(tuple(path.absolute() for path in files), description, verification)


def _profile(device: str | None) -> Profile | None:
    if device is not None:
        return load_profile(device)
    try:
        found = detect_profile().profile
    except EvitError:
        return None
    return found if Backend.TENSORRT in found.all_backends else None


def _compare(
    onnx: Path,
    engine: Path,
    images: ImageSet,
    notice: Callable[[str], None],
    progress: Progress | None,
) -> Verification | None:
    try:
        source = OnnxSession(onnx)
    except MissingDependency:
        notice("the engine is not compared with its source, since onnxruntime is not installed")
        return None
    notice(f"comparing it with {onnx.name} on {images.count} images")
    session = TensorRTSession(engine)
    try:
        return verify(
            session,
            source,
            images,
            images_sha256=images.sha256,
            progress=progress or NoProgress(),
        )
    finally:
        session.close()
        source.close()
