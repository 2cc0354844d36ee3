"""What is said of a task before any of it leaves: a module that no worker can run is refused."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fog_compute.errors import InvalidTask, StoreError
from fog_compute.store import BlobStore
from fog_compute.tasks import TaskKind, TaskSpec
from fog_compute.tasks.wasm import HEAD_BYTES, Objection, objection
from fog_compute.threads import in_thread

__all__ = ["Admission"]

REMEMBERED: Final = 256
"""Verdicts that are kept: tasks often share their module."""


class Admission:
    """Looks into the modules of new tasks."""

    __slots__ = ("_verdicts",)

    def __init__(self) -> None:
        """Know no module yet."""
        self._verdicts: Final[OrderedDict[tuple[str, int], Objection | None]] = OrderedDict()

    async def check(self, spec: TaskSpec, blobs: BlobStore) -> None:
        """Let a task pass, or refuse it; of its module only the begin is read.

        Raises:
            InvalidTask: no worker can run its module; the text says why and what helps.
            NotFound: its module was not uploaded.
            StoreError: the module cannot be read now.
        """
        if spec.kind is not TaskKind.WASM:
            return
        found = await self._verdict(blobs, spec.module, spec.limits.memory_bytes)
        if found is not None:
            raise InvalidTask(found.detail)

    async def _verdict(self, blobs: BlobStore, module: str, memory_bytes: int) -> Objection | None:
        key = (module, memory_bytes)
        size = (await blobs.sizes([module]))[module]
        if key in self._verdicts:
            self._verdicts.move_to_end(key)
            return self._verdicts[key]
        head = await blobs.read(module, range(min(size, HEAD_BYTES)))
        try:
            verdict = await in_thread(objection, head, size, memory_bytes)
        except OSError as error:
            raise StoreError(f"the module cannot be looked at now: {error.strerror}") from error
        self._verdicts[key] = verdict
        if len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)
        return verdict
