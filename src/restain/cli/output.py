"""What commands print: one JSON document on stdout, or text; messages for people go to stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from restain.core.progress import console


def print_json(document: object) -> None:
    """The result as one JSON document on stdout (NaN is refused)."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table on stdout; at full width where stdout is not a terminal."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out = Console(highlight=False, markup=False, width=200, emoji=False)
    out.print(table)


def report_failures(failures: Mapping[str, str]) -> int:
    """Name each failed item on stderr; the exit code: 1 where there is one, else 0."""
    for name, reason in failures.items():
        console.print(f"failed: {name}: {reason}", markup=False, soft_wrap=True)
    return 1 if failures else 0
