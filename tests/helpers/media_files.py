"""Makes videos and images with everything that goes wrong in them, and reads them back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

ImageU8 = npt.NDArray[np.uint8]
MILLISECOND = Fraction(1, 1000)
_CODE_ROWS = 8


def numbered(number: int, size_hw: tuple[int, int] = (48, 64)) -> ImageU8:
    """A grey frame whose upper half holds `number` in eight black and white bars."""
    image = np.full((*size_hw, 3), 40 + number * 3 % 160, np.uint8)
    edges = np.linspace(0, size_hw[1], _CODE_ROWS + 1).astype(int)
    for bit in range(_CODE_ROWS):
        image[: size_hw[0] // 2, edges[bit] : edges[bit + 1]] = 255 * (number >> bit & 1)
    return image


def number_of(image: ImageU8) -> int:
    """The number that `numbered` drew, also after compression."""
    edges = np.linspace(0, image.shape[1], _CODE_ROWS + 1).astype(int)
    bars = [image[: image.shape[0] // 2, a:b].mean() > 127 for a, b in pairwise(edges)]
    return sum(1 << bit for bit, white in enumerate(bars) if white)


def corners(size_hw: tuple[int, int] = (64, 96)) -> ImageU8:
    """A picture whose eight ways to lie are all different: red, green, blue and yellow corners."""
    height, width = size_hw
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (250, 10, 10)
    image[: height // 2, width // 2 :] = (10, 250, 10)
    image[height // 2 :, : width // 2] = (10, 10, 250)
    image[height // 2 :, width // 2 :] = (250, 250, 10)
    return image


@dataclass(frozen=True)
class Sound:
    """Silence with one beep in it.

    Attributes:
        codec: FFmpeg's name of the encoder.
        beep_s: when the beep is, on the file's clock.
        start_s: when the track begins, on the file's clock.
        seconds: length of the track.
        rate: samples per second.
        layout: channels.
    """

    codec: str = "aac"
    beep_s: float = 1.0
    start_s: float = 0.0
    seconds: float = 2.0
    rate: int = 48_000
    layout: str = "stereo"

    def packets(self, stream: Any) -> list[Any]:
        """The encoded track."""
        samples = np.zeros(round(self.seconds * self.rate), np.int16)
        begin, length = round((self.beep_s - self.start_s) * self.rate), self.rate // 20
        samples[begin : begin + length] = 20_000 * np.sin(np.arange(length) * 0.3)
        channels = 1 if self.layout == "mono" else 2
        frame = av.AudioFrame.from_ndarray(
            np.repeat(samples, channels)[None], format="s16", layout=self.layout
        )
        frame.sample_rate, frame.pts, frame.time_base = self.rate, 0, Fraction(1, self.rate)
        resampler = av.AudioResampler(
            format=stream.codec_context.format or "s16",
            layout=self.layout,
            rate=self.rate,
            frame_size=960 if self.codec == "libopus" else 1024,
        )
        packets: list[Any] = []
        for part in resampler.resample(frame) + resampler.resample(None):
            part.pts += round(self.start_s * self.rate)
            packets += stream.encode(part)
        return packets + list(stream.encode(None))


def write_video(
    path: Path,
    images: Sequence[ImageU8],
    *,
    rate: Fraction = Fraction(25),
    times: Sequence[Fraction] | None = None,
    start_s: Fraction = Fraction(0),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    sound: Sound | None = None,
    pixel_aspect: Fraction | None = None,
    colorspace: int | None = None,
) -> Path:
    """Encode `images` as any container that FFmpeg knows by its suffix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.options = {"crf": "12"} if options is None else options
        clock = 1 / rate if times is None and start_s == 0 else MILLISECOND
        stream.codec_context.time_base = clock
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if colorspace is not None:
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = colorspace
        audio = None
        if sound is not None:
            audio = container.add_stream(sound.codec, rate=sound.rate)
            audio.layout = sound.layout
        packets: list[Any] = []
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace)
            time_s = (times[number] if times is not None else number / rate) + start_s
            frame.pts, frame.time_base = round(time_s / clock), clock
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if sound is not None:
            packets += sound.packets(audio)
        packets = [packet for packet in packets if packet.dts is not None]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def numbered_video(path: Path, count: int = 20, **how: Any) -> Path:
    """`write_video` of `numbered` frames."""
    size_hw = how.pop("size_hw", (48, 64))
    return write_video(path, [numbered(n, size_hw) for n in range(count)], **how)


def read_video(path: Path) -> list[tuple[Fraction, ImageU8]]:
    """Time and RGB picture of every frame, read without evit."""
    with av.open(str(path)) as container:
        return [
            (frame.pts * frame.time_base, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


def numbers_in(path: Path) -> list[int]:
    """What `numbered` drew into the frames of a video."""
    return [number_of(image) for _, image in read_video(path)]


def beep_in(path: Path) -> float | None:
    """When the beep of a `Sound` begins, in seconds; None if there is no sound track."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        for frame in container.decode(audio=0):
            values = np.abs(frame.to_ndarray().astype(np.float64))
            first = values[0] if frame.format.is_planar else values[0, :: frame.layout.nb_channels]
            if frame.format.name.startswith("s16"):
                first = first / 32768
            loud = np.flatnonzero(first > 0.2)
            if len(loud):
                return float(frame.time) + int(loud[0]) / frame.sample_rate
    return -1.0


def top_boxes(path: Path) -> list[str]:
    """The names of an MP4's outermost boxes, in order."""
    data, position, names = path.read_bytes(), 0, []
    while position + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        names.append(name.decode("latin-1"))
        position += size if size > 1 else len(data)
    return names


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write a display matrix (-1, 0, 1 for each) into the track header, as phones do."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd")
    offset = header + 8 + (32 if data[header + 4] else 20) + 16
    one = 1 << 16
    struct.pack_into(">9i", data, offset, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def damage_packets(path: Path, numbers: Sequence[int], *, keep: int = 8) -> None:
    """Overwrite the coded video packets in a file, but for their first bytes."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for number in numbers:
        position, size = places[number]
        data[position + keep : position + size] = noise.bytes(size - keep)
    path.write_bytes(data)


def _exif(orientation: int, order: str) -> bytes:
    """A TIFF directory with one entry that matters and one that does not."""
    entries = struct.pack(order + "HHIHH", 256, 3, 1, 7, 0)
    entries += struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    mark = b"MM" if order == ">" else b"II"
    return mark + struct.pack(order + "HIH", 42, 8, 2) + entries + bytes(4)


def encoded(image: npt.NDArray[Any], suffix: str, orientation: int | None = None) -> bytes:
    """An RGB, RGBA or grey picture as a file's bytes, with EXIF if there is an orientation."""
    if image.ndim == 3:
        swap = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, swap)
    flags = [cv2.IMWRITE_JPEG_QUALITY, 98] if suffix == ".jpg" else []
    if suffix == ".webp":
        flags = [cv2.IMWRITE_WEBP_QUALITY, 101]  # lossless
    data = bytes(cv2.imencode(suffix, image, flags)[1])
    if orientation is None:
        return data
    exif = _exif(orientation, ">" if orientation % 2 else "<")
    if suffix == ".jpg":
        block = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    if suffix == ".png":
        return _png_with_exif(data, exif)
    return _webp_with_exif(data, exif, image.shape)


def _png_with_exif(data: bytes, exif: bytes) -> bytes:
    import zlib

    chunk = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + chunk + data[33:]  # behind the signature and IHDR


def _webp_with_exif(data: bytes, exif: bytes, shape: tuple[int, ...]) -> bytes:
    position, chunks = 12, []
    while position < len(data):
        (size,) = struct.unpack_from("<I", data, position + 4)
        end = position + 8 + size + size % 2
        if data[position : position + 4] != b"VP8X":
            chunks.append(data[position:end])
        position = end
    flags = 0x08 | (0x10 if len(shape) == 3 and shape[2] == 4 else 0)
    sizes = (shape[1] - 1).to_bytes(3, "little") + (shape[0] - 1).to_bytes(3, "little")
    header = b"VP8X" + struct.pack("<II", 10, flags) + sizes
    chunks.append(b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2))
    body = b"WEBP" + header + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body
