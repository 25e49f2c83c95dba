"""What the commands on a store print: columns that fit the terminal, and JSON."""

from __future__ import annotations

import datetime
import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from selfheal_edge.text import LIST, shown

__all__ = ["NOWHERE", "STDOUT", "is_silent", "moment", "print_facts", "print_rows", "write_json"]

STDOUT: Final = "-"
"""Where JSON goes when the option has no path: in place of the text."""
NOWHERE: Final = None
_LEAST_WIDTH: Final = 60
_MOST_WIDTH: Final = 120
_LEAST_LAST_COLUMN: Final = 24
_MOST_NAME: Final = 24
_INDENT: Final = 4


def _width() -> int:
    return max(_LEAST_WIDTH, min(shutil.get_terminal_size().columns, _MOST_WIDTH))


def is_silent(json_path: str | None) -> bool:
    """Whether no text is to be printed, since JSON takes its place."""
    return json_path == STDOUT


def write_json(content: Mapping[str, Any], json_path: str | None) -> None:
    """Write JSON to a path or the standard output, where it was asked for."""
    if json_path is NOWHERE:
        return
    text = json.dumps(content, indent=2)
    if json_path == STDOUT:
        print(text)
    else:
        Path(json_path).write_text(text + "\n", encoding="utf-8")


def moment(wall: object) -> str:
    """Return a time in UTC, in 19 characters at most; what is none as a question mark."""
    try:
        if not isinstance(wall, (int, float)):
            raise TypeError
        found = datetime.datetime.fromtimestamp(wall, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError, TypeError):
        return "?"
    return found.strftime("%Y-%m-%d %H:%M:%S")


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print a line for each fact, its name before it."""
    rows = [(shown(name, _MOST_NAME), shown(value, LIST)) for name, value in facts]
    indent = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        _print_wrapped(f"{name:{indent}}", value)


def print_rows(
    head: Sequence[str], rows: Sequence[Sequence[object]], below: Sequence[str] = ()
) -> None:
    """Print a table whose last column is wrapped; numbers stand at the right of theirs.

    Parameters
    ----------
    head, rows
        Names of the columns, and cells.
    below
        What stands under each row, as wide as the screen; empty: nothing does.
    """
    texts = [[shown(cell, LIST) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    is_number = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    under = ["", *(below or [""] * len(rows))]
    for row, said in zip([list(head), *texts], under, strict=True):
        before = "".join(
            f"{cell:{'>' if right else '<'}{width}}  "
            for cell, width, right in zip(row[:-1], widths, is_number, strict=False)
        )
        _print_wrapped(before, row[-1])
        if said:
            _print_wrapped(" " * _INDENT, shown(said, LIST))


def _print_wrapped(before: str, text: str) -> None:
    room = max(_LEAST_LAST_COLUMN, _width() - len(before))
    lines = textwrap.wrap(text, room) or [""]
    print((before + lines[0]).rstrip())
    for line in lines[1:]:
        print(" " * len(before) + line)
