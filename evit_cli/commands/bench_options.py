"""The options of `evit bench` that no other command has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from evit_cli.commands.options import split_list
from evit_cli.errors import UsageError

T = TypeVar("T")

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Names from `evit models ls`, or artifacts."),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", metavar="NAME|FILE", help="The same, as other commands take it."),
]
Backends = Annotated[
    str | None, typer.Option("--backend", metavar="A,B", help="tflite, onnx, openvino, torch...")
]
Precisions = Annotated[
    str | None, typer.Option("--precision", metavar="A,B", help="fp32, fp16, int8; torch: bf16.")
]
Sizes = Annotated[
    str | None, typer.Option("--size", metavar="HxW,...", help="Input sizes, multiples of 32.")
]
Batches = Annotated[str, typer.Option("--batch", metavar="N,...", help="Images per run.")]
Threads = Annotated[
    str | None, typer.Option("--threads", metavar="N,...", help="CPU threads for the model.")
]
Forms = Annotated[
    str | None,
    typer.Option("--form", metavar="A,B", help="Of torch: eager, compiled, cuda-graph, plain."),
]
Parts = Annotated[
    str | None,
    typer.Option("--parts", metavar="A,B", help="compute, host, e2e; host is always measured."),
]
Random = Annotated[
    bool, typer.Option("--random-weights", help="Speed alone: fetch no weights, make up some.")
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="NAME,...", help="Peers, in the same run: segformer-b1..."),
]
Paper = Annotated[
    str | None,
    typer.Option("--paper", metavar="TABLE", help="table2 to table5, or sam: published and here."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="PROFILE", help="Estimate for it; with --host, export so."),
]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="With --device: estimate even on the device itself.")
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Of an estimate: the layers that cost most, and why.")
]
Host = Annotated[
    str | None, typer.Option("--host", metavar="USER@BOARD", help="Measure there, over ssh.")
]
RemoteEvit = Annotated[
    str, typer.Option("--remote-evit", metavar="PATH", help="evit there, or its venv.")
]
Adb = Annotated[
    str | None,
    typer.Option("--adb", metavar="SERIAL", help="Measure on an Android phone; '-' for the only."),
]
Accelerators = Annotated[
    str, typer.Option("--on", metavar="A,B", help="With --adb: cpu, gpu, npu.")
]
BenchmarkModel = Annotated[
    Path | None,
    typer.Option("--benchmark-model", metavar="FILE", help="With --adb: LiteRT's tool."),
]
PhoneLibraries = Annotated[
    Path | None,
    typer.Option("--phone-libraries", metavar="DIR", help="With --adb: libraries the tool needs."),
]
Thorough = Annotated[bool, typer.Option("--thorough", help="30 s per number, not 3.")]
Quick = Annotated[bool, typer.Option("--quick", help="A first look; its rows are tainted.")]
Again = Annotated[bool, typer.Option("--again", help="Measure also what --out has already.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 4 if a row is tainted.")]
Report = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE", help="Write a page or table: .html, .md or .csv."),
]


def each(text: str | None, parse: Callable[[str], T | None]) -> tuple[T, ...]:
    """A comma-separated option, each part parsed."""
    parsed = (parse(part) for part in split_list(text))
    return tuple(value for value in parsed if value is not None)


def count(text: str) -> int:
    """The value of an option that counts something."""
    if not text.isdecimal() or not 1 <= int(text) <= 512:
        raise UsageError(f"'{text}' is not a number from 1 to 512")
    return int(text)
