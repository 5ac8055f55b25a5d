"""`evit bench --adb`: a .tflite measured on an Android phone by LiteRT's benchmark_model.

The tool times the invocation alone, so its rows have `compute` and no `host`. Its input is random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evit_cli.bench.remote.adb_client import Adb, PhoneLost, no_space
from evit_cli.bench.remote.benchmark_run import CPU
from evit_cli.bench.remote.phone import Phone, read_phone
from evit_cli.bench.remote.phone_folder import PhoneFolder
from evit_cli.bench.remote.phone_measure import (
    MODEL,
    TOOL,
    AdbRequest,
    Session,
    base_row,
    measure_on_phone,
)
from evit_cli.bench.remote.phone_tool import check_tool, find_libraries, find_tool
from evit_cli.bench.row import Kind, Point, Row
from evit_cli.errors import EvitError
from evit_cli.runtime.description import read_description
from evit_cli.types import Backend, Progress

__all__ = ["AdbRequest", "measure_over_adb"]

_MAGIC = b"TFL3"
_MARGIN = 16 << 20


def measure_over_adb(
    serial: str | None,
    artifact: Path,
    request: AdbRequest,
    *,
    notice: Callable[[str], None],
    progress: Progress,
) -> list[Row]:
    """Measure an artifact on a phone, and leave the phone as it was.

    Args:
        serial: of the phone; None, "" or "-" for the only one.
        artifact: a .tflite of `evit export`.
        request: how.
        notice: told in one sentence what is being done.
        progress: of the rows.

    Returns:
        A row for each accelerator and thread count; failed ones say why. `host_name` is the
        phone's model, never its serial.

    Raises:
        UsageError: several phones are connected and none is named.
        MissingDependency: there is no adb.
        EvitError: no phone, one that is not ready, too hot or full; no .tflite; no benchmark_model
            that runs there; or the phone went away before anything was measured.
    """
    point = _point(artifact)
    tool, libraries = find_tool(request.benchmark_model), find_libraries(request.libraries)
    adb = Adb(None if serial in (None, "", "-") else serial)
    phone = read_phone(adb)
    phone.state.refuse_heat()
    machine = check_tool(tool, phone)
    size = artifact.stat().st_size
    _check_space(phone, sum(path.stat().st_size for path in (tool, *libraries)) + size)
    with PhoneFolder(adb, notice) as folder:
        notice(f"copying {artifact.name} and {tool.name} to the {phone.name}")
        for path, name in ((tool, TOOL), (artifact, MODEL), *((p, p.name) for p in libraries)):
            adb.push(path, f"{folder.path}/{name}")
        adb.shell(f"chmod 700 {folder.path}/{TOOL}")
        names = tuple(path.name for path in libraries)
        session = Session(adb, phone, folder, point, request, size, names, machine)
        return _rows(session, notice, progress)


def _point(artifact: Path) -> Point:
    from evit_cli.weights.checkpoint import sha256_of

    if not artifact.is_file():
        raise EvitError(f"there is no file {artifact}")
    with artifact.open("rb") as file:
        magic = file.read(8)[4:]
    if artifact.suffix != ".tflite" or magic != _MAGIC:
        raise EvitError(
            f"a phone runs .tflite files, and {artifact} is none",
            hint="make one: evit export MODEL --target tflite",
        )
    own = read_description(artifact)
    return Point(
        own.info.name,
        own.info.task,
        Backend.TFLITE,
        own.precision,
        own.size_hw,
        batch=own.batch,
        weights=sha256_of(artifact),
    )


def _check_space(phone: Phone, size: int) -> None:
    if phone.free_bytes is not None and phone.free_bytes < size + _MARGIN:
        error = no_space()
        have, need = phone.free_bytes / 1e6, (size + _MARGIN) / 1e6
        raise EvitError(f"{error.message}: {have:.0f} of {need:.0f} MB", hint=error.hint)


def _rows(session: Session, notice: Callable[[str], None], progress: Progress) -> list[Row]:
    points = [
        replace(session.point, form=form, threads=threads)
        for form in dict.fromkeys(session.request.accelerators)
        for threads in (session.request.threads if form == CPU else (None,))
    ]
    rows: list[Row] = []
    lost: PhoneLost | None = None
    progress.start(len(points), "row")
    try:
        for point in points:
            notice(f"measuring {point.label} on the {session.phone.name}")
            try:
                if lost is not None:
                    raise lost
                rows.append(measure_on_phone(session, point))
            except EvitError as error:
                lost = error if isinstance(error, PhoneLost) else None
                reason = {"reason": error.message, "hint": error.hint, "missing": False}
                rows.append(replace(base_row(session, Kind.FAILED, point), error=reason))
            progress.advance(1, row=point.label)
    finally:
        progress.close()
    if lost is not None and all(row.kind is Kind.FAILED for row in rows):
        raise lost
    return rows
