"""Writes movies with an encoder of GStreamer's, a board's circuit above all.

Raw frames go through a pipe to gst-launch-1.0 as Matroska, which carries their exact times; H.264
comes back the same way and a thread puts it, with the sound, into the file. So all that
`VideoWriter` promises holds: exact times, sound, the index in front, a name when complete.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import cv2
import numpy as np

from evit_cli.errors import EvitError
from evit_cli.media.disk import cannot_write
from evit_cli.media.encode import EncodePlan
from evit_cli.media.frame import ImageU8
from evit_cli.media.video_writer import (
    LIMITED_RANGE,
    SMPTE_170M,
    VideoWriter,
    even,
    yuv_frame,
)

_IN = "fdsrc fd=0 ! matroskademux".split()
_OUT = (
    "video/x-h264,stream-format=avc,alignment=au ! "
    "matroskamux streamable=true timecodescale=1000 ! fdsink fd=1"
).split()
_PATIENCE_S = 20.0
_ALIGNED = 8
"""GStreamer pads each row of a plane to four bytes and FFmpeg does not: at these widths it is the
same. Others are widened here and cropped there."""


def _aligned(image: ImageU8) -> ImageU8:
    """Repeat the last column until the width is aligned."""
    padding = -image.shape[1] % _ALIGNED
    if not padding:
        return image
    wide = cv2.copyMakeBorder(image, 0, 0, 0, padding, cv2.BORDER_REPLICATE)
    return np.asarray(wide, dtype=np.uint8)


class BoardWriter(VideoWriter):
    """An H.264 movie like `VideoWriter`'s, encoded by GStreamer.

    Args:
        path: where it will be.
        plan: what encodes; its element is not empty.
        rate: frames per second, for the header.
        audio_from: a file whose first audio track is copied.
        audio_start_s: that file's time of the first frame.
        pixel_aspect: width of a pixel by its height; None means square.

    Raises:
        EvitError: the suffix is another.
    """

    def __init__(
        self,
        path: Path,
        plan: EncodePlan,
        *,
        rate: Fraction,
        audio_from: Path | None = None,
        audio_start_s: Fraction = Fraction(0),
        pixel_aspect: Fraction | None = None,
    ) -> None:
        super().__init__(
            path,
            rate=rate,
            audio_from=audio_from,
            audio_start_s=audio_start_s,
            pixel_aspect=pixel_aspect,
            encoder=plan.element,
        )
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._feed: Any = None
        self._raw: Any = None
        self._collector: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._complete = False

    def _start(self) -> None:
        """The process and what leads to it."""
        words = self._plan.words(self._size_hw, self._rate)
        padding = -self._size_hw[1] % _ALIGNED
        if padding:
            words = ["videocrop", f"right={padding}", "!", *words]
        program = shutil.which("gst-launch-1.0") or "gst-launch-1.0"
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [program, "-q", *_IN, "!", *words, "!", *_OUT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for evit alone, which then finishes the movie
        )
        self._feed = av.open(self._process.stdin, "w", format="matroska")
        raw = self._feed.add_stream("rawvideo", rate=self._rate)
        raw.height, raw.width = self._size_hw[0], self._size_hw[1] + padding
        raw.pix_fmt = "yuv420p"
        if self._pixel_aspect:
            raw.codec_context.sample_aspect_ratio = self._pixel_aspect
        context = raw.codec_context
        context.colorspace = context.color_primaries = context.color_trc = SMPTE_170M
        context.color_range = LIMITED_RANGE
        context.time_base = raw.time_base = self._time_base
        self._raw = raw
        self._collector = threading.Thread(target=self._collect, name="evit-h264", daemon=True)
        self._collector.start()

    def write(self, image_rgb_u8: ImageU8, time_s: Fraction) -> None:
        """Append one (H, W, 3) frame shown from `time_s` on; times must grow.

        Raises:
            EvitError: the disk is full, or encoding failed.
        """
        image = even(image_rgb_u8)
        with self._told():
            if self._process is None:
                self._size_hw = (image.shape[0], image.shape[1])
                self._start()
            if image.shape[:2] != self._size_hw:
                resized = cv2.resize(image, self._size_hw[::-1], interpolation=cv2.INTER_AREA)
                image = np.asarray(resized, dtype=np.uint8)
            planes = cv2.cvtColor(_aligned(image), cv2.COLOR_RGB2YUV_I420)
            frame = yuv_frame(np.asarray(planes, dtype=np.uint8))
            self._last_pts = max(round(time_s / self._time_base), self._last_pts + 1)
            frame.pts, frame.time_base = self._last_pts, self._time_base
            self._end_s = time_s + 1 / self._rate
            self._feed.mux(self._raw.encode(frame))
        self.frames += 1

    def _collect(self) -> None:
        """Put what comes back into the file, in the thread of its own."""
        assert self._process is not None
        try:
            with av.open(self._process.stdout, format="matroska") as coded:
                stream = coded.streams.video[0]
                self._open_file(stream)
                for packet in coded.demux(stream):
                    if packet.dts is None:
                        continue
                    time_s = Fraction(packet.pts) * Fraction(packet.time_base)
                    packet.pts = packet.dts = round(time_s / self._time_base)
                    packet.time_base = self._time_base
                    packet.stream = self._stream
                    self._container.mux(packet)
                    if self._audio is not None:
                        self._audio.copy_until(time_s)
            self._complete = True
        except BaseException as error:
            self._failure = error
            self._process.kill()  # else whoever writes would wait for ever

    def _add_copied(self, template: Any) -> None:
        self._container = self._new_container()
        self._stream = self._container.add_stream_from_template(template)
        self._stream.time_base = self._time_base

    def _open_file(self, template: Any) -> None:
        self._begin(lambda: self._add_copied(template))

    def close(self) -> None:
        """Finish the file and give it its name. Without a frame nothing is written.

        Raises:
            EvitError: the disk is full, or encoding failed.
        """
        if self._process is None or self._collector is None:
            return
        try:
            with self._told():
                self._feed.mux(self._raw.encode(None))
                self._feed.close()
                if self._process.stdin is not None:
                    self._process.stdin.close()
                self._collector.join(_PATIENCE_S)
                if not self._complete:
                    raise OSError("the encoder does not finish")
            with self._explained():
                self._finish_file()
        finally:
            self.abort()

    def abort(self) -> None:
        """Throw away what was written so far."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._collector is not None:
            self._collector.join(_PATIENCE_S)
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            if self._feed is not None:
                self._feed.close()
        super().abort()
        for pipe in (self._process.stdin, self._process.stdout) if self._process else ():
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        self._feed = self._process = self._collector = None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What failed first: writing the file in the thread, or the encoder."""
        try:
            yield
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if self._collector is not None:
                self._collector.join(_PATIENCE_S)
            if isinstance(self._failure, EvitError):
                raise self._failure from error
            reason = self._reason()
            if isinstance(self._failure, OSError) and not reason:
                raise cannot_write(self.path, self._failure) from error
            raise EvitError(
                f"{self._plan.element} failed after {self.frames} frames: {reason or error}",
                hint="EVIT_VIDEO=software encodes on the processor",
            ) from error

    def _reason(self) -> str:
        """What gst-launch complained about, in one line."""
        if self._errors is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(timeout=_PATIENCE_S)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in lines if "ERROR" in line), "")


def open_writer(path: Path, plan: EncodePlan, **how: Any) -> VideoWriter:
    """The writer for a plan; `how` are the arguments of `VideoWriter`."""
    return BoardWriter(path, plan, **how) if plan.element else VideoWriter(path, **how)
