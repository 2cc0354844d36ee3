"""Words of strangers, made fit for a terminal, a log line and a row of the database.

Whoever shows, logs or keeps text that came from outside takes it through here: a control character
can move a cursor, forge a line or rename a window, and a line can have any length.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LINE_LENGTH", "as_named", "counted", "escape_json", "one_line", "printable"]

LINE_LENGTH: Final = 300
"""What one line about one object has room for."""

_CUT: Final = "…"
_READ_AHEAD: Final = 4  # spaces and control characters that are looked at for each kept character
# What json.dumps leaves as it is and a terminal may obey: controls, and marks that turn text round.
_JSON_UNSAFE: Final = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def one_line(text: str, limit: int = LINE_LENGTH) -> str:
    """Return a text as one line of at most ``limit`` printable characters.

    One that was cut ends in ``…``. The work is bounded by ``limit``, however long the text is.
    """
    head = text[: limit * _READ_AHEAD]
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    if len(line) <= limit and len(head) == len(text):
        return line
    return line[: limit - len(_CUT)].rstrip() + _CUT if limit >= len(_CUT) else ""


def as_named(name: str) -> str:
    """Return a name as it is, or quoted and escaped where some of it would not be seen."""
    return name if name and name.isprintable() and name == name.strip() else repr(name)


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with what is counted, as one says it: 1 hop, 2 hops; 1 entry, 0 entries."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def printable(text: str, limit: int) -> str:
    """Return lines, such as a traceback, without what a terminal obeys beside their ends."""
    clean = "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:limit])
    return clean if len(text) <= limit else clean[: limit - len(_CUT)] + _CUT


def escape_json(document: str) -> str:
    """Return a JSON document in which no string holds what a terminal may obey; it reads equal."""
    return _JSON_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
