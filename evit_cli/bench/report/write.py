"""Which report a file name asks for, and how the file comes to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evit_cli.bench.row import Row
from evit_cli.errors import EvitError, UsageError

TITLE = "evit bench"


def check_report(path: Path, *, force: bool) -> None:
    """Stop before any measuring if a report cannot go to `path`.

    Raises:
        UsageError: its suffix is not .html, .md or .csv.
        EvitError: it exists and `force` is not given, or it is a folder.
    """
    _renderer(path)
    if path.is_dir():
        raise EvitError(f"{path.resolve()} is a folder", hint="name a file in it with --report")
    if path.exists() and not force:
        raise EvitError(
            f"{path.resolve()} exists already",
            hint="use --force to overwrite, or another --report",
        )


def write_report(
    path: Path, rows: Sequence[Row], *, title: str = TITLE, force: bool = False
) -> Path:
    """Write rows as .html, .md or .csv, chosen by the suffix; the file is whole or not there.

    Args:
        path: where; its folder is made.
        rows: of any kinds, in the order wanted; there may be none.
        title: heads the page or document.
        force: replace an existing file.

    Returns:
        The absolute path of what was written.

    Raises:
        UsageError: the suffix is another.
        EvitError: the file exists and `force` is not given, or the system refused to write.
    """
    from evit_cli.weights.atomic import atomic_file

    check_report(path, force=force)
    text = _renderer(path)(rows, title)
    with atomic_file(path) as file:
        # A lone surrogate, as file names can have, must not cost the report.
        file.write(text.encode("utf-8", errors="replace"))
    return path.resolve()


def _renderer(path: Path) -> Callable[[Sequence[Row], str], str]:
    suffix = path.suffix.lower()
    if suffix in (".html", ".htm"):
        from evit_cli.bench.report.html import render_html

        return render_html
    if suffix == ".md":
        from evit_cli.bench.report.markdown import render_markdown

        return render_markdown
    if suffix == ".csv":
        from evit_cli.bench.report.csv import render_csv

        return lambda rows, title: render_csv(rows)
    named = f"'{suffix}' is no kind of report" if suffix else f"{path} has no suffix"
    raise UsageError(named, hint="end the name in .html, .md or .csv")
