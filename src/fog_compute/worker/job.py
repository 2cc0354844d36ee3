"""One task as a slot runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fog_compute.tasks.model import Limits

__all__ = ["Job", "LoadModule"]

LoadModule = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Job:
    """One task as a slot runs it."""

    module_id: str  # the name under which the compiled module is cached
    argv: tuple[str, ...]  # without ``program``
    stdin: bytes | None
    inputs: Mapping[str, bytes]
    limits: Limits
    seed: bytes = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    program: tuple[str, ...] = ("main.wasm",)  # what the guest finds before its arguments
    shared: bool = False  # the module is the worker's own, and other tasks run it too
