"""A fog for whoever may wait: notebooks, scripts and threads.

The one implementation is that for event loops; it runs on a loop in a thread of its own, so that it
works where a loop runs already, as in a notebook.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self, TypeVar, Unpack

from fog_compute.face.describing import MapOptions, PathOrBytes, TaskOptions
from fog_compute.face.fog import Fog, Task, connect
from fog_compute.face.people import ChatMessage, People, Person
from fog_compute.face.records import FogStatus, Node, OutputFile, Progress, TaskStatus, Worker
from fog_compute.face.results import Outcome, Result

__all__ = ["BlockingFog", "BlockingPeople", "BlockingResult", "BlockingTask", "connect_blocking"]

T = TypeVar("T")

_CLOSED: Final = "this fog is closed: connect again"

CLEAN_UP_S: Final = 15.0
"""How long an interrupted call may take to leave things in order."""


def connect_blocking(
    home: str | os.PathLike[str] | None = None,
    *,
    url: str | None = None,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> BlockingFog:
    """Connect to a fog; the arguments are those of `connect`.

    Use it with ``with``, or call `BlockingFog.close` in the end.

    Raises:
        NotRunning: no fog runs there.
        NotReady: one does, and its backend is not up yet.
        ConfigError: something that was given cannot be used.
    """
    return BlockingFog(connect(home, url=url, key=key, ca=ca))


class _Runner:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.new_event_loop()
        self._lock: Final = threading.Lock()
        self._waited: Final[set[Future[Any]]] = set()  # by threads; all end with the loop
        self._over = False
        self._thread: Final = threading.Thread(target=self._run, name="fog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # of a callback
                self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            with self._lock:
                self._over = True
                left_waiting = list(self._waited)
            self._loop.close()
            for done in left_waiting:
                if not done.done():
                    done.set_exception(RuntimeError(_CLOSED))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in the loop and wait for it; interrupted, it is cancelled there and ends.

        Raises:
            RuntimeError: the loop has ended or ends meanwhile, or it is the loop that calls.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a callback cannot wait for its own fog: ask another thread")
        done: Future[T] = Future()
        begun: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = self._loop.create_task(work)
            begun.append(task)
            task.add_done_callback(lambda ended: _hand_over(ended, done))

        def stop() -> None:
            for task in begun:
                task.cancel()

        with self._lock:
            if not self._over:
                self._waited.add(done)
                self._loop.call_soon_threadsafe(begin)
        if done not in self._waited:
            work.close()
            raise RuntimeError(_CLOSED)
        try:
            return done.result()
        except (KeyboardInterrupt, SystemExit):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(stop)
            wait([done], CLEAN_UP_S)
            raise
        finally:
            with self._lock:
                self._waited.discard(done)
            if not begun:
                work.close()

    def close(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            if not self._over:
                self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()


def _hand_over(ended: asyncio.Task[T], done: Future[T]) -> None:
    if done.done():  # the loop was ended under it
        return
    if ended.cancelled():
        done.cancel()
        done.set_running_or_notify_cancel()
    elif (error := ended.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(ended.result())


async def _next(results: AsyncIterator[T]) -> tuple[T] | None:
    """The next one; None after the last, as no future may hold the end of an iteration."""
    try:
        return (await anext(results),)
    except StopAsyncIteration:
        return None


@dataclass(frozen=True, slots=True)
class BlockingResult(Outcome):
    """How a task ended, and the way to its files, as long as its fog is connected."""

    _result: Result = field(repr=False)
    _runner: _Runner = field(repr=False)

    def file(self, path: str) -> bytes:
        """Fetch one file that it left, as `Result.file` does."""
        return self._runner.call(self._result.file(path))

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> tuple[Path, ...]:
        """Write all files that it left into a folder, as `Result.save` does."""
        return self._runner.call(self._result.save(folder, overwrite=overwrite))


def _waited(result: Result, runner: _Runner) -> BlockingResult:
    same = {one.name: getattr(result, one.name) for one in fields(Outcome)}
    return BlockingResult(**same, _result=result, _runner=runner)


class BlockingFog:
    """A connected fog, each of whose methods returns when it is done; safe in several threads.

    Interrupted by Ctrl-C, a method does what `Fog` does when it is cancelled: `run` cancels its
    task, and waiting for a `BlockingTask` leaves it alone.
    """

    def __init__(self, fog: Fog) -> None:
        """Connect; `connect_blocking` makes one."""
        self._fog: Final = fog
        self._runner: Final = _Runner()
        self._closing: Final = threading.RLock()  # several threads may close it
        try:
            self._runner.call(fog.__aenter__())
        except BaseException:
            self._runner.close()
            raise

    @property
    def people(self) -> BlockingPeople:
        """The messages of the fog's owner."""
        return BlockingPeople(self._fog.people, self._runner)

    def __enter__(self) -> Self:
        """Return the fog itself, which is connected already."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Leave maps that are under way and close the connections; tasks go on."""
        with self._closing:
            with contextlib.suppress(RuntimeError):  # it is closed already
                self._runner.call(self._fog.__aexit__(None, None, None))
            self._runner.close()

    def run(
        self,
        module: PathOrBytes,
        *,
        check: bool = True,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> BlockingResult:
        """Run a module or a script as a task and return its result, as `Fog.run` does."""
        work = self._fog.run(module, check=check, timeout=timeout, **options)
        return _waited(self._runner.call(work), self._runner)

    def submit(
        self, module: PathOrBytes, *, key: str | None = None, **options: Unpack[TaskOptions]
    ) -> BlockingTask:
        """Queue a task and return it, as `Fog.submit` does."""
        made = self._runner.call(self._fog.submit(module, key=key, **options))
        return BlockingTask(made, self._runner)

    def map(
        self,
        module: PathOrBytes,
        inputs: Iterable[PathOrBytes | int] | Mapping[str, PathOrBytes],
        *,
        as_: str | None = None,
        concurrency: int | None = None,
        key: str | None = None,
        progress: Callable[[Progress], object] | None = None,
        check: bool = True,
        **options: Unpack[MapOptions],
    ) -> Iterator[BlockingResult]:
        """Run a module over many inputs and give the results in their order, as `Fog.map` does.

        ``progress`` is called in another thread.
        """
        results = self._fog.map(
            module,
            inputs,
            as_=as_,
            concurrency=concurrency,
            key=key,
            progress=progress,
            check=check,
            **options,
        )
        return self._iterated(results)

    def _iterated(self, results: AsyncGenerator[Result]) -> Iterator[BlockingResult]:
        try:
            while (found := self._runner.call(_next(results))) is not None:
                yield _waited(found[0], self._runner)
        finally:
            with contextlib.suppress(RuntimeError):  # the fog is closed, and with it the map
                self._runner.call(results.aclose())

    def task(self, task_id: str) -> BlockingTask:
        """Return a task by its whole id, without asking whether it is there."""
        return BlockingTask(self._fog.task(task_id), self._runner)

    def tasks(self, *, state: str | None = None, limit: int = 20) -> tuple[str, ...]:
        """Return the ids of tasks, newest first, as `Fog.tasks` does."""
        return self._runner.call(self._fog.tasks(state=state, limit=limit))

    def status(self) -> FogStatus:
        """Tell how the fog is."""
        return self._runner.call(self._fog.status())

    def workers(self) -> tuple[Worker, ...]:
        """Tell which workers the fog knows."""
        return self._runner.call(self._fog.workers())

    def nodes(self, *, role: str | None = None, use: str | None = None) -> tuple[Node, ...]:
        """Tell which nodes the network has, as `Fog.nodes` does."""
        return self._runner.call(self._fog.nodes(role=role, use=use))


class BlockingTask:
    """A task of a fog.

    Attributes:
        id: 26 characters.
    """

    def __init__(self, task: Task, runner: _Runner) -> None:
        """`BlockingFog.submit` and `BlockingFog.task` make one."""
        self.id: Final = task.id
        self._task: Final = task
        self._runner: Final = runner

    def __repr__(self) -> str:
        """Say which."""
        return f"<BlockingTask {self.id}>"

    def result(self, *, check: bool = True, timeout: float | None = None) -> BlockingResult:
        """Wait for the end and return what it brought, as `Task.result` does."""
        return _waited(
            self._runner.call(self._task.result(check=check, timeout=timeout)), self._runner
        )

    def status(self) -> TaskStatus:
        """Tell how the task stands."""
        return self._runner.call(self._task.status())

    def logs(self) -> Iterator[str]:
        """Give what the task writes, piece by piece, until it is over, as `Task.logs` does."""
        pieces = self._task.logs()
        try:
            while (found := self._runner.call(_next(pieces))) is not None:
                yield found[0]
        finally:
            with contextlib.suppress(RuntimeError):
                self._runner.call(pieces.aclose())

    def cancel(self) -> bool:
        """Cancel the task; False if it was over already."""
        return self._runner.call(self._task.cancel())

    def files(self) -> tuple[OutputFile, ...]:
        """Tell which files the task left."""
        return self._runner.call(self._task.files())


class BlockingPeople:
    """The messages of the fog's owner, as `People` has them."""

    def __init__(self, people: People, runner: _Runner) -> None:
        """`BlockingFog.people` makes one."""
        self._people: Final = people
        self._runner: Final = runner

    def known(self) -> tuple[Person, ...]:
        """Tell whom one knows, or has met."""
        return self._runner.call(self._people.known())

    def send(
        self,
        to: str = "",
        text: str | None = None,
        *,
        room: str = "",
        file: bytes | None = None,
        name: str = "",
        private: bool = False,
        timeout: float | None = None,
    ) -> str:
        """Send a text or a file to a person or a room, as `People.send` does."""
        return self._runner.call(
            self._people.send(
                to, text, room=room, file=file, name=name, private=private, timeout=timeout
            )
        )

    def messages(
        self, person: str = "", *, room: str = "", limit: int = 100
    ) -> tuple[ChatMessage, ...]:
        """Tell the newest messages, oldest first, as `People.messages` does."""
        return self._runner.call(self._people.messages(person, room=room, limit=limit))

    def arrivals(self) -> Iterator[ChatMessage]:
        """Give what others send from now on, as it comes."""
        arrivals = self._people.arrivals()
        try:
            while (found := self._runner.call(_next(arrivals))) is not None:
                yield found[0]
        finally:
            with contextlib.suppress(RuntimeError):
                self._runner.call(arrivals.aclose())

    def content(self, message: ChatMessage) -> bytes:
        """Fetch what is in a message, such as a file."""
        return self._runner.call(self._people.content(message))

    def cancel(self, message_id: str) -> bool:
        """Give up a message that is not delivered yet, as `People.cancel` does."""
        return self._runner.call(self._people.cancel(message_id))
