"""A board on loopback: an ssh server with its own home folder, OpenSSH's or asyncssh's.

The client reaches it through a relay, so that a test can cut the cable.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

KINDS = ("openssh", "asyncssh")
_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def any_kind() -> str:
    """The kind of server that can be had, OpenSSH's if it is installed."""
    return "openssh" if os.access(_SSHD, os.X_OK) else "asyncssh"


@dataclass
class SshBoard:
    """What a test has of it.

    Attributes:
        folder: where all its files are.
        port: the relay's, which the client knows.
        home: the home folder there; `home / "bin"` comes first in PATH.
        tmp: its $TMPDIR.
        relay: between client and server.
    """

    folder: Path
    port: int
    relay: Relay
    home: Path = field(init=False)
    tmp: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home, self.tmp = self.folder / "home", self.folder / "tmp"

    @property
    def target(self) -> str:
        """What the user writes."""
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def client(self, *, known: str = "host", key: str = "client") -> str:
        """A value for EVIT_SSH: the real client with its own files.

        Args:
            known: the key that the client expects of the host: "host", "other", or "" for none.
            key: the key it shows: "client", or "other", which the server does not take.
        """
        hosts = self.folder / f"known_{known or 'none'}"
        text = ""
        if known:
            kind, public, *_ = (self.folder / f"{known}.pub").read_text().split()
            text = f"[127.0.0.1]:{self.port} {kind} {public}\n"
        hosts.write_text(text)
        config = self.folder / f"config_{known}_{key}"
        config.write_text(
            "IdentitiesOnly yes\nIdentityAgent none\nGlobalKnownHostsFile /dev/null\n"
            f"UserKnownHostsFile {hosts}\nIdentityFile {self.folder / key}\n"
        )
        return f"ssh -F {config}"

    def install(self, name: str, script: str) -> Path:
        """Put a program into the board's PATH."""
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
        return path

    def left_behind(self) -> list[Path]:
        """What is in its folder for temporary files."""
        return sorted(self.tmp.iterdir())


class Relay:
    """Passes bytes between a port of its own and the server's."""

    def __init__(self, to: int) -> None:
        self._to, self._ends = to, list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections, for both sides."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
        """Take no more."""
        self._listener.close()
        self.cut()


@contextmanager
def ssh_board(folder: Path, kind: str) -> Iterator[SshBoard]:
    """A running board; the test is skipped where its server is not installed."""
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs the OpenSSH client")
    for name in ("home/bin", "tmp"):
        (folder / name).mkdir(parents=True)
    for name in ("host", "other", "client"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    (folder / "authorized").write_text((folder / "client.pub").read_text())
    run = {"openssh": _openssh, "asyncssh": _asyncssh}[kind]
    with run(folder) as port:
        relay = Relay(port)
        try:
            yield SshBoard(folder, relay.port, relay)
        finally:
            relay.close()


def _environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'home' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return {"HOME": str(folder / "home"), "PATH": path, "TMPDIR": str(folder / "tmp")}


@contextmanager
def _openssh(folder: Path) -> Iterator[int]:
    if not os.access(_SSHD, os.X_OK):
        pytest.skip("needs sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it will not start without
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nSetEnv "
        + " ".join(f'"{name}={value}"' for name, value in _environment(folder).items())
        + "\n"
    )
    words = [_SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(port, lambda: server.poll() is None)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, alive: Any) -> None:
    for _ in range(100):
        assert alive(), "the ssh server did not start"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("the ssh server does not listen")


@contextmanager
def _asyncssh(folder: Path) -> Iterator[int]:
    asyncssh = pytest.importorskip("asyncssh")
    loop = asyncio.new_event_loop()
    environment = _environment(folder)

    async def handle(process: Any) -> None:
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", process.command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment, start_new_session=True, cwd=folder / "home",
        )  # fmt: skip
        feeding = asyncio.create_task(_pump(process.stdin, child.stdin, close=True))
        await asyncio.gather(
            _pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr)
        )
        code = await child.wait()
        feeding.cancel()
        process.exit(code if code >= 0 else 128 - code)

    async def serve() -> Any:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[str(folder / "host")],
            authorized_client_keys=str(folder / "authorized"),
            process_factory=handle,
            encoding=None,
        )

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    try:
        yield server.get_port()
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _pump(come: Any, go: Any, *, close: bool = False) -> None:
    """Pass bytes on until one side ends."""
    with suppress(Exception):  # whatever asyncssh or the pipe calls it
        while data := await come.read(65536):
            go.write(data)
            await go.drain()
    if close:
        go.close()


async def _end(server: Any) -> None:
    server.close()
    await server.wait_closed()
    mine = asyncio.all_tasks() - {asyncio.current_task()}
    for task in mine:
        task.cancel()
    await asyncio.gather(*mine, return_exceptions=True)
    await asyncio.sleep(0.1)  # the pipes of children close in the next turns of the loop
