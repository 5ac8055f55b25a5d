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

DEFAULT_RATE = Fraction(30)
_NETWORK_TIMEOUT_S = 10.0


def frame_to_rgb(frame: av.VideoFrame) -> ImageU8:
    """An upright (H, W, 3) uint8 RGB copy of a decoded frame, by the frame's own colour tags."""
    image = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def open_container(url: str | Any, **options: Any) -> Any:
    """`av.open` with one sentence for each way it fails.

    Raises:
        EvitError: the file or address cannot be opened or is not a video.
    """
    name = url if isinstance(url, str) else "the stream"
    try:
        return av.open(url, **options)
    except av.error.FileNotFoundError as error:
        raise EvitError(f"{name} does not exist") from error
    except av.error.InvalidDataError as error:
        raise EvitError(f"{name} is not a video or image that can be read") from error
    except (av.error.FFmpegError, OSError) as error:
        reason = (error.strerror or str(error)).lower()
        raise EvitError(f"{name} cannot be opened: {reason}") from error


class VideoSource:
    """A video file, or anything else that FFmpeg can open.

    Args:
        url: path, address or a readable binary file object.
        name: what to call it.
        kind: VIDEO, or LIVE for streams that do not wait.
        options: FFmpeg options of the demuxer.
        container_format: FFmpeg's format name where it cannot be probed.

    Raises:
        EvitError: it cannot be opened, or holds no video.
    """

    def __init__(
        self,
        url: str | Any,
        *,
        name: str,
        kind: SourceKind = SourceKind.VIDEO,
        options: dict[str, str] | None = None,
        container_format: str | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.path = Path(url) if isinstance(url, str) and Path(url).is_file() else None
        self.skipped = Problems()
        self.dropped = 0
        self.start_s = Fraction(0)
        """The file's own time of the first frame, which becomes time zero."""
        self._stopped = False
        self._container = open_container(
            url,
            options=options or {},
            format=container_format,
            timeout=None if self.path else _NETWORK_TIMEOUT_S,
        )
        if not self._container.streams.video:
            self._container.close()
            raise EvitError(f"{name} holds no video")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.rate: Fraction | None = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
        self.frame_count = None if kind is SourceKind.LIVE else self._expected_frames(stream)

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
        stream = self._container.streams.video[0]
        packets = self._container.demux(stream)
        number = 0
        while not self._stopped:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.error.FFmpegError as error:
                if self._stopped:
                    return
                self.skipped.add(f"reading stopped after packet {number}: {error.strerror}")
                return
            number += 1
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                self.skipped.add(f"packet {number} cannot be decoded: {error.strerror}")
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.skipped.add(f"the frame at {float(frame.time or 0):.3f} s is corrupt")
                else:
                    yield frame

    def frames(self) -> Iterator[Frame]:
        """Decoded frames with exact times; times that are missing are filled from the rate."""
        step = 1 / (self.rate or DEFAULT_RATE)
        last = -step
        try:
            for index, frame in enumerate(self._decoded()):
                if frame.pts is None:
                    time_s = last + step
                else:
                    shown = frame.pts * Fraction(frame.time_base or 1)
                    if last < 0:
                        self.start_s = shown
                    time_s = shown - self.start_s
                    if time_s <= last:  # broken timestamps: keep the order
                        time_s = last + step
                last = time_s
                yield Frame(frame_to_rgb(frame), index, self.name, time_s=time_s)
        finally:
            with contextlib.suppress(av.error.FFmpegError):
                self._container.close()

    @property
    def stopped(self) -> bool:
        """Whether `close` was called."""
        return self._stopped

    def close(self) -> None:
        """Ask the reading to end after the current packet."""
        self._stopped = True
