"""Boards to measure on: ssh servers on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.adb_standin import AdbStandin
from tests.helpers.ssh_server import KINDS, SshBoard, any_kind, ssh_board


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
