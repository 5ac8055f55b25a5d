"""Carries the sound of one file over to another: copied where MP4 can hold it, else as AAC."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from evit_cli.media.video import open_container

COPIED_CODECS = ("aac", "mp3", "ac3", "eac3", "alac", "opus")


class AudioTrack:
    """The first audio stream of a file, written packet by packet beside a video.

    Args:
        source: the opened input container.
        output: the container to write into, before its first packet.
        start_s: time in the input that becomes zero.
    """

    def __init__(self, source: Any, output: Any, start_s: Fraction) -> None:
        self._source = source
        self._output = output
        self._start_s = start_s
        stream = source.streams.audio[0]
        self._copied = stream.codec_context.name in COPIED_CODECS
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            self._stream = output.add_stream("aac", rate=stream.codec_context.sample_rate)
            self._stream.layout = stream.codec_context.layout
        self._packets = self._copy(stream) if self._copied else self._encode(stream)
        self._next: Any = next(self._packets, None)

    @classmethod
    def open(cls, path: Path, output: Any, start_s: Fraction) -> AudioTrack | None:
        """The track of `path`, None if it has no sound."""
        source = open_container(str(path))
        if not source.streams.audio:
            source.close()
            return None
        return cls(source, output, start_s)

    def _copy(self, stream: Any) -> Iterator[Any]:
        shift = round(self._start_s / stream.time_base)
        for packet in self._source.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts -= shift
            packet.dts -= shift
            if packet.pts >= 0:
                packet.stream = self._stream
                yield packet

    def _encode(self, stream: Any) -> Iterator[Any]:
        context = self._stream.codec_context
        resampler = av.AudioResampler(
            format=context.format or "fltp", layout=stream.codec_context.layout,
            rate=stream.codec_context.sample_rate, frame_size=1024,
        )  # fmt: skip
        for frame in self._source.decode(stream):
            for resampled in resampler.resample(frame):
                clock = Fraction(resampled.time_base or 1)
                resampled.pts = (resampled.pts or 0) - round(self._start_s / clock)
                yield from self._stream.encode(resampled)
        for resampled in resampler.resample(None):
            yield from self._stream.encode(resampled)
        yield from self._stream.encode(None)

    def copy_until(self, time_s: Fraction) -> None:
        """Write every packet that begins before `time_s`; damaged sound ends the track there."""
        while self._next is not None:
            packet = self._next
            if packet.pts is not None and packet.pts * packet.time_base >= time_s:
                return
            self._output.mux(packet)
            try:
                self._next = next(self._packets, None)
            except av.error.FFmpegError:
                self._next = None

    def close(self) -> None:
        """Close the input."""
        self._next = None
        self._source.close()
