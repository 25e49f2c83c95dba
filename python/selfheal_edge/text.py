"""Texts that come from files, made fit for a terminal, a log, an HTML page and a message.

Names of tensors, a runtime's own words, the fields of a baseline and labels are a stranger's. What
is printed of them is one line, without escape sequences and bidirectional controls, of bounded
length.
"""

from __future__ import annotations

from html import escape
from typing import Final

__all__ = ["LIST", "MESSAGE", "NAME", "markup", "quoted", "shown"]

NAME: Final = 96
"""Characters that are shown of a name."""
LIST: Final = 600
"""Characters that are shown of a list of names."""
MESSAGE: Final = 2000
"""Characters that are shown of a message."""
_GAP: Final = "..."


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _fitting(parts: list[str], room: int) -> int:
    """Return how many of `parts`, from the first on, fit into `room` characters."""
    for count, part in enumerate(parts):
        room -= len(part)
        if room < 0:
            return count
    return len(parts)


def shown(text: object, limit: int = NAME) -> str:
    r"""Return a text as it may be shown.

    Parameters
    ----------
    text
        Its `str` is shown.
    limit
        Characters of the result at most, 8 or more. Of a longer text the beginning and the end are
        shown, since converters join the names of what they fuse.

    Returns
    -------
    str
        In one line; what is not printable (controls, bidirectional marks, lone surrogates) is
        written as Python would write it. Showing it once more changes nothing.

    Examples
    --------
    >>> print(shown("conv\x1b[31m"))
    conv\x1b[31m
    >>> shown("a" * 20, 9)
    'aaa...aaa'
    """
    raw = str(text)
    if len(raw) <= limit and raw.isprintable():
        return raw
    start = [_escaped(character) for character in raw[:limit]]
    if len(raw) <= limit and _fitting(start, limit) == len(start):
        return "".join(start)
    end = [_escaped(character) for character in raw[-limit:][::-1]]
    behind = end[: _fitting(end, (limit - len(_GAP)) // 2)]
    room = limit - len(_GAP) - sum(map(len, behind))
    return "".join([*start[: _fitting(start, room)], _GAP, *behind[::-1]])


def quoted(text: object, limit: int = NAME) -> str:
    """Return `shown` text between quotation marks, for messages that say what came."""
    return f"'{shown(text, limit)}'"


def markup(text: object, limit: int = MESSAGE) -> str:
    """Return `shown` text as it may stand in HTML and SVG, in attributes between quotes too."""
    return escape(shown(text, limit))
