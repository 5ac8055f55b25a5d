"""The system's OpenSSH client: one connection for all that is done on a board.

It reads ~/.ssh/config, asks the agent, and never asks a person. `EVIT_SSH` names another client or
gives it options (`EVIT_SSH="ssh -F my_config"`), as `GIT_SSH_COMMAND` does for git.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from evit_cli.errors import EvitError, MissingDependency, UsageError

_CONNECT_WITHIN_S = 15
_ALIVE_EVERY_S = 10  # three unanswered questions later the connection is given up
_LONGEST_SOCKET = 80  # sockets take about 104 bytes, and ssh appends 17 while it makes one
SSH_FAILED = 255
"""Exit status of the client when the connection, not the command, failed."""

_NAME = re.compile(r"[^\s@:/\[\]-][^\s@/\[\]]*")
_USER = re.compile(r"[^\s@:/-][^\s@:/]*")

_FAILURES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} is not the one it had before",
        "if the board was installed anew, forget the old key: ssh-keygen -R {known}; if not, "
        "another machine answers in its place",
    ),
    (
        r"Host key verification failed|No .* host key is known|host key is not in the list",
        "the host key of {host} is not known here",
        "connect once by hand and compare the fingerprint: ssh {login}",
    ),
    (
        r"Permission denied|Too many authentication failures|No supported authentication",
        "{host} refused the key{user}",
        "put your key on the board: ssh-copy-id {login}",
    ),
    (
        r"Could not resolve hostname|Name or service not known|not known$",
        "there is no host {host}",
        "check its name, or write its address",
    ),
    (
        r"Connection refused",
        "{host} refuses ssh connections{port}",
        "start its ssh server, or name its port: user@board:PORT",
    ),
    (
        r"No route to host|Network is unreachable|Host is down",
        "there is no way to {host} in this network",
        "check that the board is on and in the same network",
    ),
    (
        r"timed out|Timeout, server|not responding",
        "{host} does not answer",
        "check that the board is on and in the same network",
    ),
)


@dataclass(frozen=True)
class SshTarget:
    """Where to connect to: a name of ~/.ssh/config, a host or an address.

    Attributes:
        host: name or address.
        user: "" for what ~/.ssh/config or the system says.
        port: None for what ~/.ssh/config says.
    """

    host: str
    user: str = ""
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> SshTarget:
        """Read "board", "user@board", "user@board:2222" or "ssh://user@board:2222".

        >>> SshTarget.parse("me@orin.local:2222")
        SshTarget(host='orin.local', user='me', port=2222)

        Raises:
            UsageError: it is none of these.
        """
        wrong = UsageError(
            f"'{text}' is no host", hint="write user@board, user@board:PORT or ssh://user@board"
        )
        rest = text.removeprefix("ssh://").removesuffix("/")
        user, at, place = rest.rpartition("@")
        if at and not _USER.fullmatch(user):
            raise wrong
        bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+(?:%\w+)?)\](?::(\d+))?", place)
        if bracketed:
            host, port = bracketed[1], bracketed[2]
        elif place.count(":") > 1:  # an IPv6 address without its brackets
            host, port = place, None
        else:
            host, colon, digits = place.partition(":")
            port = digits if colon else None
            if not _NAME.fullmatch(host) or port == "":
                raise wrong
        if port is not None and not (port.isdecimal() and 1 <= int(port) <= 65535):
            raise wrong
        if not re.fullmatch(r"[\w:.%-]+", host) or host.startswith("-"):
            raise wrong
        return cls(host, user, None if port is None else int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def login(self) -> str:
        """As it is written behind `ssh`."""
        port = "" if self.port is None else f"-p {self.port} "
        return port + (f"{self.user}@{self.host}" if self.user else self.host)


def ssh_client() -> list[str]:
    """The client and the options it always gets.

    Raises:
        MissingDependency: it is not installed.
    """
    command = shlex.split(os.environ.get("EVIT_SSH") or "ssh")
    if not command or shutil.which(command[0]) is None:
        name = command[0] if command else "ssh"
        raise MissingDependency(
            f"measuring on a board needs the OpenSSH client, and there is no '{name}'",
            hint="install it (Debian, Ubuntu: apt install openssh-client)",
        )
    options = {
        "BatchMode": "yes",  # never ask a person
        "ConnectTimeout": _CONNECT_WITHIN_S,
        "ServerAliveInterval": _ALIVE_EVERY_S,
        "ServerAliveCountMax": 3,
        "LogLevel": "INFO",  # what goes wrong is read from its words
        # What a user's configuration may say for working by hand, and would be in the way here.
        "ClearAllForwardings": "yes",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "RemoteCommand": "none",
        "RequestTTY": "no",
    }
    return [
        *command,
        *(part for key, value in options.items() for part in ("-o", f"{key}={value}")),
    ]


class Ssh:
    """Runs commands on a host, all over the connection of the first; use it as a context.

    Args:
        target: the host.

    Raises:
        MissingDependency: there is no OpenSSH client.
    """

    def __init__(self, target: SshTarget) -> None:
        self.target = target
        self._client = ssh_client()
        self._folder = tempfile.mkdtemp(prefix="evit-ssh-")  # for its owner alone
        socket = str(Path(self._folder) / "c")
        # Windows' client cannot share a connection, and a socket's name may not be long.
        self._shared = os.name == "posix" and len(socket) <= _LONGEST_SOCKET
        self._socket = socket
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Ssh:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(
        self, script: str, *words: str, first: bool = False, feed: bool = False
    ) -> subprocess.Popen[bytes]:
        """Begin a shell script on the host.

        Args:
            script: for a POSIX shell, whatever shell the user has there.
            words: its $1, $2, ...
            first: make the connection that later commands share.
            feed: its standard input is written here; else it is empty.
        """
        command = shlex.join(["sh", "-c", script, "evit", *words])
        sharing = []
        if self._shared:
            master = "yes" if first else "no"
            sharing = ["-o", f"ControlPath={self._socket}", "-o", f"ControlMaster={master}"]
            sharing += ["-o", "ControlPersist=no"]
        port = [] if self.target.port is None else ["-p", str(self.target.port)]
        user = ["-l", self.target.user] if self.target.user else []
        process = subprocess.Popen(
            [*self._client, *sharing, *port, *user, "--", self.target.host, command],
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C is for evit, which then leaves the board in order.
            start_new_session=True,
        )
        self._running.append(process)
        return process


def connection_error(target: SshTarget, said: str, *, began: bool) -> EvitError:
    """What a client that ended with `SSH_FAILED` died of.

    Args:
        target: where it was to connect to.
        said: its standard error.
        began: whether the connection had been there.
    """
    if began:
        return EvitError(
            f"the connection to {target} was lost in the middle",
            hint="the board stops the run and removes its files by itself; try again",
        )
    known = target.host if target.port in (None, 22) else f"'[{target.host}]:{target.port}'"
    user = f" of user {target.user}" if target.user else ""
    port = f" at port {target.port}" if target.port else ""
    for pattern, message, hint in _FAILURES:
        if re.search(pattern, said, re.MULTILINE):
            facts = {"host": target, "known": known, "login": target.login}
            return EvitError(
                message.format(user=user, port=port, **facts), hint=hint.format(**facts)
            )
    reason = last_line(said)
    return EvitError(
        f"no connection to {target}" + (f": {reason}" if reason else ""),
        hint=f"try by hand: ssh {target.login}",
    )


def last_line(text: str, skip: Sequence[str] = ()) -> str:
    """The last line with something in it, without a final full stop."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not any(word in line for word in skip)]
    return lines[-1].rstrip(".") if lines else ""
