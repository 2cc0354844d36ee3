"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from importlib import import_module
from typing import Any

__all__ = ["load_export"]


def load_export(
    package: str, modules: Iterable[str], name: str, shown: MutableMapping[str, Any]
) -> object:
    """The value of a public name, for the ``__getattr__`` of a package (PEP 562).

    Args:
        package: its name.
        modules: where its public names are from, seen from it; the light ones first.
        name: what is asked for.
        shown: the package's globals, with ``__all__``; the value is put there for the next time.

    Raises:
        AttributeError: it is none of them.
    """
    if name in shown["__all__"]:
        for module in modules:
            found = import_module(f"{package}.{module}")
            if name in found.__all__:
                value: object = getattr(found, name)
                shown[name] = value
                return value
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
