"""Arguments of the client's methods: within their bounds, or an error that names them."""

from __future__ import annotations

import math
import operator
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
