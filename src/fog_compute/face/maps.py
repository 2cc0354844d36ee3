"""One module over many inputs: queued in blocks, followed together, given in their order.

A block is queued under a name that follows from the map's key, so that the same call makes nothing
twice; all blocks are one batch, whose events tell of all of them.
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
from fog_compute.client.loops import AsyncBackend
from fog_compute.client.sources import Source
from fog_compute.errors import BackendError, FogError, InvalidTask
from fog_compute.face.describing import Description, MapOptions, PathOrBytes, TaskOptions, describe
from fog_compute.face.failures import FogWarning
from fog_compute.face.records import Progress
from fog_compute.face.results import Result, fetch_result
from fog_compute.faces import Face, in_words_of
from fog_compute.tasks import TaskState
from fog_compute.threads import in_thread

__all__ = ["CANCEL_S", "Map"]

HOLE: Final = "{}"
BLOCK: Final = 100
"""Tasks that one request queues at most."""

UPLOADS: Final = 4
"""Inputs that are sent at once."""

CANCELS: Final = 8
CANCEL_S: Final = 10.0
"""How long a call that is cancelled takes at most to have its tasks cancelled too."""

BATCH_ID_LENGTH: Final = 26

_AT_WORK: Final = frozenset((TaskState.LEASED, TaskState.RUNNING, TaskState.REPORTED))


@dataclass(frozen=True, slots=True)
class _Item:
    """One input: what it is called, and its content unless it is only an argument."""

    name: str
    content: PathOrBytes | None


class Map:
    """One call of `Fog.map`."""

    def __init__(
        self,
        backend: AsyncBackend,
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
        if as_ not in (None, "stdin", "file", "argument"):
            raise InvalidTask(f"`as_` is {as_!r}: give stdin, file or argument")
        if concurrency is not None and concurrency < 1:
            raise InvalidTask(f"`concurrency` is {concurrency}: give 1 or more, or None")
        if misplaced := {"stdin", "inputs", "seed"} & set(options):
            raise TypeError(f"map() takes no argument {min(misplaced)!r}")
        holed = any(isinstance(one, str) and HOLE in one for one in options.get("args", ()))
        self._as: Final = as_ or ("file" if holed else "stdin")
        self._backend: Final = backend
        self._module: Final = module
        self._options: Final = options
        self._items: Final = _items(inputs, self._as)
        self._most: Final = concurrency or len(self._items) or 1
        self._block: Final = min(BLOCK, max(1, self._most // 4) if concurrency else BLOCK)
        self._kept: Final = key is not None
        name = secrets.token_hex(16) if key is None else check_text(key)
        digest = hashlib.sha256(b"fog-compute map\0" + name.encode()).hexdigest()
        self._name: Final = digest[:40]
        self._batch: Final = digest[-BATCH_ID_LENGTH:]
        self._progress: Final = progress
        self._order: Final[list[str]] = []
        self._states: Final[dict[str, TaskState]] = {}
        self._done = 0
        self._bad: Final[set[str]] = set()
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
            for at, item in enumerate(self._items):
                task_id = await self._over(at)
                task = await self._backend.get(f"/api/v1/tasks/{task_id}", Task)
                result = await fetch_result(self._backend, task, item.name)
                if not result.ok and task_id not in self._bad:
                    self._bad.add(task_id)
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

    async def _over(self, at: int) -> str:
        """Wait until the task of an input is over; return its id."""
        while True:
            if at < len(self._order) and self._is_over(self._order[at]):
                return self._order[at]
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()

    def _is_over(self, task_id: str) -> bool:
        state = self._states.get(task_id)
        return state is not None and state.final

    # Queueing

    async def _queue(self) -> None:
        described = await in_thread(self._describe)
        for hint in described.hints:
            warnings.warn(hint, FogWarning, stacklevel=2)
        module = await self._backend.upload(described.module)
        sending = asyncio.Semaphore(UPLOADS)
        for start in range(0, len(self._items), self._block):
            block = self._items[start : start + self._block]
            while len(self._order) - self._done > self._most - len(block):
                await self._room()
            blobs = await asyncio.gather(*(self._upload(item, sending) for item in block))
            tasks = [
                self._task(described, module, item, blob)
                for item, blob in zip(block, blobs, strict=True)
            ]
            for chunk in chunks(tasks, 0, self._block):
                await self._submit(tasks[chunk.start : chunk.stop], start + chunk.start)

    async def _room(self) -> None:
        """Wait for an end of a task."""
        before = self._done
        while self._done == before:
            self._more = asyncio.get_running_loop().create_future()
            await self._more

    _more: asyncio.Future[None] | None = None

    def _describe(self) -> Description:
        """Look at the module, with the longest name that an input has."""
        longest = max((item.name for item in self._items), key=len, default="x")
        options = cast("TaskOptions", {**self._options, "args": self._args(longest)})
        if self._as == "file":
            options["inputs"] = {longest: b""}
        return describe(self._module, options)

    async def _upload(self, item: _Item, sending: asyncio.Semaphore) -> str:
        if item.content is None:
            return ""
        if isinstance(item.content, bytes):
            source = Source.of(item.name, item.content)
        else:
            source = await in_thread(source_of, os.fspath(item.content), "input")
        async with sending:
            return await self._backend.upload(source)

    def _task(
        self, described: Description, module: str, item: _Item, blob: str
    ) -> dict[str, object]:
        own = {
            name: module for name, one in described.inputs.items() if one is described.module
        }  # a script stands beside each input under its own name
        task = {**described.body, "module": module, "inputs": own}
        task["argv"] = [str(one) for one in self._args(item.name)]
        if self._as == "file":
            task["inputs"] = {**own, item.name: blob}
        elif self._as == "stdin":
            task["stdin"] = blob
        return task

    def _args(self, name: str) -> list[Any]:
        return [
            one.replace(HOLE, name) if isinstance(one, str) else one
            for one in self._options.get("args", ())
        ]

    async def _submit(self, tasks: list[dict[str, object]], start: int) -> None:
        body = {"tasks": tasks, "batch": self._batch}
        key = f"{self._name}-{start}"
        # Left in the middle, what it makes is to be cancelled too, and must be known for that.
        self._making = asyncio.ensure_future(
            self._backend.post("/api/v1/tasks/batch", Batch, body, key=key)
        )
        try:
            made = await asyncio.shield(self._making)
        except BackendError as error:
            if error.problem != CONFLICT:
                raise
            raise InvalidTask(
                "`key` is that of another map: give the same module, inputs, arguments and"
                " concurrency with it, or another key"
            ) from None
        except FogError as error:
            error.args = (in_words_of(Face.PYTHON, str(error)),)
            raise
        if made["warning"] and not start:
            warnings.warn(in_words_of(Face.PYTHON, made["warning"]), FogWarning, stacklevel=2)
        self._making = None
        self._order.extend(made["tasks"])
        # One that was made by an earlier call may be over for long.
        self._done = sum(self._is_over(task_id) for task_id in self._order)
        self._tell()

    # Following

    async def _follow(self) -> None:
        since = 0
        while self._done < len(self._items):
            answer = await self._backend.get(
                "/api/v1/events", Events, since=since, batch=self._batch, wait=WAIT_S
            )
            since = answer["next"]
            for event in answer["events"]:
                with contextlib.suppress(ValueError):  # a state of a newer backend
                    self._states[event["task"]] = TaskState(event["state"])
            self._done = sum(self._is_over(task_id) for task_id in self._order)
            self._tell()

    def _tell(self) -> None:
        """Wake whoever waits, and tell the caller how far it is."""
        self._news.set()
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
        if self._progress is None:
            return
        states = [self._states.get(task_id) for task_id in self._order]
        failed = {TaskState.FAILED, TaskState.CANCELLED}
        self._progress(
            Progress(
                total=len(self._items),
                queued=len(self._order),
                running=sum(state in _AT_WORK for state in states),
                done=self._done,
                failed=sum(
                    state in failed or task_id in self._bad
                    for task_id, state in zip(self._order, states, strict=True)
                ),
            )
        )

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
                        self._order.extend((await self._making)["tasks"])
                open_ones = [one for one in self._order if not self._is_over(one)]
                await asyncio.gather(*(cancel(one) for one in open_ones))


def _items(
    inputs: Iterable[PathOrBytes | int] | Mapping[str, PathOrBytes], as_: str
) -> list[_Item]:
    """Name each input: as its file, by its number, or as it was named; no two alike."""
    if isinstance(inputs, (str, bytes, os.PathLike)):
        raise TypeError("inputs is one thing: give a list of them, or a mapping of names to them")
    if isinstance(inputs, Mapping):
        return [_Item(name, content) for name, content in inputs.items()]
    given = list(inputs)
    if as_ == "argument":
        if any(isinstance(one, bytes) for one in given):
            raise TypeError("inputs holds bytes: as arguments they are text, numbers or paths")
        return [_Item(str(one), None) for one in given]
    if any(isinstance(one, int) for one in given):
        raise TypeError('inputs holds a number: give as_="argument", or bytes or paths')
    digits = len(str(max(len(given) - 1, 0)))
    own = [
        f"{at:0{digits}}" if isinstance(one, bytes) else Path(cast("str", one)).name
        for at, one in enumerate(given)
    ]
    alike = {name for name in own if own.count(name) > 1} if len(set(own)) < len(own) else set()
    return [
        _Item(f"{at:0{digits}}-{name}" if name in alike else name, cast("PathOrBytes", one))
        for at, (name, one) in enumerate(zip(own, given, strict=True))
    ]
