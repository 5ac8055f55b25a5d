"""docs/benchmarks.md from devices/results/*.jsonl.

`python -m benchmarks.benchmarks_page` writes the page; `--check` writes nothing, and fails where
the page is not what the results give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evit_cli.bench.report.environments import environments
from evit_cli.bench.report.markdown import escape, kind_tables, machine_facts
from evit_cli.bench.report.words import PROTOCOL
from evit_cli.bench.row import Row
from evit_cli.bench.store import read_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "devices" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
COMMAND = "python -m benchmarks.benchmarks_page"
MARKER = f"<!-- Generated from devices/results/ by `{COMMAND}`: do not edit. -->"
LEAD = """\
Every latency here was measured by `evit bench`, and stands in a file of `devices/results/` together
with the machine and its state. `host` is with the transfer of input and output, as in the paper;
`compute` is the invocation alone; `e2e` goes from the encoded image to the result. A row that was
disturbed says so in its last column."""
NOTHING = "Nothing has been measured yet: `devices/results/` is empty."


def newest_rows(folder: Path) -> list[Row]:
    """The rows of all files, by file name; of those measured twice the later one."""
    rows: dict[str, Row] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for row in read_rows(path):
            rows[row.key] = row
    return list(rows.values())


def render(rows: Sequence[Row]) -> str:
    """The page. It depends on the rows alone, so that it can be compared."""
    parts = [MARKER, "# Benchmarks", LEAD, "## Protocol", PROTOCOL]
    if not rows:
        parts.append(NOTHING)
    for machine in environments(rows):
        parts.append(f"## {escape(machine.title)}")
        days = sorted({row.time[:10] for row in machine.rows if row.time})
        if days:
            parts.append(" to ".join(dict.fromkeys((days[0], days[-1]))) + ".")
        parts += [machine_facts(machine), *kind_tables(machine.rows, level=3)]
    elsewhere = [row for row in rows if not row.environment]
    if elsewhere:
        parts += ["## Without a machine", *kind_tables(elsewhere, level=3)]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of .jsonl files")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page lies")
    options = parser.parse_args(arguments)
    text = render(newest_rows(options.results))
    if not options.check:
        options.page.write_text(text, "utf-8")
        print(options.page)
        return 0
    kept = options.page.read_text("utf-8") if options.page.exists() else ""
    if kept == text:
        return 0
    print(f"{options.page} is not what the results give: run {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
