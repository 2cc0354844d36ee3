"""Write the reference of the settings from the code: `python packaging/settings_reference.py`.

A test says when it must be written anew.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from fog_compute.config import Settings, variable_of

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/reference/settings.md"

INTRODUCTION: Final = """\
# Settings

Made from `src/fog_compute/config.py` by `packaging/settings_reference.py`.

A fog reads each setting from the environment when it starts.
What `fog up` takes as a flag, too, the flag decides.
A value that is out of its bounds ends the start with a line that names the setting.

| setting | default | takes | |
|---|---|---|---|
"""
_BOUNDS: Final = ((Ge, "≥", "ge"), (Gt, ">", "gt"), (Le, "≤", "le"), (Lt, "<", "lt"))


def page() -> str:
    """The whole page."""
    rows = [
        f"| `{variable_of(name)}` | {_default(field)} | {_takes(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return INTRODUCTION + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None or field.default in (None, ""):
        return ""
    if isinstance(field.default, bool):
        return "1" if field.default else "0"
    return f"{field.default:,g}" if isinstance(field.default, float) else f"`{field.default}`"


def _takes(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(entry, name):,}"
        for kind, sign, name in _BOUNDS
        for entry in field.metadata
        if isinstance(entry, kind)
    ]
    return ", ".join([_kind(field.annotation), *bounds])


def _kind(annotation: Any) -> str:
    if isinstance(annotation, UnionType):
        return _kind(next(one for one in get_args(annotation) if one is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{one.value}`" for one in annotation)
    names = {bool: "0 or 1", int: "whole number", float: "number", Path: "path"}
    return names.get(annotation, "text")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
