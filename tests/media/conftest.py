from __future__ import annotations

import pytest

from evit_cli.media import rules


@pytest.fixture
def without_reconnecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live source that ends has ended, and silence is left to FFmpeg's own limits."""
    monkeypatch.setenv(rules.RECONNECT, "0")
    monkeypatch.setenv(rules.STALL, "0")
