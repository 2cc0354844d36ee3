"""A task as it is described to a backend, looked at before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fog_compute.errors import InvalidTask
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.tasks import Limits, TaskKind, TaskSpec
from fog_compute.tasks.wasm import HEAD_BYTES, objection

__all__ = ["ANY_SHA256", "check_fields", "check_module", "check_task", "check_text"]

ANY_SHA256: Final = "0" * 64
"""Stands for a blob that is not uploaded yet."""


def check_task(wanted: Mapping[str, Any], module: bytes) -> None:
    """Refuse what no fog takes.

    Raises:
        InvalidTask: the text names the field.
    """
    check_fields(wanted)
    check_module(wanted, module)


def check_fields(wanted: Mapping[str, Any]) -> None:
    """Refuse what no fog takes, whatever the module is."""
    inputs = wanted.get("inputs", {})
    for text in (*wanted["argv"], *inputs):
        check_text(text)
    TaskSpec(
        module=ANY_SHA256,
        kind=TaskKind(wanted["kind"]),
        argv=tuple(wanted["argv"]),
        env=wanted["env"],
        inputs=dict.fromkeys(inputs, ANY_SHA256),
        limits=Limits(**wanted["limits"]),
        max_attempts=wanted["max_attempts"],
        privacy=PrivacyLevel(wanted["privacy"]),
        strategy=wanted["strategy"] and Strategy(wanted["strategy"]),
    )


def check_module(wanted: Mapping[str, Any], module: bytes) -> None:
    """Refuse a module that no fog runs within the limits of a task."""
    if wanted["kind"] != TaskKind.WASM:
        return
    memory_bytes = Limits(**wanted["limits"]).memory_bytes
    if found := objection(module[:HEAD_BYTES], len(module), memory_bytes):
        raise InvalidTask(f"{found.detail}; nothing was sent")


def check_text(text: str) -> str:
    """Refuse text that is made of bytes which are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidTask(
            f"{text!r} is no UTF-8 text: arguments and names of input files must be"
        ) from None
    return text
