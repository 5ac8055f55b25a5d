"""Where a stream listens, and the address that others find it by."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from evit_cli.errors import EvitError, UsageError

_EXAMPLE = "for example http://127.0.0.1:8080, or port 0 for a free one"
_ELSEWHERE = ("192.0.2.1", 9)
"""An address of nobody (RFC 5737): no packet is sent to find out how it would be reached."""
_BACKLOG = 128


@dataclass(frozen=True)
class Address:
    """A host, as given, and a port."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """The address in `http://HOST:PORT`.

    Raises:
        UsageError: it is not one.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"--stream {text} is not an address: {error}", hint=_EXAMPLE) from error
    if parts.scheme == "https":
        raise UsageError(
            "evit serves http:// only", hint="put a proxy that speaks TLS before it for https://"
        )
    if parts.scheme != "http" or not host or port is None:
        raise UsageError(f"--stream {text} is not http://HOST:PORT", hint=_EXAMPLE)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(f"--stream {text} holds more than a host and a port", hint=_EXAMPLE)
    return Address(host, port)


def listen(address: Address) -> socket.socket:
    """A listening socket.

    Raises:
        EvitError: the name is unknown, or the port is taken or not allowed.
    """
    where = f"port {address.port} of {address.host}"
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise EvitError(
            f"{address.host} cannot be found: {said.lower()}",
            hint="use an address of this machine, or 0.0.0.0 for all of them",
        ) from error
    family, _, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
    try:
        return socket.create_server(place[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EvitError(
                f"{where} is in use", hint="use another port, or port 0 for a free one"
            ) from error
        said = (error.strerror or str(error)).lower()
        hint = "use an address of this machine, or 0.0.0.0 for all of them"
        if error.errno == errno.EACCES:
            hint = "use a port from 1024 on"
        raise EvitError(f"{where} cannot be used: {said}", hint=hint) from error


def is_loopback(host: str) -> bool:
    """Whether a host, as in a URL or a socket's name, can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def shown_url(address: Address, listener: socket.socket) -> str:
    """The URL that a listening socket is reached by, ending in a slash."""
    bound, port = listener.getsockname()[:2]
    host = address.host
    if ipaddress.ip_address(bound).is_unspecified:
        host = _own_address()
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/"


def _own_address() -> str:
    """This machine's address towards the others, or its name."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_ELSEWHERE)
            return str(probe.getsockname()[0])
    except OSError:  # no network
        return socket.gethostname()
