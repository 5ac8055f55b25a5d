"""Boards to measure on: ssh servers on loopback."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.adb_standin import AdbStandin
from tests.helpers.ssh_server import KINDS, SshBoard, any_kind, ssh_board


@pytest.fixture(scope="package", autouse=True)
def signals_that_arrive() -> Iterator[None]:
    """What runs under nohup or in a script's background ignores them, and so do its children."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in usual}
    for number, handler in usual.items():
        if before[number] is signal.SIG_IGN:
            signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module", params=KINDS)
def each_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshBoard]:
    with ssh_board(tmp_path_factory.mktemp("board") / request.param, request.param) as running:
        yield running


@pytest.fixture(scope="module")
def any_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBoard]:
    with ssh_board(tmp_path_factory.mktemp("board") / "any", any_kind()) as running:
        yield running


@contextmanager
def fresh(server: SshBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshBoard]:
    monkeypatch.setenv("EVIT_SSH", server.client())
    yield server
    assert server.left_behind() == []
    for program in (server.home / "bin").iterdir():
        program.unlink()


@pytest.fixture
def board(any_server: SshBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshBoard]:
    with fresh(any_server, monkeypatch) as clean:
        yield clean


@pytest.fixture
def each_board(each_server: SshBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshBoard]:
    """For what may depend on the server: a test runs once against OpenSSH's and once more."""
    with fresh(each_server, monkeypatch) as clean:
        yield clean


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdbStandin:
    return AdbStandin(tmp_path / "adb", monkeypatch)
