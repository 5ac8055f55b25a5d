"""Who may watch.

On loopback anybody on this machine may, but not web sites that are open in its browser: the Host
must be this machine (a name that an attacker points here is not), and a browser that says which
page asks must name our own. On any other address only who knows the token may.
"""

from __future__ import annotations

import hmac
import re
import secrets

from evit_cli.errors import UsageError
from evit_cli.media.stream.address import is_loopback
from evit_cli.media.stream.request import Refused, Request

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")  # nothing that a URL or a header would escape
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:\d{1,5})?")


class Door:
    """Lets requests in.

    Args:
        token: what the user wants to be asked for, None to leave it to evit.
        loopback: whether only this machine can knock.

    Attributes:
        token: what is asked for; None if nothing is.
        made: whether the token was made here, so that nobody knows it yet.

    Raises:
        UsageError: the token is too short or cannot stand in a URL.
    """

    def __init__(self, token: str | None, *, loopback: bool) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError(
                "the token of --stream must be 16 to 256 letters, digits or any of . _ ~ -",
                hint="leave it away, and evit makes one",
            )
        self.made = token is None and not loopback
        self.token = secrets.token_urlsafe(24) if self.made else token
        self._loopback = loopback

    def check(self, request: Request) -> None:
        """Let a request pass.

        Raises:
            Refused: it may not.
        """
        if self._loopback:
            match = _HOST.fullmatch(request.headers.get("host", ""))
            if match is None or not is_loopback(match[1]):
                raise Refused(403, "this stream answers to 127.0.0.1 only")
        if self.token is not None:
            self._check_token(request, self.token)
        elif _from_another_page(request):
            raise Refused(403, "another page may not show this stream")

    def _check_token(self, request: Request, token: str) -> None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        said = bearer.strip() if scheme.lower() == "bearer" else request.token
        # Bytes: compare_digest takes no other text than ASCII.
        if said is None or not hmac.compare_digest(said.encode(), token.encode()):
            raise Refused(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})


def _from_another_page(request: Request) -> bool:
    if request.headers.get("sec-fetch-mode") == "navigate":
        return False  # a link to the page, for example in a terminal that is a web page
    return request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
