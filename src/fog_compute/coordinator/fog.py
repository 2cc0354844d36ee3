"""The coordinator as others call it: tasks in, what becomes of them out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from fog_compute.clock import Clock, SystemClock
from fog_compute.coordinator import planner
from fog_compute.coordinator.attempts import Stage
from fog_compute.coordinator.carrier import Carrier
from fog_compute.coordinator.dispatcher import Dispatcher
from fog_compute.coordinator.membership import for_group
from fog_compute.coordinator.placement import Decision, Requirements
from fog_compute.coordinator.registry import Shortfall, WorkerRegistry
from fog_compute.coordinator.sessions import Tempo
from fog_compute.errors import NoWorker
from fog_compute.observability.metrics import Registry, TaskMetrics
from fog_compute.store import Cancelled, Conflict, Store
from fog_compute.tasks import WAITING_TASK_STATES, Attempt, Task, TaskSpec
from fog_compute.tasks.keyring import Keys

__all__ = ["FogCoordinator"]

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class FogCoordinator:
    """Takes tasks, has the dispatcher bring each to its end, and says how they do."""

    def __init__(
        self,
        *,
        store: Store,
        workers: WorkerRegistry,
        carrier: Carrier,
        keys: Keys,
        tempo: Tempo | None = None,
        clock: Clock | None = None,
        metrics: TaskMetrics | None = None,
    ) -> None:
        """Nothing happens before :meth:`run`."""
        self._store: Final = store
        self._workers: Final = workers
        self._keys: Final = keys
        self._tempo: Final = Tempo() if tempo is None else tempo
        self._clock: Final = SystemClock() if clock is None else clock
        self._dispatcher: Final = Dispatcher(
            store=store,
            fog=workers,
            carrier=carrier,
            keys=keys,
            tempo=self._tempo,
            clock=self._clock,
            metrics=TaskMetrics(Registry()) if metrics is None else metrics,
        )
        self._work: Final = self._dispatcher.work

    async def run(self) -> None:
        """Work until cancelled; what was begun is found again in the store by the next run."""
        await self._dispatcher.run()

    def select_node(
        self, requirements: Requirements, *, leased: Mapping[str, int] = _NOTHING
    ) -> Decision:
        """Choose the worker for a task; the decision explains itself, and changes nothing."""
        return self._workers.select_node(requirements, leased=leased)

    async def submit(
        self, spec: TaskSpec, key: str | None = None, *, wait_for_worker: bool = True
    ) -> Task:
        """Queue a task; it is on disk when this returns.

        Under a ``key`` only one task is ever made: who asks again gets the same.

        Raises:
            Conflict: another task was made under the key.
            InvalidTask: it is for a group that this fog is no member of.
            NoWorker: none that is listed could take it, and it is not to wait for one.
            NotFound: a blob of the task was not uploaded.
            StoreError: the database refused.
        """
        await self._dispatcher.until_ready()
        spec = for_group(spec, self._keys())
        # Once it is on disk it must be known here too, whoever stops waiting for the answer.
        return await asyncio.shield(self._submit(spec, key, wait_for_worker))

    async def submit_batch(
        self,
        specs: Sequence[TaskSpec],
        key: str | None = None,
        batch: str | None = None,
        *,
        at_once: Collection[int] = (),
    ) -> list[Task]:
        """Queue tasks together, in one commit: all of them, or none; otherwise as `submit`.

        Those whose places in the batch are in ``at_once`` do not wait for a worker.
        """
        keys = self._keys()
        specs = [for_group(spec, keys) for spec in specs]
        await self._dispatcher.until_ready()
        return await asyncio.shield(self._submit_batch(specs, key, batch, at_once))

    def shortfalls(self, specs: Iterable[TaskSpec]) -> Iterator[Shortfall]:
        """What no listed worker offers to some of these tasks, which then wait for one."""
        for needs in dict.fromkeys(planner.needs_of(spec) for spec in specs):
            if (short := self._workers.shortfall(needs)) is not None:
                yield short

    def _check_able(self, specs: Iterable[TaskSpec]) -> None:
        """Raise `NoWorker` for the first task that certainly no listed worker could take."""
        for short in self.shortfalls(specs):
            if short.certain:
                raise NoWorker(short.refusal())

    async def _submit(self, spec: TaskSpec, key: str | None, wait_for_worker: bool) -> Task:
        tasks = self._store.tasks
        if key is not None and (made := await tasks.of_key(key, spec)) is not None:
            return made
        if not wait_for_worker:
            self._check_able([spec])
        try:
            return await self._work.create([spec], tasks.create(spec, key))
        except Conflict:
            # Somebody asked for the same at the same time.
            if key is None or (made := await tasks.of_key(key, spec)) is None:
                raise
            return made

    async def _submit_batch(
        self,
        specs: Sequence[TaskSpec],
        key: str | None,
        batch: str | None,
        at_once: Collection[int],
    ) -> list[Task]:
        tasks = self._store.tasks
        if key is not None and (made := await tasks.batch_of_key(key, specs)):
            return made
        self._check_able(specs[index] for index in sorted(at_once))
        try:
            return await self._work.create(specs, tasks.create_batch(specs, key, batch))
        except Conflict:
            if key is None or not (made := await tasks.batch_of_key(key, specs)):
                raise
            return made

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task that is not over; its worker is told to stop.

        Raises:
            NotFound: there is no such task.
            Conflict: the task is over, or another backend has its attempt, and so its circuit.
        """
        await self._dispatcher.until_ready()
        task = await self._store.tasks.get(task_id)
        if task.state.final:
            raise Conflict(f"task {task_id} is over: {task.state.said}")
        await self._work.apply([Cancelled(task_id)])
        return await self._store.tasks.get(task_id)

    def waiting_reason(self, task: Task, attempts: Sequence[Attempt] = ()) -> str:
        """Why an open task is not with a worker now; empty if there is nothing to say.

        Args:
            task: as it is in the store.
            attempts: its attempts; without them, nothing is said of workers that refused it.
        """
        if task.state.final:
            return ""
        if own := self._work.own_trouble(task.spec.privacy):
            return f"waiting: {own}"
        if task.state not in WAITING_TASK_STATES:
            return self._work.trouble_of(task.id)
        needed = planner.requirements_of(task, attempts, self._clock.now())
        decision = self.select_node(needed)
        why = decision.explain() if decision.worker is None else "it waits for its turn"
        return "; ".join(reason for reason in (why, task.reason) if reason)

    def stage(self, task: Task) -> Stage | None:
        """What is being done for a task that is with a worker; None if nothing is known of it."""
        if task.attempt is None or task.state.final:
            return None
        return self._work.stage(task.attempt)

    def open_attempt(self, task: Task) -> Attempt | None:
        """The attempt that goes with a task's row, as the store has it.

        None if this coordinator has none, or knows another version of the task.
        """
        record = self._work.ledger.of_task(task.id)
        return None if record is None or record.task.version != task.version else record.row

    def log_tail(self, task: Task) -> bytes:
        """The last that a task wrote, up to 512 bytes, as its worker told when it was asked."""
        return b"" if task.attempt is None else self._work.log_tail(task.attempt)

    @property
    def trouble(self) -> str:
        """What keeps this side from its work now, in one line; empty if nothing does."""
        return self._work.own_trouble()

    async def follow(
        self, task_id: str, since: int, timeout_s: float, *, final: bool = False
    ) -> Task:
        """The task once its version is above ``since``, or as it is after ``timeout_s``.

        With ``final``, once it is over as well.

        Raises:
            NotFound: there is no such task.
        """
        return await self._store.events.wait(task_id, since, timeout_s, final=final)

    async def circuit_of(self, task_id: str) -> str:
        """The id of the circuit that a task's present attempt uses; waits until it has one.

        Raises:
            NotFound: there is no such task.
            Conflict: the task is over.
        """
        await self._dispatcher.until_ready()
        version = 0
        while True:
            task = await self.follow(task_id, version, self._tempo.poll_max_s)
            if task.state.final:
                raise Conflict(f"task {task_id} is over: {task.state.said}")
            record = self._work.ledger.of_task(task_id)
            if record is not None:
                return await self._dispatcher.exchange.circuit(self._work.session(record))
            if task.attempt is not None:
                owner = (await self._store.attempts.get(task.attempt)).owner
                if owner != self._store.owner:
                    raise Conflict(f"task {task_id} is run by another backend: ask that one")
            version = task.version
