"""The stream over HTTP: one thread for all clients, so that many of them do not cost many threads.

A write never waits for a client: what its socket does not take stays in a buffer of one frame, and
while something is in there the client gets no newer frame.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any

from evit_cli.media.stream.connection import (
    address_of,
    flush,
    linger,
    listen_on,
    prepare,
    unsent,
)
from evit_cli.media.stream.door import Door
from evit_cli.media.stream.encoder import BOUNDARY, Encoder, Jpeg
from evit_cli.media.stream.limits import Limits
from evit_cli.media.stream.pages import Pages
from evit_cli.media.stream.request import Answer, Refused, Request, head, json_answer, read_request
from evit_cli.media.stream.status import Status
from evit_cli.media.stream.watchers import Watchers

_JOIN_S = 5.0


class StreamServer:
    """Answers clients of a listening socket, in a thread of its own.

    Args:
        listener: it is closed at the end.
        door: lets requests in.
        status: of the run.
        limits: what clients may do.
    """

    def __init__(
        self, listener: socket.socket, *, door: Door, status: Status, limits: Limits
    ) -> None:
        self._door, self._traffic, self._limits = door, status.traffic, limits
        self._newest: Jpeg | None = None
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # only ui prints
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="evit-stream", daemon=True
        )
        self.encoder = Encoder(self._publish)
        self._watchers = Watchers(self.encoder, status.traffic, limits.watchers)
        self._pages = Pages(status, self._watchers, self.encoder, door.token)
        self._connections: set[asyncio.Task[Any]] = set()
        self._thread.start()
        self._server: asyncio.Server = self._do(
            asyncio.start_server(self._connected, sock=listener, limit=limits.request_bytes)
        )

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Let clients have the newest frame, then end; may be called twice."""
        if not self._thread.is_alive():
            return
        try:
            self.encoder.finish(self._limits.farewell_s)
            self._do(self._end())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_JOIN_S)
            if not self._thread.is_alive():
                self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        self._publish_newest()
        self._watchers.end()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=self._limits.farewell_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _publish(self, jpeg: Jpeg) -> None:
        """From the encoder's thread. Only the newest frame waits for a server that is busy."""
        with self._lock:
            idle, self._newest = self._newest is None, jpeg
        if idle:
            self._loop.call_soon_threadsafe(self._publish_newest)

    def _publish_newest(self) -> None:
        with self._lock:
            jpeg, self._newest = self._newest, None
        if jpeg is not None:
            self._watchers.publish(jpeg)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) > self._limits.watchers + self._limits.spare:
                self._traffic.refused[503] += 1
            else:
                await self._converse(reader, writer)
        except (OSError, EOFError):
            pass  # the client went away, or was cut off
        finally:
            self._connections.discard(task)
            # What is still unsent is of no use to anybody; a closed socket loses nothing else.
            writer.transport.abort() if unsent(writer) else writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        prepare(writer)
        only_head, extra = False, dict[str, str]()
        try:
            request = await read_request(reader, self._limits.header_s)
            self._door.check(request)
            only_head = request.only_head
            if request.path == "/stream.mjpg" and not only_head:
                await self._stream(reader, writer)
                return
            answer = await self._answer(request, writer)
        except Refused as refused:
            self._traffic.refused[refused.status] += 1
            said = {"error": refused.message}
            answer, extra = json_answer(said, refused.status), refused.headers
        about = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body))}
        writer.write(head(answer.status, about | extra, shared=self._door.token is not None))
        writer.write(b"" if only_head else answer.body)
        await flush(writer, self._limits.stuck_s)
        await linger(reader, writer)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> Answer:
        if request.path == "/stream.mjpg":
            return Answer(f"multipart/x-mixed-replace; boundary={BOUNDARY}", b"")
        if request.path == "/snapshot.jpg":
            return await self._snapshot(address_of(writer))
        found = self._pages.find(request.path)
        if found is None:
            raise Refused(404, "there is no such page")
        return found

    async def _snapshot(self, address: str) -> Answer:
        guest = self._watchers.join(address, for_one=True)
        try:
            jpeg = await asyncio.wait_for(guest.next(), self._limits.stalled_s)
        except asyncio.TimeoutError:
            jpeg = None
        finally:
            self._watchers.leave(guest)
        if jpeg is None:
            raise Refused(503, "there is no frame yet", {"Retry-After": "2"})
        return Answer("image/jpeg", jpeg.data)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        watcher = self._watchers.join(address_of(writer))
        listening = asyncio.ensure_future(listen_on(reader))
        listening.add_done_callback(lambda _: watcher.end())
        try:
            about = {"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"}
            writer.write(head(200, about, shared=self._door.token is not None))
            writer.write(f"--{BOUNDARY}\r\n".encode())
            await flush(writer, self._limits.stuck_s)
            while not listening.done() and (jpeg := await watcher.next()) is not None:
                writer.write(jpeg.part)
                del jpeg  # a slow client must not hold it twice
                await flush(writer, self._limits.stuck_s)
                self._watchers.sent(watcher)
        finally:
            listening.cancel()
            self._watchers.leave(watcher)
