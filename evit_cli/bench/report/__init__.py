"""A benchmark's rows as a page, a document or a spreadsheet."""

from __future__ import annotations

from evit_cli.bench.report.write import check_report, write_report

__all__ = ["check_report", "write_report"]
