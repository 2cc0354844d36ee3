"""One module over many inputs: queued in blocks, followed together, given in their order.

A block is queued under a name that follows from the map's key, so that the same call makes nothing
twice; all blocks are one batch, whose events tell of all of them. What is queued and where it
stands is decided in `fog_compute.client.maps`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from fog_compute.client.answers import Batch, Events, Made, Task
from fog_compute.client.asking import CONFLICT, WAIT_S
from fog_compute.client.batches import chunks
from fog_compute.client.checking import check_text
from fog_compute.client.inputs import source_of
from fog_compute.client.maps import As, Giving, MapState, Progress, names_of
from fog_compute.client.sources import Source
from fog_compute.errors import BackendError, FogError, InvalidTask
from fog_compute.face.describing import Description, MapOptions, PathOrBytes, TaskOptions, describe
from fog_compute.face.failures import FogWarning
from fog_compute.face.results import Result, fetch_result
from fog_compute.face.words import PythonBackend, in_python
from fog_compute.threads import in_thread

__all__ = ["CANCEL_S", "Map"]

BLOCK: Final = 100
"""Tasks that one request queues at most."""

UPLOADS: Final = 4
"""Inputs that are sent at once."""

CANCELS: Final = 8
CANCEL_S: Final = 10.0
"""How long a call that is cancelled takes at most to have its tasks cancelled too."""

BATCH_ID_LENGTH: Final = 26


@dataclass(frozen=True, slots=True)
class _Item:
    """One input.

    Attributes:
        name: what its result is called.
        own: what its task calls it.
        content: what the task is given, unless that is only an argument.
    """

    name: str
    own: str
    content: PathOrBytes | None


class Map:
    """One call of `Fog.map`."""

    def __init__(
        self,
        backend: PythonBackend,
        module: PathOrBytes,
        inputs: Iterable[PathOrBytes | int] | Mapping[str, PathOrBytes],
        options: MapOptions,
        *,
        as_: str | None,
        concurrency: int | None,
        key: str | None,
        progress: Callable[[Progress], object] | None,
    ) -> None:
        """Look at what was given; nothing is read or sent yet.

        Raises:
            TypeError: an argument is of a wrong type.
            InvalidTask: one is out of its bounds.
        """
        if as_ is not None and as_ not in tuple(As):
            raise InvalidTask(f"`as_` is {as_!r}: give stdin, file or argument")
        if concurrency is not None and concurrency < 1:
            raise InvalidTask(f"`concurrency` is {concurrency}: give 1 or more, or None")
        if misplaced := {"stdin", "inputs", "seed"} & set(options):
            raise TypeError(f"map() takes no argument {min(misplaced)!r}")
        asked = None if as_ is None else As(as_)
        self._how: Final = Giving.chosen(asked, options.get("args", ()))
        self._backend: Final = backend
        self._module: Final = module
        self._options: Final = options
        self._items: Final = _items(inputs, self._how)
        self._block: Final = min(BLOCK, max(1, concurrency // 4)) if concurrency else BLOCK
        self._kept: Final = key is not None
        name = secrets.token_hex(16) if key is None else check_text(key)
        digest = hashlib.sha256(b"fog-compute map\0" + name.encode()).hexdigest()
        self._state: Final = MapState(
            len(self._items),
            name=digest[:40],
            batch=digest[-BATCH_ID_LENGTH:],
            most=concurrency,
        )
        self._progress: Final = progress
        self._sent: Final[dict[str, asyncio.Future[str]]] = {}
        self._sending: Final = asyncio.Semaphore(UPLOADS)
        self._making: asyncio.Future[Batch] | None = None
        self._error: BaseException | None = None
        self._news: Final = asyncio.Event()

    async def results(self, *, check: bool) -> AsyncGenerator[Result]:
        """Give each result in its turn."""
        if not self._items:
            return
        workers = [
            asyncio.create_task(self._guarded(work), name=f"map {work.__name__}")
            for work in (self._queue, self._follow)
        ]
        finished = False
        try:
            while not self._state.all_taken:
                result = await self._next()
                self._state.taken(ok=result.ok)
                if not result.ok:
                    self._tell()
                if check:
                    result.check()
                yield result
            finished = True
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            if not (finished or self._kept):
                await self._cancel()
            if self._making is not None:
                self._making.cancel()

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Work beside whoever takes results, who is told of what went wrong."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # raised where the next result is taken
            self._error = error
            self._news.set()
            self._news.clear()

    async def _next(self) -> Result:
        """Wait until the task of the next input is over; return what it brought."""
        while (found := self._state.next_over) is None:
            await self._hear()
        at, task_id = found
        task = await self._backend.get(f"/api/v1/tasks/{task_id}", Task)
        return await fetch_result(self._backend, task, self._items[at].name)

    async def _hear(self) -> None:
        """Wait for news of any task; who looks between two waits misses none."""
        if self._error is not None:
            raise self._error
        await self._news.wait()

    # Queueing

    async def _queue(self) -> None:
        found = await in_thread(self._describe)
        for hint in found.hints:
            warnings.warn(hint, FogWarning, stacklevel=2)
        own = dict.fromkeys(found.files.inputs, await in_thread(found.files.module.sha256))
        giving = Giving(self._how, tuple(found.body["argv"]), own)
        await in_thread(self._check, giving, found)
        shared = {**found.body, "module": await self._upload(found.files.module)}
        for start in range(0, len(self._items), self._block):
            block = self._items[start : start + self._block]
            while not self._state.has_room(len(block)):
                await self._hear()
            blobs = await self._send_all(block)
            tasks = [
                {**shared, **giving.to(item.own, blob)}
                for item, blob in zip(block, blobs, strict=True)
            ]
            for chunk in chunks(tasks, 0, self._block):
                await self._submit(tasks[chunk.start : chunk.stop])

    def _describe(self) -> Description:
        """Look at what all tasks share; of inputs that is a script, which stands beside each."""
        return describe(self._module, cast("TaskOptions", self._options))

    def _check(self, giving: Giving, found: Description) -> None:
        module = b"".join(found.files.module.pieces())
        with in_python():
            giving.check(found.body, (item.own for item in self._items), module)

    async def _send_all(self, items: Iterable[_Item]) -> list[str]:
        """Send inputs; where one of them cannot be, the others stay here too."""
        sending = [asyncio.ensure_future(self._send(item)) for item in items]
        try:
            return await asyncio.gather(*sending)
        finally:
            for one in sending:
                one.cancel()

    async def _send(self, item: _Item) -> str:
        if item.content is None:
            return ""
        if isinstance(item.content, bytes):
            return await self._upload(Source.of(item.name, item.content))
        path = os.fspath(item.content)
        return await self._upload(await in_thread(source_of, path, "input"))

    async def _upload(self, source: Source) -> str:
        """Send what was not sent yet; who needs the same bytes waits for them."""
        sha256 = await in_thread(source.sha256)
        if sha256 not in self._sent:
            self._sent[sha256] = asyncio.ensure_future(self._in_turn(source))
        return await self._sent[sha256]

    async def _in_turn(self, source: Source) -> str:
        async with self._sending:
            return await self._backend.upload(source)

    async def _submit(self, tasks: list[dict[str, Any]]) -> None:
        first = not self._state.ids
        # Left in the middle, what it makes is to be cancelled too, and must be known for that.
        self._making = asyncio.ensure_future(self._make(tasks))
        try:
            made = await asyncio.shield(self._making)
        except BackendError as error:
            if error.problem != CONFLICT:
                raise
            raise InvalidTask(
                "`key` is that of another map: give the same module, inputs, arguments and"
                " concurrency with it, or another key"
            ) from None
        self._making = None
        if made["warning"] and first:
            warnings.warn(made["warning"], FogWarning, stacklevel=2)
        self._tell()

    async def _make(self, tasks: list[dict[str, Any]]) -> Batch:
        body, key = self._state.request(tasks)
        made = await self._backend.post("/api/v1/tasks/batch", Batch, body, key=key)
        self._state.queued(made, len(tasks))
        return made

    # Following

    async def _follow(self) -> None:
        while not self._state.ids:
            await self._hear()
        while not self._state.over:
            answer = await self._backend.get(
                "/api/v1/events", Events, wait=WAIT_S, **self._state.query
            )
            self._state.told(answer)
            self._tell()

    def _tell(self) -> None:
        """Wake whoever waits, and tell the caller how far it is."""
        self._news.set()
        self._news.clear()
        if self._progress is not None:
            self._progress(self._state.progress)

    async def _cancel(self) -> None:
        """Cancel what is not over, within a bound; what cannot be cancelled goes on."""
        turns = asyncio.Semaphore(CANCELS)

        async def cancel(task_id: str) -> None:
            async with turns:
                with contextlib.suppress(FogError, OSError):
                    await self._backend.post(f"/api/v1/tasks/{task_id}/cancel", Made)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                if self._making is not None:
                    with contextlib.suppress(FogError, OSError):
                        await self._making
                await asyncio.gather(*map(cancel, list(self._state.open_ids())))


def _items(inputs: Iterable[PathOrBytes | int] | Mapping[str, PathOrBytes], how: As) -> list[_Item]:
    """Name each input: as it was named, as its file, or by its number."""
    if isinstance(inputs, (str, bytes, os.PathLike)):
        raise TypeError("inputs is one thing: give a list of them, or a mapping of names to them")
    if isinstance(inputs, Mapping):
        return [_Item(name, name, content) for name, content in inputs.items()]
    given = list(inputs)
    if how is As.ARGUMENT:
        if any(isinstance(one, bytes) for one in given):
            raise TypeError("inputs holds bytes: as arguments they are text, numbers or paths")
        return [_Item(str(one), str(one), None) for one in given]
    items = []
    own = [_own(one) for one in given]
    for one, name, mine in zip(given, names_of(own), own, strict=True):
        if isinstance(one, int):
            raise TypeError('inputs holds a number: give as_="argument", or bytes or paths')
        items.append(_Item(name, mine or name, one))
    return items


def _own(one: PathOrBytes | int) -> str:
    return "" if isinstance(one, (bytes, int)) else Path(one).name
