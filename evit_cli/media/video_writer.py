"""Writes H.264 MP4 that plays everywhere; the file appears under its name when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from evit_cli.errors import EvitError
from evit_cli.media.audio import AudioTrack
from evit_cli.media.disk import cannot_write
from evit_cli.media.frame import ImageU8

_CLOCK = 90_000
"""Ticks per second at least, MPEG's own: close enough for any camera."""
_FASTEST_CLOCK = 10_000_000

ENCODERS = ("libx264", "libopenh264", "h264_v4l2m2m", "h264_nvenc")
X264_OPTIONS = {"preset": "ultrafast", "crf": "23"}
"""The encoder shares the board with the model: ultrafast costs a third of superfast and makes the
file a fifth larger at the same quality setting."""

SMPTE_170M = 6
LIMITED_RANGE = 1
"""FFmpeg's numbers for the colour tags."""

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")
_FORMATS = {".mp4": "mp4", ".mov": "mov", ".m4v": "mp4", ".mkv": "matroska"}


def time_base_for(rate: Fraction) -> Fraction:
    """A clock that holds every multiple of 1 / `rate` exactly, whether 25 or 24000/1001."""
    ticks = rate.numerator * -(-_CLOCK // rate.numerator)
    return Fraction(1, ticks if ticks <= _FASTEST_CLOCK else _CLOCK)


def h264_encoder() -> str:
    """The first H.264 encoder that this FFmpeg build has.

    Raises:
        EvitError: it has none.
    """
    for name in ENCODERS:
        if name in av.codecs_available:
            return name
    raise EvitError(
        "this PyAV has no H.264 encoder",
        hint="pip install --force-reinstall av, whose wheels include x264",
    )


def even(image: ImageU8) -> ImageU8:
    """Repeat the last row or column of odd-sized images: 4:2:0 colour needs even sides."""
    below, right = image.shape[0] % 2, image.shape[1] % 2
    if not (below or right):
        return image
    padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, dtype=np.uint8)


def yuv_frame(planes: ImageU8) -> Any:
    """A frame over (H * 3 / 2, W) planes, without copying them where PyAV can do that."""
    if planes.shape[0] % 6:  # from_numpy_buffer rounds the height down to a multiple of four
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")
    return av.VideoFrame.from_numpy_buffer(planes, format="yuv420p")


class VideoWriter:
    """An H.264 movie in yuv420p with its index in front ("faststart").

    Args:
        path: where it will be; .mp4, .mov, .m4v or .mkv.
        rate: frames per second, for the header; the frames carry their own times.
        audio_from: a file whose first audio track is copied.
        audio_start_s: that file's time of the first frame.
        pixel_aspect: width of a pixel by its height; None means square.
        encoder: what encodes; None takes the first that this PyAV has.

    Raises:
        EvitError: the suffix is another, or there is no H.264 encoder.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate: Fraction,
        audio_from: Path | None = None,
        audio_start_s: Fraction = Fraction(0),
        pixel_aspect: Fraction | None = None,
        encoder: str | None = None,
    ) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise EvitError(f"videos cannot be written as '{path.suffix}'", hint="use .mp4")
        self.path = path
        self.frames = 0
        self.problem = ""
        """What could not be carried over; empty if all is well."""
        self._rate = rate
        self._time_base = time_base_for(rate)
        self._last_pts = -1
        self._pixel_aspect = pixel_aspect
        self._audio_from = audio_from
        self._audio_start_s = audio_start_s
        self._encoder = encoder or h264_encoder()
        self._partial = path.with_name(f".{path.stem}.evit-partial{path.suffix}")
        self._container: Any = None
        self._stream: Any = None
        self._audio: AudioTrack | None = None
        self._size_hw = (0, 0)
        self._end_s = Fraction(0)

    def _begin(self, add_video: Callable[[], None]) -> None:
        """Begin the file; sound that this container refuses is left out, not the whole movie."""
        add_video()
        try:
            if self._audio_from is not None:
                self._audio = AudioTrack.open(
                    self._audio_from, self._container, self._audio_start_s
                )
            self._container.start_encoding()
        except (EvitError, av.error.FFmpegError, ValueError) as error:
            if self._audio_from is None:
                raise
            self._remove_partial()
            why = error.message if isinstance(error, EvitError) else str(error)
            self.problem = f"the sound could not be carried over: {why.lower()}"
            add_video()
            self._container.start_encoding()

    def _new_container(self) -> Any:
        kind = _FORMATS[self.path.suffix.lower()]
        options = {"movflags": "+faststart"}
        if kind == "matroska":
            # Written out every second, the partial file plays after a power cut; an MP4 cannot.
            options = {"cluster_time_limit": "1000", "flush_packets": "1"}
        return av.open(f"file:{self._partial}", "w", format=kind, options=options)

    def _add_video(self) -> None:
        self._container = self._new_container()
        stream = self._container.add_stream(self._encoder, rate=self._rate)
        stream.height, stream.width = self._size_hw
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = self._time_base
        if self._pixel_aspect:
            stream.codec_context.sample_aspect_ratio = self._pixel_aspect
        if self._encoder == "libx264":
            stream.options = dict(X264_OPTIONS)
        # BT.601 is what OpenCV's fast conversion makes; the tags tell players, whatever the size.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = SMPTE_170M
        context.color_range = LIMITED_RANGE
        self._stream = stream

    def write(self, image_rgb_u8: ImageU8, time_s: Fraction) -> None:
        """Append one (H, W, 3) frame shown from `time_s` on; times must grow.

        Raises:
            EvitError: the disk is full, or encoding failed.
        """
        image = even(image_rgb_u8)
        with self._explained():
            if self._container is None:
                self._size_hw = (image.shape[0], image.shape[1])
                self._begin(self._add_video)
            if image.shape[:2] != self._size_hw:  # a camera or stream that changed its mode
                resized = cv2.resize(image, self._size_hw[::-1], interpolation=cv2.INTER_AREA)
                image = np.asarray(resized, dtype=np.uint8)
            planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
            frame = yuv_frame(planes)
            self._last_pts = max(round(time_s / self._time_base), self._last_pts + 1)
            frame.pts = self._last_pts
            frame.time_base = self._time_base
            self._container.mux(self._stream.encode(frame))
            self._end_s = time_s + 1 / self._rate
            if self._audio is not None:
                self._audio.copy_until(time_s)
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name. Without a frame nothing is written.

        Raises:
            EvitError: the disk is full.
        """
        if self._container is None:
            return
        try:
            with self._explained():
                self._container.mux(self._stream.encode(None))
                self._finish_file()
        finally:
            self.abort()

    def _finish_file(self) -> None:
        """The rest of the sound, the index and the name."""
        if self._audio is not None:
            self._audio.copy_until(self._end_s)
            if self._audio.problem:
                self.problem = f"the sound ends early: {self._audio.problem}"
        self._container.close()
        self._container = None
        os.replace(self._partial, self.path)

    def abort(self) -> None:
        """Throw away what was written so far."""
        self._remove_partial()

    def _remove_partial(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._audio = None
        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
            self._container = None
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self.path, error) from error
