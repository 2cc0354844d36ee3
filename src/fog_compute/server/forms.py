"""Forms of texts in requests, and what to tell a person of a text that does not have one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fog_compute.tasks.ids import NAME_PATTERN

__all__ = ["SMALL", "VISIBLE", "VISIBLE_ASCII", "flaw_of"]

VISIBLE: Final = (
    r"^[^\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]*$"
)
"""No control characters, nor marks that turn text round or are not seen."""
VISIBLE_ASCII: Final = "^[!-~]{1,64}$"
SMALL: Final = "^[0-9a-z]{1,64}$"

_FLAWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        VISIBLE: "has control characters, or marks that are not seen",
        VISIBLE_ASCII: "is not 1 to 64 visible characters of ASCII",
        SMALL: "is not 1 to 64 small letters and digits",
        NAME_PATTERN: "names no task: give an id, how one begins or ends, @last, or @2",
    }
)


def flaw_of(pattern: str) -> str:
    """Say of a text that it does not have a form."""
    return _FLAWS.get(pattern, f"is not of the form {pattern}")
