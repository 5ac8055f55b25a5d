"""What a stream puts up with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much clients may ask for, and how long they may take.

    Attributes:
        watchers: clients that get the stream at the same time.
        spare: connections beside them, for pages, metrics and refusals.
        request_bytes: length of a request with its headers.
        header_s: seconds in which a request must be there.
        stuck_s: a client that takes no byte for so many seconds is cut off.
        stalled_s: without a new frame for so long, the run counts as stalled.
        farewell_s: seconds that clients get to read the rest when the run ends.
    """

    watchers: int = 64
    spare: int = 64
    request_bytes: int = 8 << 10
    header_s: float = 10.0
    stuck_s: float = 10.0
    stalled_s: float = 10.0
    farewell_s: float = 2.0
