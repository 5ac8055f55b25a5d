"""Ctrl-C, SIGTERM and SIGHUP: how a command hears of them, and what SIGTERM becomes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from evit_cli.errors import EXIT_TERMINATED


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which ends a run as Ctrl-C does, with another exit code."""

    exit_code = EXIT_TERMINATED


@contextmanager
def handled(handle: Callable[[type[KeyboardInterrupt]], None]) -> Iterator[None]:
    """Call `handle` with what a signal asks for, while the context is open.

    Only the main thread can do that; in another one nothing changes. SIGHUP is left alone when it
    is ignored already: `nohup` wants the run to go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def receive(number: int, frame: FrameType | None) -> None:
        handle(KeyboardInterrupt if number == signal.SIGINT else Terminated)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = [signal.signal(number, receive) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
