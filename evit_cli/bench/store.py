"""Rows kept as JSON lines: appended one at a time, so that an interrupted sweep goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from evit_cli.bench.row import Kind, Row, decode_row, encode_row
from evit_cli.errors import EvitError


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; a last line that was cut off by a lost power is left out.

    Raises:
        EvitError: the file cannot be read, or a line in it is no row.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EvitError(f"{path} cannot be read as benchmark rows: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(decode_row(line))
        except ValueError as error:
            if number == len(lines):  # without its line end: never finished
                break
            raise EvitError(
                f"{path}, line {number}: {error}", hint="write elsewhere with --out"
            ) from error
    return rows


class Store:
    """A results file.

    Args:
        path: made with its folder when the first row comes; None keeps rows in memory only.

    Attributes:
        rows: all of them, those of before included.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[Row] = read_rows(path) if path is not None and path.exists() else []

    def find(self, key: str) -> Row | None:
        """The newest row with a key (`Row.key`) that did not fail."""
        for row in reversed(self.rows):
            if row.kind is not Kind.FAILED and row.key == key:
                return row
        return None

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows; they are on the disk when this returns.

        Raises:
            EvitError: the file cannot be written.
        """
        self.rows += rows
        if self.path is None or not rows:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                if file.tell() and not _ends_a_line(self.path):
                    file.truncate(_last_line_start(self.path))
                file.write("".join(encode_row(row) + "\n" for row in rows).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EvitError(
                f"cannot write {self.path}: {(error.strerror or str(error)).lower()}",
                hint="free some space, or write elsewhere with --out",
            ) from error


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _last_line_start(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
