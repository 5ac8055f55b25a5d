"""Checks of the hub cache and, only when asked, of the network."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from evit_cli.config.checks.result import Check, HubSettings, ok, problem

_WALK_LIMIT_S = 0.3
_NETWORK_TIMEOUT_S = 5.0


def check_cache(hub: HubSettings) -> Check:
    """Where downloaded weights are, and how much there is."""
    if not hub.cache.exists():
        return ok("hub cache", f"{hub.cache} (empty: nothing was downloaded yet)")
    size, complete = folder_size(hub.cache)
    about = "" if complete else "more than "
    detail = f"{hub.cache}, {about}{size / 1e6:,.0f} MB"
    if not os.access(hub.cache, os.W_OK):
        return problem("hub cache", f"{detail}, not writable", "set HF_HOME to a folder of yours")
    return ok("hub cache", detail)


def folder_size(folder: Path, limit_s: float = _WALK_LIMIT_S) -> tuple[int, bool]:
    """Bytes of the files below `folder`, and whether there was time to see them all."""
    deadline_s = time.monotonic() + limit_s
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                # Snapshots link to blobs: only the blobs themselves count.
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
        if time.monotonic() > deadline_s:
            return total, False
    return total, True


def check_offline(hub: HubSettings) -> Check:
    """Whether requests are allowed at all."""
    if hub.offline:
        return ok("hub requests", "off (HF_HUB_OFFLINE): only cached weights are used")
    return ok("hub requests", f"allowed, to {hub.endpoint}; cached weights need none")


def check_network(hub: HubSettings, timeout_s: float = _NETWORK_TIMEOUT_S) -> Check:
    """Whether the hub answers; any HTTP answer will do."""
    if hub.offline:
        return ok("network", "not tried: HF_HUB_OFFLINE is set")
    start_s = time.monotonic()
    mend = "check the network and HTTPS_PROXY, or work from the cache with --offline"
    try:
        request = urllib.request.Request(hub.endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout_s):
            pass
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return problem("network", f"{hub.endpoint} does not answer: {reason}", mend)
    return ok("network", f"{hub.endpoint} answers in {(time.monotonic() - start_s) * 1e3:.0f} ms")
