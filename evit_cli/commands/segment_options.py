"""Where the frames of `evit segment` go: files, rows, a window, a stream."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_cli.commands.options import split_list
from evit_cli.errors import UsageError
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.media.stream import FrameStream

NOTHING = "none"

Save = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="KINDS",
        help="Any of: overlay, mask, color, json; or none. "
        "Default: overlay; none with --stream alone.",
    ),
]
StreamTo = Annotated[
    str | None,
    typer.Option(
        "--stream",
        metavar="URL",
        help="Serve the overlay here as MJPEG, e.g. http://127.0.0.1:8080.",
    ),
]
StreamToken = Annotated[
    str | None,
    typer.Option(
        "--stream-token",
        metavar="TOKEN",
        envvar="EVIT_STREAM_TOKEN",
        help="What clients of --stream must know; made up if needed.",
    ),
]


def kinds_to_save(save: str | None, out: Path | None, *, streamed: bool) -> list[str]:
    """What `--save` and its absence mean.

    Raises:
        UsageError: nothing is to be saved in a place that was named.
    """
    if save is None:
        return [] if streamed and out is None else ["overlay"]
    kinds = split_list(save)
    if NOTHING not in kinds:
        return kinds
    if kinds != [NOTHING] or out is not None:
        what = f"--out {out}" if kinds == [NOTHING] else f"--save {save}"
        raise UsageError(f"--save {NOTHING} does not go with {what}", hint="leave one of them away")
    return []


def window(title: str) -> Callable[[Any], None]:
    """Show pictures on the screen."""
    from evit_cli.ui.window import Window

    return Window(title).show


@contextmanager
def streaming(sink: Sink, address: str | None, token: str | None) -> Iterator[FrameStream | None]:
    """The stream of `--stream`, open during the context; says its address. None without one.

    Raises:
        UsageError: the address or the token cannot be used.
        EvitError: the port is taken.
    """
    if address is None:
        yield None
        return
    from evit_cli.media.stream import open_stream

    with open_stream(address, token=token or None) as stream:
        sink.json({"stream": stream.url})
        sink.line(stream.url)
        sys.stdout.flush()  # a pipe's reader must know it before the run ends
        yield stream
        if stream.problem:
            sink.warn(stream.problem)
