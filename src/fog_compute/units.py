"""Sizes and durations as people write them, and back."""

from __future__ import annotations

import re
from typing import Final

from fog_compute.errors import ConfigError

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "format_beyond",
    "format_bytes",
    "format_duration",
    "parse_bytes",
    "parse_duration",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

_BYTE_UNITS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    "k": KIB,
    "kb": 1000,
    "kib": KIB,
    "m": MIB,
    "mb": 1000**2,
    "mib": MIB,
    "g": GIB,
    "gb": 1000**3,
    "gib": GIB,
}
_SECOND_UNITS: Final[dict[str, float]] = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_QUANTITY: Final = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str) -> int:
    """Read ``256MiB``, ``64k`` or ``1000`` as a number of bytes.

    Raises:
        ConfigError: the text is no size.
    """
    number, unit = _split(text, "size", "64MiB")
    factor = _BYTE_UNITS.get(unit.lower())
    if factor is None:
        raise ConfigError(f"size {text!r} has the unknown unit {unit!r}: use B, KiB, MiB or GiB")
    return round(number * factor)


def parse_duration(text: str) -> float:
    """Read ``250ms``, ``30s``, ``10m`` or ``1.5`` as seconds.

    Raises:
        ConfigError: the text is no duration.
    """
    number, unit = _split(text, "duration", "30s")
    factor = _SECOND_UNITS.get(unit.lower())
    if factor is None:
        raise ConfigError(f"duration {text!r} has the unknown unit {unit!r}: use ms, s, m, h or d")
    return number * factor


def format_bytes(count: int) -> str:
    """Write a number of bytes with the largest binary unit that keeps it at 1 or more."""
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def format_beyond(taken: int, allowed: int) -> tuple[str, str]:
    """Write what was taken and the smaller number that was allowed, so that they look different."""
    texts = format_bytes(taken), format_bytes(allowed)
    return texts if texts[0] != texts[1] else (f"{taken} bytes", f"{allowed} bytes")


def format_duration(seconds: float) -> str:
    """Write seconds for a person: ``340 ms``, ``2.4 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no {what}: write it like {example}")
    return float(match[1]), match[2]
