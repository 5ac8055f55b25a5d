"""What went wrong with the hub, in one sentence and its mend."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evit_cli.errors import EvitError
from evit_cli.weights.catalog import entry_of_file

if TYPE_CHECKING:
    from evit_cli.weights.hub import HubFile

_TOKEN = "if it is private, set HF_TOKEN to a token that may read it"


def _what(wanted: HubFile) -> str:
    return f"{wanted.file} of {wanted.repo}"


def _by_hand(wanted: HubFile) -> str:
    """How to get a file to a machine without a network."""
    entry = entry_of_file(wanted.repo, wanted.file)
    name = entry.name if entry else f"hf://{wanted.repo}"
    return (
        f"on a connected machine run `evit models pull {name} --to DIR`, copy DIR here and set"
        " EVIT_MODELS_DIR to it, or pass the file itself with --weights"
    )


def no_network(wanted: HubFile, endpoint: str, error: Exception) -> EvitError:
    """The hub does not even take a connection."""
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    host = urlsplit(endpoint).netloc or endpoint
    return EvitError(
        f"cannot reach {host} to fetch {_what(wanted)} ({reason})", hint=_by_hand(wanted)
    )


def not_cached(wanted: HubFile, cache: Path) -> EvitError:
    """Requests are forbidden and the file is not there."""
    return EvitError(
        f"{_what(wanted)} is not in the hub cache {cache}, and --offline or HF_HUB_OFFLINE"
        " forbids fetching it",
        hint=_by_hand(wanted),
    )


def damaged(wanted: HubFile) -> EvitError:
    """What arrived is not what the hub announced."""
    return EvitError(
        f"{_what(wanted)} arrived damaged and was dropped: it does not have the sha256 that the"
        " hub announced",
        hint="try again; if it stays so, a proxy or a mirror in between changes the file",
    )


def explain(error: Exception, wanted: HubFile, endpoint: str, cache: Path) -> EvitError:
    """Any exception of huggingface_hub as an `EvitError`."""
    from huggingface_hub import errors

    host = urlsplit(endpoint).netloc or endpoint
    cause = error.__cause__
    if isinstance(error, EvitError):
        return error
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(cause, Exception):
        return explain(cause, wanted, endpoint, cache)  # the client wraps what really happened
    if isinstance(error, errors.OfflineModeIsEnabled):
        return not_cached(wanted, cache)
    if isinstance(error, errors.FileMetadataError):
        return EvitError(
            f"{host} does not answer like a Hugging Face Hub",
            hint="check HF_ENDPOINT and the proxy settings",
        )
    if isinstance(error, errors.HFValidationError):
        return EvitError(f"'{wanted.repo}' is not a hub repository", hint="write hf://owner/repo")
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_answer(error, wanted, endpoint)
    network = isinstance(error, ConnectionError | TimeoutError)
    if isinstance(error, OSError) and error.errno is not None and not network:
        return _explain_disk(error, wanted, cache)
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return EvitError(
        f"the download of {_what(wanted)} broke off ({reason})",
        hint="run it again, nothing incomplete was kept; or " + _by_hand(wanted),
    )


def _explain_answer(error: Any, wanted: HubFile, endpoint: str) -> EvitError:
    """The hub answered with an error status."""
    from huggingface_hub import errors

    status = error.response.status_code
    host = urlsplit(endpoint).netloc or endpoint
    if isinstance(error, errors.GatedRepoError):
        return EvitError(
            f"{wanted.repo} is gated: its owner grants access case by case",
            hint=f"ask for access at {endpoint}/{wanted.repo}, then set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return EvitError(
            f"{wanted.repo} has no revision '{wanted.revision}'",
            hint=f"{endpoint}/{wanted.repo}/tree/main lists its branches and tags",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return EvitError(
            f"{wanted.repo} has no file {wanted.file} at revision '{wanted.revision}'",
            hint=f"{endpoint}/{wanted.repo}/tree/{wanted.revision} lists its files",
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return EvitError(
            f"there is no repository {wanted.repo} on {host}, or it is private",
            hint=f"check the spelling; {_TOKEN}",
        )
    if status in (401, 403):
        return EvitError(
            f"{host} refused access to {wanted.repo} (HTTP {status})",
            hint="check that HF_TOKEN is valid, or unset it; " + _TOKEN,
        )
    if status == 429 or status >= 500:
        return EvitError(
            f"{host} still answers HTTP {status} for {_what(wanted)} after several tries",
            hint="try again later, or " + _by_hand(wanted),
        )
    return EvitError(f"{host} answers HTTP {status} for {_what(wanted)}", hint=_by_hand(wanted))


def _explain_disk(error: OSError, wanted: HubFile, cache: Path) -> EvitError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EvitError(
            f"the disk is full: {_what(wanted)} does not fit in {cache}",
            hint="free some space, or set HF_HOME to a folder on a larger disk",
        )
    return EvitError(
        f"cannot write {_what(wanted)} to the hub cache {cache}:"
        f" {(error.strerror or str(error)).lower()}",
        hint="check the permissions there, or set HF_HOME to a folder of your own",
    )
