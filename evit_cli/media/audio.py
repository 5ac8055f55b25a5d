"""Carries the sound of one file over to another: copied where browsers play it, else as AAC."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from evit_cli.errors import EvitError
from evit_cli.media.video import open_container

COPIED_CODECS = ("aac", "mp3", "opus")
_NOT_IN_MOV = "opus"
_USUAL_LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
"""By number of channels, for files that tell only that."""
_AAC_RATE = 48_000
_AAC_FRAME = 1024


class AudioTrack:
    """The first audio stream of a file, written packet by packet beside a video.

    Args:
        source: the opened input container.
        output: the container to write into, before its first packet.
        start_s: time in the input that becomes zero.

    Raises:
        EvitError: this FFmpeg cannot decode the sound.
    """

    def __init__(self, source: Any, output: Any, start_s: Fraction) -> None:
        self.problem = ""
        """Why the sound ends early; empty if it does not."""
        self._source = source
        self._output = output
        self._start_s = start_s
        stream = source.streams.audio[0]
        if stream.codec_context is None:
            raise EvitError("its format is unknown")
        name = stream.codec_context.codec.canonical_name
        if name in COPIED_CODECS and not (name == _NOT_IN_MOV and output.format.name == "mov"):
            self._stream = output.add_stream_from_template(stream)
            self._packets = self._copy(stream)
        else:
            self._stream = self._aac_stream(stream.codec_context)
            self._packets = self._encode(stream)
        self._next: Any = None
        self._advance()

    @classmethod
    def open(cls, path: Path, output: Any, start_s: Fraction) -> AudioTrack | None:
        """The track of `path`, None if it has no sound.

        Raises:
            EvitError: this FFmpeg cannot decode the sound.
        """
        source = open_container(path)
        if not source.streams.audio:
            source.close()
            return None
        try:
            return cls(source, output, start_s)
        except EvitError:
            source.close()
            raise

    def _aac_stream(self, context: Any) -> Any:
        """A stream for AAC with the channels and, if AAC has it, the rate of what was decoded."""
        known = av.codec.Codec("aac", "w").audio_rates or []
        rate = context.sample_rate if context.sample_rate in known else _AAC_RATE
        layout = context.layout.name
        if layout.endswith(" channels"):
            layout = _USUAL_LAYOUTS[min(context.channels, len(_USUAL_LAYOUTS)) - 1]
        stream = self._output.add_stream("aac", rate=rate)
        stream.layout = layout
        return stream

    def _advance(self) -> None:
        """Get the next packet; damaged sound ends the track."""
        try:
            self._next = next(self._packets, None)
        except av.error.FFmpegError as error:
            self._next = None
            self.problem = str(error.strerror).lower()

    def _copy(self, stream: Any) -> Iterator[Any]:
        shift = round(self._start_s / stream.time_base)
        last = None
        for packet in self._source.demux(stream):
            if packet.dts is None or packet.pts is None or packet.pts < shift:
                continue
            if last is not None and packet.dts <= last:  # no container takes times that go back
                continue
            last = packet.dts
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = self._stream
            yield packet

    def _encode(self, stream: Any) -> Iterator[Any]:
        context = self._stream.codec_context
        resampler = av.AudioResampler(
            format="fltp", layout=context.layout, rate=context.sample_rate, frame_size=_AAC_FRAME
        )
        for packet in self._source.demux(stream):
            frames: list[Any] = []
            with contextlib.suppress(av.error.InvalidDataError):  # a click is better than silence
                frames = packet.decode()
            for frame in frames:
                if frame.pts is None or self._end_of(frame) > self._start_s:
                    yield from self._encoded(resampler, frame)
        yield from self._encoded(resampler, None)
        yield from self._stream.encode(None)

    @staticmethod
    def _end_of(frame: Any) -> Fraction:
        return Fraction(frame.pts * frame.time_base) + Fraction(frame.samples, frame.sample_rate)

    def _encoded(self, resampler: Any, frame: Any) -> Iterator[Any]:
        for resampled in resampler.resample(frame):
            if resampled.pts is not None:
                resampled.pts -= round(self._start_s / resampled.time_base)
            yield from self._stream.encode(resampled)

    def copy_until(self, time_s: Fraction) -> None:
        """Write every packet that begins before `time_s`."""
        while self._next is not None:
            packet = self._next
            if packet.pts is not None and packet.pts * packet.time_base >= time_s:
                return
            self._output.mux(packet)
            self._advance()

    def close(self) -> None:
        """Close the input."""
        self._next = None
        self._source.close()
