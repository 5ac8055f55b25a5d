"""Clients of the stream: each has room for one frame, and the newest wins."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from evit_cli.media.stream.encoder import Encoder, Jpeg
from evit_cli.media.stream.request import Refused
from evit_cli.media.stream.status import Traffic


class Watcher:
    """One client, in the server's thread.

    Attributes:
        address: of the client.
        since: when it came, on the monotonic clock.
        sent: frames that it got.
        dropped: frames that it was too slow for.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.since = time.monotonic()
        self.sent = self.dropped = 0
        self._slot: Jpeg | None = None
        self._number = 0
        self._changed = asyncio.Event()
        self._ended = False

    def give(self, jpeg: Jpeg) -> bool:
        """Offer a frame; tells whether it took the place of one that was not fetched."""
        if jpeg.number <= self._number:
            return False
        overtaken = self._slot is not None
        self.dropped += overtaken
        self._slot, self._number = jpeg, jpeg.number
        self._changed.set()
        return overtaken

    def end(self) -> None:
        """No frame will come after the one that is there."""
        self._ended = True
        self._changed.set()

    async def next(self) -> Jpeg | None:
        """Wait for a frame; None when there will be none."""
        while self._slot is None and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        jpeg, self._slot = self._slot, None
        return jpeg


class Watchers:
    """All clients, in the server's thread.

    Args:
        encoder: makes frames while there is somebody.
        traffic: where to count.
        most: how many there may be.
    """

    def __init__(self, encoder: Encoder, traffic: Traffic, most: int) -> None:
        self._encoder, self._traffic, self.most = encoder, traffic, most
        self._all: set[Watcher] = set()
        self._guests: set[Watcher] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._all)

    def join(self, address: str, *, for_one: bool = False) -> Watcher:
        """Let a client in; it gets the newest frame at once.

        Args:
            address: of the client.
            for_one: it comes for one frame only and is not counted.

        Raises:
            Refused: there are too many.
        """
        if not for_one and len(self._all) >= self.most:
            raise Refused(503, f"{self.most} clients watch already", {"Retry-After": "10"})
        watcher = Watcher(address)
        (self._guests if for_one else self._all).add(watcher)
        self._traffic.clients += not for_one
        self._encoder.want(1)
        current = self._encoder.current()
        if current is not None:
            watcher.give(current)
        if self._ended:
            watcher.end()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """A client has gone."""
        self._all.discard(watcher)
        self._guests.discard(watcher)
        self._encoder.want(-1)

    def publish(self, jpeg: Jpeg) -> None:
        """Give everybody a frame."""
        for watcher in self._guests:
            watcher.give(jpeg)
        for watcher in self._all:
            self._traffic.dropped += watcher.give(jpeg)

    def sent(self, watcher: Watcher) -> None:
        """A client got its frame."""
        watcher.sent += 1
        self._traffic.sent += 1

    def end(self) -> None:
        """The run is over."""
        self._ended = True
        for watcher in (*self._all, *self._guests):
            watcher.end()

    def rows(self) -> list[dict[str, Any]]:
        """Each client as plain values."""
        now = time.monotonic()
        return [
            {
                "address": one.address,
                "seconds": round(now - one.since, 1),
                "sent": one.sent,
                "dropped": one.dropped,
            }
            for one in sorted(self._all, key=lambda one: one.since)
        ]
