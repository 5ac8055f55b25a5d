"""One client's connection: writing without waiting for ever, and leaving in good order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

_SEND_BUFFER = 256 << 10
"""Of the kernel, per client: by default it would hold seconds of old frames for a slow one."""
_MOST_CHATTER = 64 << 10
"""Bytes that a client may send after its request."""
_LINGER_S = 1.0


def prepare(writer: asyncio.StreamWriter) -> None:
    """Let `flush` wait for the last byte, and the kernel hold little."""
    writer.transport.set_write_buffer_limits(high=0)
    connection: Any = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def unsent(writer: asyncio.StreamWriter) -> int:
    """Bytes that the kernel did not take yet."""
    return writer.transport.get_write_buffer_size()


def address_of(writer: asyncio.StreamWriter) -> str:
    """Who is at the other end."""
    return str((writer.get_extra_info("peername") or ("",))[0])


async def flush(writer: asyncio.StreamWriter, stuck_s: float) -> None:
    """Wait until everything is with the kernel.

    Raises:
        OSError: the client is gone, or took no byte for `stuck_s`.
    """
    while True:
        before = unsent(writer)
        try:
            await asyncio.wait_for(writer.drain(), stuck_s)
            return
        except asyncio.TimeoutError:
            if unsent(writer) >= before:
                raise ConnectionAbortedError from None


async def listen_on(reader: asyncio.StreamReader) -> None:
    """Read what nobody asked for, until the client goes away or says too much."""
    heard = 0
    with contextlib.suppress(OSError):
        while heard < _MOST_CHATTER and (said := await reader.read(4096)):
            heard += len(said)


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait for the client's end: closing on unread bytes would take the answer from it."""
    writer.write_eof()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(listen_on(reader), _LINGER_S)
