"""One HTTP request, read with suspicion, and the answer to it."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (\S+) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_MOST_FIELDS = 100
_POLICY = (
    "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
    "Server": "evit",
}


class Refused(Exception):
    """A request that is answered with a status other than 200.

    Args:
        status: of HTTP.
        message: one sentence.
        headers: to be sent beside the usual ones.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


@dataclass(frozen=True)
class Request:
    """What a client asks for.

    Attributes:
        path: of the address, without the query.
        token: "token" of the query, None if there is none.
        headers: by lower-case name; of a repeated one the last.
        only_head: the answer is wanted without its body.
    """

    path: str
    token: str | None
    headers: dict[str, str]
    only_head: bool


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    kind: str
    body: bytes
    status: int = 200


def json_answer(value: Any, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer("application/json", json.dumps(value).encode() + b"\n", status)


def head(status: int, headers: dict[str, str], *, shared: bool = False) -> bytes:
    """The status line and headers of an answer.

    Args:
        status: of HTTP.
        headers: beside those of every answer.
        shared: pages of other origins may embed it.
    """
    policy = {"Cross-Origin-Resource-Policy": "cross-origin" if shared else "same-origin"}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (_HEADERS | policy | headers).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def read_request(reader: asyncio.StreamReader, header_s: float) -> Request:
    """The request that a client sends.

    Args:
        reader: its bytes; the reader's limit is that of the request.
        header_s: how long it may take.

    Raises:
        Refused: it is too long, too slow or no request that is served here.
        EOFError: the client went away.
    """
    try:
        read = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), header_s)
    except asyncio.LimitOverrunError as error:
        raise Refused(431, "the request is too long") from error
    except asyncio.TimeoutError as error:
        raise Refused(408, "the request did not come in time") from error
    first, *lines = read.decode("latin-1")[:-4].split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise Refused(400, "this is not an HTTP request")
    if match[1] not in ("GET", "HEAD"):
        raise Refused(405, "only GET is answered here", {"Allow": "GET, HEAD"})
    path, token = _target(match[2])
    return Request(path, token, _fields(lines), match[1] == "HEAD")


def _target(text: str) -> tuple[str, str | None]:
    try:
        parts = urlsplit(text)
        query = parse_qs(parts.query, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Refused(400, "the address makes no sense") from error
    return parts.path, query.get("token", [None])[-1]


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None or len(fields) == _MOST_FIELDS:
            raise Refused(400, "the headers make no sense")
        name = match[1].lower()
        if name == "host" and name in fields:
            raise Refused(400, "there are two hosts")
        fields[name] = match[2]
    return fields
