"""What a runner has of the machine, so that it can be seen whether a task left something behind."""

from __future__ import annotations

import errno
import gc
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fog_compute.units import MIB

KEPT_BYTES: Final = 256 * MIB
"""Memory that the runner may have beyond the beginning: the modules that it keeps lie in it."""

KEPT_DESCRIPTORS: Final = 2
"""A store's standard input is closed by another thread, in a moment."""

KEPT_THREADS: Final = 32
"""Threads of wasmtime's that close files; idle ones end by themselves after some seconds."""

SETTLE_S: Final = 0.2
_SETTLE_STEP_S: Final = 0.0002
_DESCRIPTORS: Final = "/proc/self/fd"
_MODULES: Final = ("/memfd:wasm-memory-image", ".cwasm")  # files of what the runner keeps


@dataclass(frozen=True, slots=True)
class Footprint:
    """Descriptors and threads of this process, and memory that it has for itself alone."""

    descriptors: int
    threads: int
    own_bytes: int

    @classmethod
    def measured(cls) -> Self:
        """Count; files of compiled modules do not, because those are kept on purpose."""
        return cls(
            descriptors=sum(not _is_kept(name) for name in os.listdir(_DESCRIPTORS)),  # noqa: PTH208
            threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
            own_bytes=own_bytes("self"),
        )

    def beyond(self, before: Footprint) -> str:
        """Say in a few words what is more than before; nothing if nothing is."""
        more = (
            ("descriptors", self.descriptors - before.descriptors, KEPT_DESCRIPTORS),
            ("threads", self.threads - before.threads, KEPT_THREADS),
            ("bytes of memory", self.own_bytes - before.own_bytes, KEPT_BYTES),
        )
        return ", ".join(f"{count} {name} more" for name, count, kept in more if count > kept)


def own_bytes(process: int | str) -> int:
    """Return how much memory a process has for itself alone.

    Raises:
        OSError: there is no such process, or none any more.
    """
    try:
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text("ascii").split()
    except ValueError as err:  # it ended while it was looked at
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from err
    return (int(resident) - int(shared)) * resource.getpagesize()


def left_behind(before: Footprint) -> str:
    """Say what the last task left in this process, once what ends by itself has ended."""
    until = time.monotonic() + SETTLE_S
    collected = False
    while left := Footprint.measured().beyond(before):
        now = time.monotonic()
        if now > until:
            return left
        if not collected and now > until - SETTLE_S / 2:
            gc.collect()
            collected = True
        time.sleep(_SETTLE_STEP_S)
    return ""


def _is_kept(descriptor: str) -> bool:
    """Say whether a descriptor is a compiled module's, or was closed meanwhile."""
    try:
        target = os.readlink(f"{_DESCRIPTORS}/{descriptor}")  # noqa: PTH115  # names no file
    except OSError:
        return True
    return target.startswith(_MODULES[0]) or target.endswith(_MODULES[1])
