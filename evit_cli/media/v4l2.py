"""Which pixel formats a V4L2 camera offers, asked of the kernel (linux/videodev2.h)."""

from __future__ import annotations

import os
import struct

_ENUM_FMT = 0xC0405602
"""VIDIOC_ENUM_FMT: _IOWR('V', 2, struct v4l2_fmtdesc), which is 64 bytes on every platform."""
_FORMAT = struct.Struct("<3I32sI4I")
_CAPTURE = 1
_MOST = 64


def pixel_formats(device: str) -> tuple[str, ...]:
    """The four letters of each format ("MJPG", "YUYV"), () if the device does not tell.

    The device is only asked, not started, so that another program may be using it.
    """
    try:
        import fcntl

        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except (ImportError, OSError):
        return ()
    found: list[str] = []
    try:
        for index in range(_MOST):
            question = bytearray(_FORMAT.pack(index, _CAPTURE, 0, b"", 0, 0, 0, 0, 0))
            fcntl.ioctl(handle, _ENUM_FMT, question)
            found.append(_letters(_FORMAT.unpack(question)[4]))
    except OSError:  # EINVAL is the end of the list, ENOTTY is no camera
        pass
    finally:
        os.close(handle)
    return tuple(found)


def _letters(code: int) -> str:
    return struct.pack("<I", code & 0x7FFFFFFF).decode("latin-1").strip()
