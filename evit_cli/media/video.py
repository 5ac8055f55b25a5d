"""Video files and network streams, decoded with PyAV (FFmpeg's libraries)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, ImageU8, Problems, SourceKind
from evit_cli.media.upright import UPRIGHT, Turn, display_turn, turned

DEFAULT_RATE = Fraction(30)
FASTEST_RATE = 1000
"""Streams that do not know their rate give that of their clock."""
_NETWORK_TIMEOUT_S = 10.0
_TEXT_ART = ("tty", "bin", "xbin", "adf", "idf")
"""FFmpeg draws text files and anything called .bin, as terminals once did."""


def frame_to_rgb(frame: av.VideoFrame, turn: Turn = UPRIGHT) -> ImageU8:
    """An upright (H, W, 3) uint8 RGB copy of a decoded frame, by the frame's own colour tags."""
    return turned(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), turn)


def _why(error: BaseException) -> str:
    """FFmpeg's reason, in small letters."""
    if isinstance(error, av.error.ExitError):  # how PyAV ends a read that took too long
        return "it does not answer"
    return str(getattr(error, "strerror", None) or error).lower()


def open_container(url: str | Path | Any, *, shown: str = "the stream", **options: Any) -> Any:
    """`av.open` with one sentence for each way it fails.

    Args:
        url: a path, an address or a binary file object.
        shown: what to call it if it is not a path.
        options: those of `av.open`.

    Raises:
        EvitError: the file or address cannot be opened or is not a video.
    """
    if isinstance(url, Path):
        # With "file:", a name such as 12:30.mp4 is not taken for a protocol.
        url, shown = f"file:{url}", str(url)
    try:
        container = av.open(url, **options)
    except av.error.FileNotFoundError as error:
        raise EvitError(f"{shown} does not exist") from error
    except av.error.InvalidDataError as error:
        raise _unreadable(shown) from error
    except (av.error.FFmpegError, OSError) as error:
        raise EvitError(f"{shown} cannot be opened: {_why(error)}") from error
    if container.format.name in _TEXT_ART:
        container.close()
        raise _unreadable(shown)
    return container


def _unreadable(shown: str) -> EvitError:
    return EvitError(
        f"{shown} is not a video or image that can be read",
        hint="is it whole? copy or record it again if `ffprobe` cannot read it either",
    )


def _video_stream(container: Any, shown: str) -> Any:
    """The first stream of moving pictures; the covers of music files are not.

    Raises:
        EvitError: there is none, or this FFmpeg cannot decode it.
    """
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        raise EvitError(f"{shown} holds no video")
    if streams[0].codec_context is None:
        raise EvitError(
            f"{shown} is in a video format that this FFmpeg cannot decode",
            hint="convert it to H.264 first",
        )
    return streams[0]


class VideoSource:
    """A video file, or anything else that FFmpeg can open.

    Args:
        url: path, address or a readable binary file object.
        name: what to call it.
        kind: VIDEO, or LIVE for streams that do not wait.
        options: FFmpeg options of the demuxer.
        container_format: FFmpeg's format name where it cannot be probed.
        shown: the address as messages may show it: without a password.

    Raises:
        EvitError: it cannot be opened, or holds no video.
    """

    def __init__(
        self,
        url: str | Path | Any,
        *,
        name: str,
        kind: SourceKind = SourceKind.VIDEO,
        options: dict[str, str] | None = None,
        container_format: str | None = None,
        shown: str | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        is_path = isinstance(url, Path) or (isinstance(url, str) and "://" not in url)
        self.path = Path(url) if is_path and Path(url).is_file() else None
        self.skipped = Problems()
        self.dropped = 0
        self.notes: list[str] = []
        """What the user should know of how it was opened."""
        self.start_s = Fraction(0)
        """The file's own time of the first frame, which becomes time zero."""
        self._reading = self._stopped = False
        self._container = open_container(
            self.path or url,
            shown=shown or name,
            options=options or {},
            format=container_format,
            timeout=None if self.path else _NETWORK_TIMEOUT_S,
        )
        try:
            stream = _video_stream(self._container, str(self.path or shown or name))
        except EvitError:
            self._container.close()
            raise
        # Decoding several frames at once is fastest, but each of them would be a frame of delay.
        stream.thread_type = "SLICE" if kind is SourceKind.LIVE else "AUTO"
        self._stream = stream
        rate = stream.average_rate or stream.guessed_rate
        self.rate: Fraction | None = rate if rate and rate <= FASTEST_RATE else DEFAULT_RATE
        self.pixel_aspect: Fraction | None = stream.sample_aspect_ratio or None
        """Width of a pixel by its height, upright from the first frame on; None means square."""
        self.frame_count = None if kind is SourceKind.LIVE else self._expected_frames(stream)
        self.codec = str(stream.codec_context.name)
        """FFmpeg's name, "h264" for example."""
        self.container_format = str(self._container.format.name)
        self.is_finite = bool(self._container.duration)
        """Whether it says how long it is: a recording, even if it comes over RTSP."""

    def _expected_frames(self, stream: Any) -> int | None:
        if stream.frames:
            return int(stream.frames)
        if stream.duration and stream.time_base and self.rate:
            return round(Fraction(stream.duration * stream.time_base) * self.rate)
        if self._container.duration and self.rate:
            return round(Fraction(self._container.duration, av.time_base) * self.rate)
        return None

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames that decode; what does not is noted, and reading goes on behind it."""
        packets = self._container.demux(self._stream)
        number = 0
        while not self._stopped:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.error.FFmpegError as error:
                if not self._stopped:
                    self.skipped.end(f"reading stopped after packet {number}: {_why(error)}")
                return
            number += 1
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                self.skipped.add(f"packet {number} cannot be decoded: {_why(error)}")
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.skipped.add(f"the frame at {float(frame.time or 0):.3f} s is corrupt")
                else:
                    yield frame

    def first_frame(self) -> av.VideoFrame | None:
        """The first frame that decodes, to be looked at; reading begins behind it."""
        return next(self._decoded(), None)

    def frames(self) -> Iterator[Frame]:
        """Decoded frames with exact times; times that are missing are filled from the rate."""
        self._reading = True
        step = 1 / (self.rate or DEFAULT_RATE)
        started = False
        last = -step
        turn = UPRIGHT
        try:
            for index, frame in enumerate(self._decoded()):
                time_s = last + step
                if frame.pts is not None:
                    shown = frame.pts * Fraction(frame.time_base or 1)
                    if not started:
                        self.start_s, started = shown - time_s, True
                    if shown - self.start_s > last:  # else the clock jumped: keep the order
                        time_s = shown - self.start_s
                last = time_s
                if index == 0:
                    # Once: looking at a frame's side data keeps the frame until the next garbage
                    # collection, which would be hundreds of frames.
                    turn = display_turn(frame)
                    if self.pixel_aspect and turn.transpose:
                        self.pixel_aspect = 1 / self.pixel_aspect
                yield Frame(frame_to_rgb(frame, turn), index, self.name, time_s=time_s)
        finally:
            self._close_container()

    def _close_container(self) -> None:
        with contextlib.suppress(av.error.FFmpegError):
            self._container.close()

    @property
    def stopped(self) -> bool:
        """Whether `close` was called."""
        return self._stopped

    def close(self) -> None:
        """Ask the reading to end after the current packet."""
        self._stopped = True
        if not self._reading:
            self._close_container()
