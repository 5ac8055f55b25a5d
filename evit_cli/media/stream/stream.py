"""A run's drawn frames, open to watch."""

from __future__ import annotations

from evit_cli.media.stream.address import is_loopback, listen, parse_address, shown_url
from evit_cli.media.stream.door import Door
from evit_cli.media.stream.encoder import Draw
from evit_cli.media.stream.limits import Limits
from evit_cli.media.stream.server import StreamServer
from evit_cli.media.stream.status import Status


class FrameStream:
    """Serves frames at an address, from the moment that it is made.

    The run that offers frames is never held up: drawing, encoding and sending happen elsewhere,
    and only while somebody watches.

    Args:
        address: `http://HOST:PORT`; port 0 is a free one.
        token: what clients must know; elsewhere than on loopback one is made if it is None.
        limits: what clients may do.

    Attributes:
        url: of the status page; with the token in it if that was made here.

    Raises:
        UsageError: the address or the token cannot be used.
        EvitError: the port is taken.

    Example:
        >>> with FrameStream("http://127.0.0.1:0") as stream:  # doctest: +SKIP
        ...     stream.offer(lambda: image_rgb_u8, model_ms=12.0)
    """

    def __init__(
        self, address: str, *, token: str | None = None, limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        wanted = parse_address(address)
        if token is not None:
            Door(token, loopback=True)  # before the port is taken
        listener = listen(wanted)
        door = Door(token, loopback=is_loopback(listener.getsockname()[0]))
        self.url = shown_url(wanted, listener)
        if door.made:
            self.url += f"?token={door.token}"
        self._status = Status(limits.stalled_s)
        self._server = StreamServer(listener, door=door, status=self._status, limits=limits)

    def describe(self, **facts: str) -> None:
        """What runs, for the status page: "model", "backend", "source" and the like."""
        self._status.facts = {**self._status.facts, **facts}

    def offer(self, draw: Draw, *, model_ms: float, source_dropped: int = 0) -> None:
        """Show a newer frame; takes microseconds.

        Args:
            draw: makes the (H, W, 3) RGB picture. It is called in another thread, at most once,
                and only if somebody watches and nothing newer has come.
            model_ms: what the model took for it, milliseconds.
            source_dropped: frames that the source has lost so far.
        """
        self._status.count(model_ms, source_dropped)
        self._server.encoder.offer(draw)

    @property
    def problem(self) -> str:
        """Why a frame could not be shown; empty if all is well."""
        return self._server.encoder.problem

    def close(self) -> None:
        """Let clients have the newest frame, then end. May be called twice."""
        self._server.close()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_stream(
    address: str, *, token: str | None = None, limits: Limits | None = None
) -> FrameStream:
    """A stream at an address; see `FrameStream`."""
    return FrameStream(address, token=token, limits=limits)
