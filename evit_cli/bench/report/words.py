"""Sentences that every report says in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from evit_cli.bench.row import Kind, Row

PROTOCOL = (
    "One stream with one run at a time is warmed up until its speed has settled (at least 10 runs "
    "and 200 ms), then timed for at least 100 runs and 3 s, and no run is dropped; compute is the "
    "invocation alone, host adds the transfer of input and output, and e2e takes one image from "
    "its encoded file to the result. A row is tainted where another process, throttling or a "
    "changed clock was seen, where fewer runs were made, or where the interquartile range exceeds "
    "5 % of the median."
)
KINDS = {
    Kind.MEASURED: "timed by evit on the machine named in the row.",
    Kind.PUBLISHED: "taken from the named publication, not measured by evit.",
    Kind.ESTIMATE: "computed from a model of the device, with its error; nothing was measured.",
}
TABLE_TITLES = {
    Kind.MEASURED: "Measured",
    Kind.PUBLISHED: "Published by others, not measured by evit",
    Kind.ESTIMATE: "Estimates, nothing was measured",
    Kind.FAILED: "Failed",
}


def count_words(rows: Sequence[Row]) -> str:
    """How many rows there are of each kind: "12 measured (3 tainted), 20 published"."""
    if not rows:
        return "no rows"
    parts = []
    for kind, word in zip(Kind, ("measured", "published", "estimated", "failed"), strict=True):
        count = sum(row.kind is kind for row in rows)
        tainted = sum(row.kind is kind and bool(row.tainted) for row in rows)
        if count:
            parts.append(f"{count} {word}" + (f" ({tainted} tainted)" if tainted else ""))
    return ", ".join(parts)
