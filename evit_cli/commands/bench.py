"""`evit bench`: how fast a model is, here, on a board, by the paper, or by estimate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from evit_cli.commands import bench_options as own
from evit_cli.commands import options
from evit_cli.errors import UsageError
from evit_cli.ui.sink import Mode, Sink

if TYPE_CHECKING:
    from evit_cli.bench.dispatch import How
    from evit_cli.bench.jobs import SweepRequest
    from evit_cli.bench.row import Row

_EXAMPLES = options.examples(
    "evit bench seg-b0-street",
    "evit bench seg-b1-cityscapes --random-weights --size 512x1024 --against segformer-b1",
    "evit bench seg-b1-cityscapes --device orin --explain",
    "evit bench model.onnx --host me@orin.local --out rows.jsonl --report report.html",
)


def bench(
    models: own.Models = None,
    model: own.ModelOption = None,
    weights: options.Weights = None,
    backend: own.Backends = None,
    precision: own.Precisions = None,
    size: own.Sizes = None,
    batch: own.Batches = "1",
    threads: own.Threads = None,
    form: own.Forms = None,
    parts: own.Parts = None,
    random: own.Random = False,
    against: own.Against = None,
    paper: own.Paper = None,
    device: own.Device = None,
    estimate: own.Estimate = False,
    explain: own.Explain = False,
    host: own.Host = None,
    remote_evit: own.RemoteEvit = "",
    adb: own.Adb = None,
    accelerators: own.Accelerators = "cpu",
    benchmark_model: own.BenchmarkModel = None,
    phone_libraries: own.PhoneLibraries = None,
    thorough: own.Thorough = False,
    quick: own.Quick = False,
    again: own.Again = False,
    strict: own.Strict = False,
    out: options.Out = None,
    report: own.Report = None,
    force: options.Force = False,
    offline: options.Offline = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure latency by one protocol, or say what it would be on a device you do not have."""
    sink = Sink(json_output=json_output, quiet=quiet)
    named = (*(models or ()), *(model or ()))
    if not named and not paper:
        raise UsageError("no model was named", hint="evit bench seg-b0-street")
    if host and adb:
        raise UsageError("--host and --adb exclude each other")
    from evit_cli.bench.dispatch import How
    from evit_cli.bench.jobs import SweepRequest
    from evit_cli.bench.protocol import NORMAL, QUICK, THOROUGH
    from evit_cli.bench.report import check_report, write_report
    from evit_cli.bench.summary import exit_code
    from evit_cli.runtime.open import parse_backend, parse_precision

    if thorough and quick:
        raise UsageError("--thorough and --quick exclude each other")
    for path in report or []:
        check_report(path, force=force)
    request = SweepRequest(
        models=named,
        weights=weights,
        backends=own.each(backend, parse_backend),
        precisions=own.each(precision, parse_precision),
        sizes=own.each(size, options.parse_size),
        batches=own.each(batch, own.count),
        threads=own.each(threads, own.count) or (None,),
        forms=tuple(options.split_list(form)) or ("eager",),
        against=tuple(options.split_list(against)),
        random=random,
        offline=offline,
        device=device or "",
    )
    how = How(
        protocol=THOROUGH if thorough else QUICK if quick else NORMAL,
        parts=tuple(options.split_list(parts)),
        paper=paper or "",
        host=host or "",
        remote_evit=remote_evit,
        adb=adb or "",
        accelerators=tuple(options.split_list(accelerators)),
        benchmark_model=benchmark_model,
        phone_libraries=phone_libraries,
        estimate=estimate,
        explain=explain,
        out=out,
        again=again,
    )
    rows = _collect(sink, request, how)
    for path in report or []:
        sink.line(str(write_report(path, rows, force=force)))
    code = exit_code(rows, strict=strict)
    if code:
        raise typer.Exit(code)


def _collect(sink: Sink, request: SweepRequest, how: How) -> list[Row]:
    """The rows; what is finished is shown after Ctrl-C too."""
    from evit_cli.bench.dispatch import Bench, run_bench
    from evit_cli.ui.progress import progress_for

    come: list[Row] = []

    def on_row(row: Row, kept: bool) -> None:
        come.append(row)
        _json_row(sink, row)

    try:
        run_bench(Bench(request, how, sink.say, on_row, progress_for(sink)), _tables_to(sink))
    finally:
        _show(sink, come)
    return come


def _json_row(sink: Sink, row: Row) -> None:
    if sink.mode is Mode.JSON:
        from evit_cli.bench.row import encode_row

        sink.json(json.loads(encode_row(row)))


def _tables_to(sink: Sink) -> Callable[[str, Sequence[Mapping[str, str]]], None]:
    """Shows a table beside the rows; under --json it is one more document."""

    def show(title: str, rows: Sequence[Mapping[str, str]]) -> None:
        if sink.mode is Mode.JSON:
            sink.json({"table": title, "rows": list(rows)})
        elif rows:
            sink.table(tuple(rows[0]), rows, title)

    return show


def _show(sink: Sink, rows: Sequence[Row]) -> None:
    from evit_cli.bench.summary import tables

    if sink.mode is not Mode.JSON:
        for table in tables(rows):
            sink.table(table.columns, table.rows, table.title)


def register(app: typer.Typer) -> None:
    """Add `evit bench`."""
    app.command("bench", epilog=_EXAMPLES)(bench)
