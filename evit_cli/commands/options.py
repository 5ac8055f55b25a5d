"""Option types that mean the same in every command, each defined once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_cli.errors import UsageError
from evit_cli.types import ImageSize
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.runtime.session import Session
    from evit_cli.train.distributed import Group

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Data only, no talk.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A name from `evit models ls`, a file, a folder, or hf://owner/repo/file@revision.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Weights for --model from this file."),
]
BackendName = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="What runs the model, e.g. torch.")
]
PrecisionName = Annotated[
    str | None, typer.Option("--precision", metavar="fp32|fp16|int8", help="Number format.")
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="HxW", help="Fit frames into this size, keeping the aspect."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="PATH", help="Where to write.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing outputs.")]
Offline = Annotated[bool, typer.Option("--offline", help="Make no network request.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=512, metavar="N", help="CPU threads for the model."),
]
ClassMap = Annotated[
    Path | None, typer.Option("--map", metavar="FILE", help="JSON: the set's class per class.")
]
Void = Annotated[
    int | None, typer.Option("--void", help="Label that does not count (folders); default 255.")
]
MaxImages = Annotated[int | None, typer.Option("--max-images", min=1, help="Use only N images.")]
Every = Annotated[int, typer.Option("--every", min=1, help="Take one of N frames.")]
MaxFrames = Annotated[int | None, typer.Option("--max-frames", min=1, help="Stop after N frames.")]
ValShare = Annotated[
    float | None,
    typer.Option(
        "--val-share",
        min=0.001,
        max=0.999,
        help="Measure on the share that training held out of a set without a val part.",
    ),
]


def parse_size(text: str | None) -> ImageSize | None:
    """The value of `--size`.

    Raises:
        UsageError: it is not a size.
    """
    try:
        return None if text is None else ImageSize.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def open_model(
    sink: Sink,
    model: str,
    *,
    weights: Path | None,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    offline: bool,
    size_hw: ImageSize | None = None,
) -> Session:
    """The session that the model options ask for; `model` is empty if only weights were given."""
    from evit_cli.runtime.open import open_session, parse_backend, parse_precision
    from evit_cli.ui.download import download_progress

    return open_session(
        model or None,
        weights=weights,
        backend=parse_backend(backend),
        precision=parse_precision(precision),
        size_hw=size_hw,
        threads=threads,
        offline=offline,
        progress=download_progress(sink),
    )


def split_list(text: str | None) -> list[str]:
    """A comma-separated option as a list, in order, without empty or repeated parts."""
    parts = [part.strip() for part in (text or "").split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def examples(*lines: str) -> str:
    """The epilog of a command's help: real examples, one a line."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"  {line}" for line in lines)


@contextmanager
def processes() -> Iterator[Group | None]:
    """The processes that torchrun started, None without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    from evit_cli.train.distributed import join

    group = join()
    try:
        yield group
    finally:
        group.leave()


def speaks(group: Group | None) -> bool:
    """Whether this process is the one that shows the result."""
    return group is None or group.first
