"""Requests that are not of the shape that a route takes, in our own words and with what to give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

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

# By the type of pydantic's error; what stands in braces is from its context.
_SAID: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "is missing",
        "extra_forbidden": "is no field that is known here",
        "string_type": "is no text",
        "string_unicode": "is no UTF-8 text",
        "int_type": "is no whole number",
        "int_parsing": "is no whole number",
        "int_from_float": "is no whole number",
        "int_parsing_size": "is too large a number",
        "float_type": "is no number",
        "float_parsing": "is no number",
        "finite_number": "is no finite number",
        "bool_type": "is neither true nor false",
        "bool_parsing": "is neither true nor false",
        "list_type": "is no list",
        "dict_type": "is no object",
        "model_type": "is no object",
        "model_attributes_type": "is no object",
        "too_long": "has {actual_length} entries: at most {max_length} are allowed",
        "too_short": "has {actual_length} entries: give {min_length} at least",
        "string_too_long": "is longer than {max_length} characters",
        "string_too_short": "is shorter than {min_length} characters",
        "enum": "is none of {expected}",
        "literal_error": "is none of {expected}",
        "greater_than_equal": "is less than {ge}",
        "greater_than": "is not more than {gt}",
        "less_than_equal": "is more than {le}",
        "less_than": "is not less than {lt}",
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
    return f"{where} {_SAID.get(first['type'], 'cannot be used as it is').format(**context)}"
