"""`evit sam --ui`: says where the page is, and serves it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from evit_cli.errors import UsageError
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.inference.sam_predictor import SamPredictor
    from evit_cli.media.frame import Source


def serve(sink: Sink, predictor: SamPredictor, frames: Source, port: int) -> None:
    """Serve the page of some images until Ctrl-C.

    Raises:
        UsageError: the source is a video.
        EvitError: the port is taken.
    """
    from evit_cli.inference.sam_page import open_page
    from evit_cli.media.images import ImageSource

    if not isinstance(frames, ImageSource):
        raise UsageError("--ui shows still images only", hint="give an image, folder or glob")

    def tell(error: BaseException) -> None:
        sink.warn(f"{type(error).__name__}: {error}")

    with open_page(predictor, frames.paths, port=port, on_problem=tell) as page:
        sink.json({"url": page.url})
        sink.line(page.url)
        sys.stdout.flush()  # a pipe must have the address before the page ends
        sink.say("open this address in a browser on this machine; Ctrl-C ends it")
        page.serve_forever()
