"""Arguments of the client's methods: within their bounds, or an error that names them."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from itertools import islice
from typing import Final, SupportsFloat, SupportsIndex

LONGEST_S: Final = 10 * 365 * 86_400.0
"""Longer waits are cut to this, so that a sum with the time of day fits every clock."""


def integer(name: str, value: SupportsIndex, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``.

    Raises:
        TypeError: it is none; ``True`` and ``False`` are none either.
        ValueError: it is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    number = operator.index(value)
    if not least <= number <= most:
        shown = number if number.bit_length() <= 64 else f"one of {number.bit_length()} bits"
        raise ValueError(f"{name} must be {least} to {most}, not {shown}")
    return number


def seconds(name: str, value: SupportsFloat) -> float:
    """A number of seconds, 0 or more.

    Raises:
        TypeError: it is no number; ``True`` and ``False`` are none either.
        ValueError: it is negative or not finite.
    """
    if isinstance(value, bool | str) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {number}")
    return min(number, LONGEST_S)


def text(name: str, value: str, error: type[ValueError] = ValueError) -> str:
    """A text that can be written down.

    Raises:
        TypeError: it is no text.
        ValueError: it has half a character, a lone surrogate; or ``error`` for that.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {type(value).__name__}")
    try:
        str.encode(value)
    except UnicodeEncodeError:
        raise error(f"{name} must be a text without lone surrogates") from None
    return value


def texts(name: str, values: Iterable[str], most: int) -> list[str]:
    """Texts, of which no more than one above ``most`` are looked at.

    Raises:
        TypeError: it is no list of texts.
        ValueError: as :func:`text`.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        kind = "one text" if isinstance(values, str) else type(values).__name__
        raise TypeError(f"{name} must be a list of texts, not {kind}")
    return [text(name, value) for value in islice(values, most + 1)]


def path(name: str, value: str | os.PathLike[str]) -> str:
    """A path that the system can be asked for.

    Raises:
        TypeError: it is no path, or one of bytes.
        ValueError: it is empty, or no system has such a name.
    """
    found: object = value
    if not isinstance(value, str | bytes) and isinstance(value, os.PathLike):
        found = os.fspath(value)
    if not isinstance(found, str):
        raise TypeError(f"{name} must be a path, not {type(found).__name__}")
    if not found or "\0" in found:
        raise ValueError(f"{name} must be a path, {'with no zero' if found else 'not empty'}")
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be a path that can be encoded") from None
    return found
