"""A fog from an event loop: tasks submitted, awaited, followed and cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self, Unpack

from fog_compute.client.answers import (
    Made,
    New,
    NodeList,
    OutputFiles,
    Status,
    TaskPage,
)
from fog_compute.client.answers import Task as TaskAnswer
from fog_compute.client.asking import CONFLICT, NO_ANSWER, WAIT_S
from fog_compute.client.nodes import NODES, NodePages
from fog_compute.client.places import URL, Home, Place, place_from_environment, remote_place
from fog_compute.client.tails import grown, last_written
from fog_compute.errors import BackendError, FogError, NotFound
from fog_compute.face.describing import MapOptions, PathOrBytes, TaskOptions, describe
from fog_compute.face.failures import FogWarning, StillRunning
from fog_compute.face.maps import CANCEL_S, Map
from fog_compute.face.people import People
from fog_compute.face.records import (
    FogStatus,
    Node,
    OutputFile,
    Progress,
    TaskStatus,
    Worker,
    records,
)
from fog_compute.face.results import Result, fetch_result
from fog_compute.face.words import PythonBackend
from fog_compute.layout import HomeLayout, usable_home
from fog_compute.tasks.ids import is_whole
from fog_compute.text import one_line
from fog_compute.threads import in_thread

__all__ = ["Fog", "Task", "connect", "place_of"]

PAUSE_S: Final = 0.2
LOGS_POLL_S: Final = 1.0


def connect(
    home: str | os.PathLike[str] | None = None,
    *,
    url: str | None = None,
    key: str | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> Fog:
    """Return a fog, to be entered with ``async with``.

    Args:
        home: its home folder on this machine; by default ``FOG_HOME``, or the user's own.
        url: of a backend elsewhere, such as ``https://fog.example.org:8000``; by default
            ``FOG_URL`` unless a home is given.
        key: an API key of that backend; by default ``FOG_KEY``.
        ca: file of certificates by which it proves itself; by default ``FOG_CA``, or the system's.

    Raises:
        ConfigError: something that was given cannot be used.
        TypeError: both a home and a url are given, or a key or certificates without a url.
    """
    return Fog(place_of(home, url, key, ca))


def place_of(
    home: str | os.PathLike[str] | None,
    url: str | None,
    key: str | None,
    ca: str | os.PathLike[str] | None,
) -> Place:
    """Where the arguments of `connect` say that a backend is."""
    if home is not None and url is not None:
        raise TypeError("connect() takes a home or a url, and not both")
    trusted = None if ca is None else os.fspath(ca)
    if home is None and url is None:
        url = os.environ.get(URL) or None
    if url is not None:
        return remote_place(url, key, trusted)
    if key is not None or trusted is not None:
        raise TypeError("connect() takes a key or a ca with a url (FOG_URL) only")
    if home is None:
        return place_from_environment()
    return Home(HomeLayout(usable_home(Path(home))))


class Fog:
    """A connected fog; its methods may be under way together, in the event loop that entered it.

    All raise `BackendError` where the backend does not answer, and `Unauthorised` where its key
    does not allow what is asked.
    """

    def __init__(self, place: Place) -> None:
        """Ask nothing yet; `connect` makes one."""
        self._backend: Final = PythonBackend(place)
        self._maps: Final[weakref.WeakSet[AsyncGenerator[Result]]] = weakref.WeakSet()

    @property
    def people(self) -> People:
        """The messages of the fog's owner."""
        return People(self._backend)

    async def __aenter__(self) -> Self:
        """Find the backend.

        Raises:
            NotRunning: no fog runs there.
            NotReady: one does, and its backend is not up yet.
        """
        await self._backend.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Leave maps that are under way, and close the connections; tasks go on."""
        for results in list(self._maps):
            with contextlib.suppress(RuntimeError):  # somebody is at its next result
                await results.aclose()
        await self._backend.close()

    async def run(
        self,
        module: PathOrBytes,
        *,
        check: bool = True,
        timeout: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Result:
        """Run a module or a script as a task and return its result.

        Cancelled, it cancels the task, of which nobody else knows. After ``timeout`` seconds the
        task goes on.

        Args:
            module: path of a WASI module or a Python script, or its bytes.
            check: whether to raise where the task did not go well.
            timeout: seconds to wait for the end at most.
            **options: how it is to run (`TaskOptions`).

        Raises:
            TaskFailed: the task failed, or its exit code is not 0, and ``check`` is True.
            StillRunning: it is not over in time.
            InvalidTask: no fog would take it; the text names the argument.
            PrivacyUnavailable: the network cannot give the level.
            NoWorker: no listed worker can take it, and it is not to wait for one.
        """
        making = asyncio.ensure_future(self.submit(module, **options))
        try:
            task = await asyncio.shield(making)
            return await task.result(check=check, timeout=timeout)
        except asyncio.CancelledError:
            await _cancel_made(making)
            raise

    async def submit(
        self, module: PathOrBytes, *, key: str | None = None, **options: Unpack[TaskOptions]
    ) -> Task:
        """Queue a task and return it; it survives restarts of the fog from then on.

        Cancelled, the task may be there all the same: with a ``key`` a second call gives it back.

        Args:
            module: path of a WASI module or a Python script, or its bytes.
            key: 1 to 64 visible ASCII characters: a second call with it makes no second task.
            **options: how it is to run (`TaskOptions`).

        Raises:
            InvalidTask: no fog would take it; the text names the argument.
            PrivacyUnavailable: the network cannot give the level.
            NoWorker: no listed worker can take it, and it is not to wait for one.
        """
        described = await in_thread(describe, module, options)
        for hint in described.hints:
            warnings.warn(hint, FogWarning, stacklevel=2)
        files = described.files
        sent = files.named([await self._backend.upload(one) for one in files.each()])
        body = {**sent, **described.body}
        made = await self._backend.post("/api/v1/tasks", New, body, key=key)
        if made["warning"]:
            warnings.warn(made["warning"], FogWarning, stacklevel=2)
        return Task(made["id"], self._backend)

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
    ) -> AsyncGenerator[Result]:
        """Run a module over many inputs, a task for each; give the results in their order.

        With a ``key`` the same call goes on where it was left: tasks that it has made already are
        followed, and not made again, as long as the fog keeps them. Without one, leaving the loop
        early, by ``break``, an exception or a cancellation, cancels the tasks that are not over.

        Args:
            module: path of a WASI module or a Python script, or its bytes.
            inputs: paths or bytes, or a mapping of names to them; numbers with
                ``as_="argument"``.
            as_: give each input as ``stdin``, as a ``file`` in the working directory, or only as an
                ``argument``; by default as a file if an argument holds ``{}``, which stands for the
                input's name.
            concurrency: how many tasks are queued or running at most; by default all.
            key: names the map, so that it can be gone on with; any text.
            progress: called with a `Progress` whenever there is news, in the event loop.
            check: whether to raise at the first result that did not go well.
            **options: how each is to run (`MapOptions`).

        Raises:
            TaskFailed: a task failed, or its exit code is not 0, and ``check`` is True.
            InvalidTask: no fog would take it, or the key is that of another map.
        """
        run = Map(
            self._backend,
            module,
            inputs,
            options,
            as_=as_,
            concurrency=concurrency,
            key=key,
            progress=progress,
        )
        results = run.results(check=check)
        self._maps.add(results)
        return results

    def task(self, task_id: str) -> Task:
        """Return a task by its whole id, without asking whether it is there."""
        return Task(task_id, self._backend)

    async def tasks(self, *, state: str | None = None, limit: int = 20) -> tuple[str, ...]:
        """Return the ids of tasks, newest first.

        Args:
            state: only those in this state.
            limit: up to 1000.
        """
        query: dict[str, str | float] = {"limit": limit}
        if state is not None:
            query["state"] = state
        page = await self._backend.get("/api/v1/tasks", TaskPage, **query)
        return tuple(row["id"] for row in page["tasks"])

    async def status(self) -> FogStatus:
        """Tell how the fog is."""
        return FogStatus.of(await self._backend.get("/api/v1/status", Status))

    async def workers(self) -> tuple[Worker, ...]:
        """Tell which workers the fog knows."""
        return (await self.status()).workers

    async def nodes(self, *, role: str | None = None, use: str | None = None) -> tuple[Node, ...]:
        """Tell which nodes the network has, in the order of their ids.

        Args:
            role: only ``entry``, ``middle`` or ``exit`` nodes.
            use: only those that are this to the fog: ``edge`` or ``excluded``.
        """
        pages = NodePages(role, use)
        while (
            found := pages.take(await self._backend.get(NODES, NodeList, **pages.query))
        ) is None:
            pass
        return records(found["nodes"], Node)


class Task:
    """A task of a fog; awaiting it gives its result.

    Cancelling whoever awaits it leaves the task alone: `cancel` ends it.

    Attributes:
        id: 26 characters; `Fog.task` gives the task back, also to another program.
    """

    def __init__(self, task_id: str, backend: PythonBackend) -> None:
        """`Fog.submit` and `Fog.task` make one.

        Raises:
            NotFound: no task can have such an id.
        """
        if not is_whole(task_id):  # or it could name another route
            raise NotFound(f"{one_line(repr(task_id), 80)} is no id of a task: one has 26 letters")
        self.id: Final = task_id
        self._backend: Final = backend

    def __repr__(self) -> str:
        """Say which."""
        return f"<Task {self.id}>"

    def __await__(self) -> Generator[Any, None, Result]:
        """Wait for the end as `result` does."""
        return self.result().__await__()

    async def result(self, *, check: bool = True, timeout: float | None = None) -> Result:
        """Wait for the end of the task and return what it brought; cancelled, the task goes on.

        Raises:
            TaskFailed: it failed, or its exit code is not 0, and ``check`` is True.
            TaskCancelled: it was cancelled, and ``check`` is True.
            StillRunning: it is not over after ``timeout`` seconds, and goes on.
            NotFound: there is no such task, or no longer.
        """
        with self._named():
            try:
                async with asyncio.timeout(timeout):
                    task = await self._end()
            except TimeoutError:
                raise StillRunning(self.id, timeout or 0) from None
            result = await fetch_result(self._backend, task)
        if check:
            result.check()
        return result

    async def status(self) -> TaskStatus:
        """Tell how the task stands.

        Raises:
            NotFound: there is no such task, or no longer.
        """
        return TaskStatus.of(await self._get())

    async def logs(self) -> AsyncGenerator[str]:
        """Give what the task writes, piece by piece, until it is over.

        It is what its worker tells of standard error, or else of standard output, when it is asked:
        a task that writes much between two looks shows only the last 512 bytes of that.
        """
        shown = ""
        while True:
            task = await self._get()
            text = task["log_tail"]
            if task["final"]:
                text = await self._written(task)
            if new := grown(shown, text):
                yield new
            if task["final"]:
                return
            shown = text or shown
            await asyncio.sleep(LOGS_POLL_S)

    async def cancel(self) -> bool:
        """Cancel the task; False if it was over already.

        Raises:
            NotFound: there is no such task, or no longer.
        """
        try:
            await self._backend.post(f"/api/v1/tasks/{self.id}/cancel", Made)
        except BackendError as error:
            if error.problem == CONFLICT and (await self._get())["final"]:
                return False
            raise
        return True

    async def files(self) -> tuple[OutputFile, ...]:
        """Tell which files the task left.

        Raises:
            NotFound: it is not over, or left no result.
        """
        answer = await self._backend.get(f"/api/v1/tasks/{self.id}/files", OutputFiles)
        return records(answer["files"], OutputFile)

    @contextlib.contextmanager
    def _named(self) -> Generator[None]:
        """Name the task, which goes on, where nothing is heard of it."""
        try:
            yield
        except NO_ANSWER as error:
            error.args = (f"{error}; task {self.id} goes on", *error.args[1:])
            raise

    async def _get(self, **query: float) -> TaskAnswer:
        return await self._backend.get(f"/api/v1/tasks/{self.id}", TaskAnswer, **query)

    async def _end(self) -> TaskAnswer:
        version = 0
        while True:
            task = await self._get(wait=WAIT_S, since=version)
            if task["final"]:
                return task
            if task["version"] == version:
                await asyncio.sleep(PAUSE_S)  # a backend would have waited for news
            version = task["version"]

    async def _written(self, task: TaskAnswer) -> str:
        if (stream := last_written(task)) is None:
            return ""
        data = await self._backend.whole(f"/api/v1/tasks/{self.id}/{stream}")
        return data.decode(errors="replace")


async def _cancel_made(making: asyncio.Future[Task]) -> None:
    """Cancel the task that a call made, or was about to make; within a bound, and in silence."""
    with contextlib.suppress(FogError, OSError, TimeoutError):
        async with asyncio.timeout(CANCEL_S):
            await (await making).cancel()
