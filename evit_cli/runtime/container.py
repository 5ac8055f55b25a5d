"""Where an artifact carries its own description, format by format, without any runtime's library.

.onnx          a `metadata_props` entry; a protobuf message may be appended to, so it stands last
.xml           OpenVINO's `rt_info`, which its tools keep
.tflite, .engine, .plan
               a zip archive behind the model, as TFLite's own metadata does it
               (`unzip -p model.tflite evit.json` shows it); runtimes do not look behind the model
"""

from __future__ import annotations

import errno
import io
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path

KEY = "evit"
_MEMBER = "evit.json"
_METADATA_PROPS = 14  # ModelProto.metadata_props in onnx.proto
_DAMAGED = (zipfile.BadZipFile, ET.ParseError, LookupError, ValueError, RuntimeError, EOFError)
"""What the standard library raises on damaged archives and XML."""


def write_text(artifact: Path, text: str) -> None:
    """Put `text` into the artifact in place of what evit wrote there before.

    Raises:
        OSError: the file cannot be written.
        ValueError: it is no file of its kind.
    """
    if artifact.suffix == ".xml":
        _write_xml(artifact, text)
        return
    data = artifact.read_bytes()
    if artifact.suffix == ".onnx":
        start, end, _ = _onnx_entry(data)
        body = data[:start]
        # Other programs' fields may follow evit's; the order of fields means nothing.
        tail = data[end:] + _onnx_field(
            _METADATA_PROPS, _onnx_field(1, KEY.encode()) + _onnx_field(2, text.encode())
        )
    else:
        body = data[: model_length(artifact)]
        tail = _zip(text)
    with artifact.open("r+b") as file:
        file.seek(len(body))
        file.write(tail)
        file.truncate()


def read_text(artifact: Path) -> str | None:
    """What `write_text` put there; None if the file carries nothing of evit's or is damaged."""
    try:
        if artifact.suffix == ".xml":
            found = ET.parse(artifact).getroot().find(f"./rt_info/{KEY}")
            return None if found is None else found.get("value")
        if artifact.suffix == ".onnx":
            return _onnx_entry(artifact.read_bytes())[2]
        with zipfile.ZipFile(artifact) as archive:
            entry = archive.getinfo(_MEMBER)
            # evit compresses nothing; what claims so is damaged, and decompressors raise anything.
            stored = entry.compress_type == zipfile.ZIP_STORED
            return archive.read(entry).decode("utf-8") if stored else None
    except _DAMAGED:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # the archive's offsets point before the file
            return None
        raise


def model_length(artifact: Path) -> int:
    """How many bytes of a .tflite or engine file are the model, before evit's archive."""
    size = artifact.stat().st_size
    try:
        with zipfile.ZipFile(artifact) as archive:
            if archive.namelist() != [_MEMBER]:
                return size
            # Offsets count from where the archive begins once what stands before it is skipped.
            return archive.infolist()[0].header_offset
    except _DAMAGED:
        return size
    except OSError as error:
        if error.errno == errno.EINVAL:
            return size
        raise


def _zip(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo(_MEMBER)  # a fixed date: the same model gives the same bytes
        archive.writestr(entry, text)
    return buffer.getvalue()


def _write_xml(artifact: Path, text: str) -> None:
    tree = ET.parse(artifact)
    root = tree.getroot()
    info = root.find("rt_info")
    info = ET.SubElement(root, "rt_info") if info is None else info
    for old in info.findall(KEY):
        info.remove(old)
    ET.SubElement(info, KEY, value=text)
    tree.write(artifact, encoding="utf-8", xml_declaration=True)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _onnx_field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("no protobuf message")
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(start, end, number, payload) of each length-delimited field of a protobuf message."""
    at = 0
    while at < len(data):
        start = at
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _read_varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _read_varint(data, at)
            if at + length > len(data):
                raise ValueError("the protobuf message is cut off")
            yield start, at + length, tag >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError("no protobuf message")


def _onnx_entry(data: bytes) -> tuple[int, int, str | None]:
    """Where evit's entry begins and ends (the file's end, if there is none) and its text."""
    for start, end, number, payload in _fields(data):
        if number == _METADATA_PROPS:
            parts = {key: value for _, _, key, value in _fields(payload)}
            if parts.get(1) == KEY.encode():
                return start, end, parts.get(2, b"").decode("utf-8")
    return len(data), len(data), None
