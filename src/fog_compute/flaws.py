"""What is wrong with a value that was given, in our own words and not in those of a library."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["flaw_said"]

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


def flaw_said(error: Mapping[str, Any]) -> str:
    """Say what is wrong with a value, given one of the errors that its validation found."""
    said = _SAID.get(error["type"], "cannot be used as it is")
    return said.format(**error.get("ctx", {}))
