"""Requests that are not of the shape that a route takes, in our own words and with what to give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from fog_compute.flaws import flaw_said
from fog_compute.server.forms import flaw_of
from fog_compute.text import one_line

__all__ = ["said_of"]

NAME_LENGTH: Final = 120

_PLACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "body": "`{}`",
        "query": "the query's `{}`",
        "path": "the `{}` of the address",
        "header": "the header {}",
        "cookie": "the cookie {}",
    }
)


def said_of(errors: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line what is wrong with a request: the first of what its validation found."""
    first = errors[0]
    place, *path = first["loc"]
    context = first.get("ctx", {})
    if first["type"] == "json_invalid":
        return f"the body is no JSON: {context.get('error', 'it cannot be read')}"
    if not path:
        return "the body is no object: give JSON, with content-type application/json"
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
    where = _PLACES.get(str(place), "{}").format(one_line(name, NAME_LENGTH))
    if first["type"] == "string_pattern_mismatch":
        return f"{where} {flaw_of(context['pattern'])}"
    return f"{where} {flaw_said(first)}"
