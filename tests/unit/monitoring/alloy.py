"""The blocks of a configuration of Alloy, and what they name of each other.

No program here reads such files. This knows their grammar as far as these two use it: blocks with a
label or none, attributes, strings, lists, objects, calls and comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<sign>[{}()\[\]=,+])""",
    re.VERBOSE,
)
_CLOSED_BY = {"{": "}", "(": ")", "[": "]"}


@dataclass
class Block:
    """One block: ``name "label" { … }``, with its attributes as text."""

    name: str
    label: str
    attributes: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def all(self, name: str) -> list[Block]:
        """The blocks in it of that name."""
        return [block for block in self.blocks if block.name == name]


def parse(text: str) -> list[Block]:
    """The blocks of a file; a ValueError says where it is none."""
    reader = _Reader(text)
    found = reader.body(Block("", ""), "")
    return found.blocks


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            line = text.count("\n", 0, place) + 1
            if match is None:
                raise ValueError(f"line {line}: {text[place : place + 20]!r}")
            if match.lastgroup != "space":
                self._tokens.append((str(match.lastgroup), match.group(), line))
            place = match.end()
        self._at = 0

    def _next(self) -> tuple[str, str, int]:
        if self._at == len(self._tokens):
            raise ValueError("the file ends within a block")
        self._at += 1
        return self._tokens[self._at - 1]

    def body(self, block: Block, end: str) -> Block:
        while self._at < len(self._tokens) or end:
            kind, text, line = self._next()
            if text == end:
                return block
            if kind != "name":
                raise ValueError(f"line {line}: {text} where a name belongs")
            sort, then, _ = self._next()
            if then == "=":
                if text in block.attributes:
                    raise ValueError(f"line {line}: {text} stands twice")
                block.attributes[text] = self._value()
                continue
            label = ""
            if sort == "string":
                label, then = then.strip('"'), self._next()[1]
            if then != "{":
                raise ValueError(f"line {line}: {then} after {text}")
            block.blocks.append(self.body(Block(text, label), "}"))
        return block

    def _value(self) -> str:
        """An expression, to the end of its line."""
        parts: list[str] = []
        open_signs: list[str] = []
        line = self._tokens[self._at][2]
        while self._at < len(self._tokens):
            _, text, on = self._tokens[self._at]
            if not open_signs and (on != line or text == "}"):
                break
            self._next()
            if text in _CLOSED_BY:
                open_signs.append(_CLOSED_BY[text])
            elif open_signs and text == open_signs[-1]:
                open_signs.pop()
            elif text in _CLOSED_BY.values():
                raise ValueError(f"line {on}: {text} closes nothing")
            parts.append(text)
            line = on
        if not parts or open_signs:
            raise ValueError(f"line {line}: a value is missing or stays open")
        return " ".join(parts)
