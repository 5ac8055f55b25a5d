"""What must be known of a video file before a board's decoder may have it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from evit_cli.errors import EvitError
from evit_cli.media.upright import UPRIGHT, display_turn
from evit_cli.media.video import VideoSource

_BOARD_PIXELS = ("yuv420p", "yuvj420p")
"""Eight bits, 4:2:0: what every decoding circuit takes and the pipe's I420 holds."""


@dataclass(frozen=True)
class VideoFacts:
    """Of a video that needs nothing but decoding: upright, 8 bits, progressive.

    Attributes:
        container: FFmpeg's name of the format.
        codec: FFmpeg's name of the codec.
        frame_count: how many frames to expect, None if unknown.
        start_s: the file's own time of the first frame.
        pixel_aspect: width of a pixel by its height; None means square.
    """

    container: str
    codec: str
    frame_count: int | None
    start_s: Fraction
    pixel_aspect: Fraction | None

    @classmethod
    def read(cls, path: Path) -> VideoFacts | None:
        """Decode one frame; None for a video that FFmpeg shall read, with all it does for it.

        Raises:
            EvitError: it is no video.
        """
        source = VideoSource(path, name=path.stem)
        try:
            frame = source.first_frame()
        except (EvitError, av.error.FFmpegError):
            return None
        finally:
            source.close()
        if frame is None or frame.format.name not in _BOARD_PIXELS or frame.interlaced_frame:
            return None
        if display_turn(frame) != UPRIGHT:
            return None
        start_s = Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base or 1)
        return cls(
            source.container_format, source.codec, source.frame_count, start_s, source.pixel_aspect
        )
