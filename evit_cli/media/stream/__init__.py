"""Drawn frames over HTTP while a run goes on: MJPEG, a status page and metrics."""

from evit_cli.media.stream.limits import Limits
from evit_cli.media.stream.stream import FrameStream, open_stream

__all__ = ["FrameStream", "Limits", "open_stream"]
