"""A worker that does what a test tells it to, over the real messages and an in-memory network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random

import msgspec
from sqlalchemy.pool import QueuePool

from fog_compute.coordinator.fog import FogCoordinator
from fog_compute.coordinator.membership import MemberDirectory
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.sessions import Tempo
from fog_compute.errors import ChannelError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics import BackendMetrics
from fog_compute.store import Store
from fog_compute.tasks import TaskResult
from fog_compute.tasks.keyring import Keys
from fog_compute.tasks.messages import (
    FINISHED,
    RUNNING,
    UNKNOWN,
    Accepted,
    Ack,
    Answer,
    Answers,
    AttemptStatus,
    Cancel,
    Done,
    Module,
    NeedModule,
    Order,
    Poll,
    Reply,
    Request,
    Submit,
)
from fog_compute.tasks.receipt import RECEIPT_BYTES, Signer
from fog_compute.tasks.result import BadResult, result_id
from fog_compute.tasks.sealing import open_blob
from fog_compute.tasks.wire import encode, fit_statuses, parse_request
from fog_compute.testing import ManualClock, MemoryChannel, MemoryNetwork
from fog_compute.vpn.channel import Received
from fog_compute.vpn.directory import WorkerOffer
from fog_compute.vpn.network import ClientHealth
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.plans import PoolPolicy
from tests.members import MEMBERS

TURNS = 40
"""Turns of the event loop without the database after which nothing goes on by itself."""

Script = Callable[["ScriptedWorker", Request], Reply | None]


@dataclass
class ScriptedWorker:
    """Runs nothing: attempts finish when the test says so.

    Attributes:
        name: its name in the list.
        channel: where it listens.
        answer: consulted first; None leaves the ordinary answer.
        blob_s: how long a blob that comes by itself is on its way, by ``clock``.
    """

    name: str
    channel: MemoryChannel
    slots: int = 2
    answer: Script | None = None
    silent: bool = False
    blob_s: float = 0.0
    clock: ManualClock | None = None
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    attempts: dict[bytes, Order] = field(default_factory=dict)
    keys: dict[bytes, bytes] = field(default_factory=dict)
    signer: Signer = field(default_factory=lambda: Signer(bytes(range(32))))
    results: dict[bytes, bytes] = field(default_factory=dict)
    heard: list[Request] = field(default_factory=list)
    forgotten: set[bytes] = field(default_factory=set)
    late: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def offer(self) -> WorkerOffer:
        address = self.channel.address
        return WorkerOffer(self.name, address, ("wasm",), self.slots, 2**30, MEMBERS.tags(address))

    def finish(self, result: TaskResult, handle: bytes | None = None) -> None:
        """Let one attempt end, the oldest that runs by default."""
        if handle is None:
            handle = next(one for one in self.attempts if one not in self.results)
        self.results[handle] = result.data

    def forget_all(self) -> None:
        """What a restart does."""
        self.attempts.clear()
        self.results.clear()
        self.blobs.clear()

    async def run(self) -> None:
        while True:
            message = await self.channel.receive()
            request = parse_request(MEMBERS.open(message.body, [self.channel.address])[1])
            await self.channel.commit(message)
            if self.silent:
                continue
            self.heard.append(request)
            if isinstance(request, Module) and self.clock is not None:
                arrival = self.clock.sleep(self.blob_s)
                self.late.append(asyncio.create_task(self._handle(message, request, arrival)))
            else:
                await self._handle(message, request)

    async def _handle(
        self, message: Received, request: Request, arrival: Awaitable[None] | None = None
    ) -> None:
        if arrival is not None:
            await arrival
        reply: Reply
        if isinstance(request, Submit):
            self.forgotten |= set(request.acks)
            reply = Answers(tuple(self._judge(request, order) for order in request.orders))
        else:
            scripted = self.answer(self, request) if self.answer else None
            reply = scripted or self._ordinary(request, message.reply_capacity)
        if message.reply_capacity:
            # A repeated message has a way back that was used.
            with contextlib.suppress(ChannelError):
                await self.channel.reply(message, encode(reply))

    def _judge(self, submit: Submit, order: Order) -> Answer:
        """Answer one order: the script sees it as a submission of its own."""
        alone = msgspec.structs.replace(submit, orders=(order,))
        scripted = self.answer(self, alone) if self.answer else None
        if scripted is not None:
            assert isinstance(scripted, Answer)
            return scripted
        self.blobs.update(submit.attached)
        wanted = [order.module, *order.inputs.values()]
        if order.stdin is not None:
            wanted.append(order.stdin)
        missing = tuple(ref for ref in wanted if ref not in self.blobs)
        if missing:
            return NeedModule(missing)
        for ref in wanted:
            open_blob(submit.key, ref, self.blobs[ref])
        self.attempts.setdefault(order.handle, order)
        self.keys[order.handle] = submit.key
        return Accepted(AttemptStatus(order.handle, RUNNING))

    @property
    def orders(self) -> list[Order]:
        """Every order that came, repeats included."""
        return [order for r in self.heard if isinstance(r, Submit) for order in r.orders]

    def _ordinary(self, request: Request, capacity: int) -> Reply:
        match request:
            case Submit():
                raise AssertionError("its orders are judged one by one")
            case Module():
                self.blobs[request.ref] = request.data
                return Done()
            case Poll():
                self.forgotten |= set(request.acks)
                statuses = {
                    item.handle: self._status(item.handle, item.offset) for item in request.items
                }
                pieces = {
                    handle: self.results[handle][status.offset :]
                    for handle, status in statuses.items()
                    if handle in self.results
                }
                return fit_statuses(statuses, pieces, capacity)
            case Ack() | Cancel():
                self.forgotten |= set(request.handles)
                return Done()

    def _status(self, handle: bytes, offset: int) -> AttemptStatus:
        if handle not in self.attempts:
            return AttemptStatus(handle, UNKNOWN)
        body = self.results.get(handle)
        if body is None:
            return AttemptStatus(handle, RUNNING)
        return AttemptStatus(
            handle,
            FINISHED,
            result_id=result_id(body),
            result_total=len(body),
            offset=offset,
            receipt=self.receipt(handle, body),
        )

    def receipt(self, handle: bytes, body: bytes) -> bytes:
        """Sign for a result, as an honest worker does; a forger's test replaces this."""
        with contextlib.suppress(BadResult):
            return self.signer.sign(handle, TaskResult.parse(body))
        return bytes(RECEIPT_BYTES)


class Channels:
    """The requester's channels, one per level, on an in-memory network."""

    def __init__(self, network: MemoryNetwork, prefix: str = "requester") -> None:
        self._network = network
        self._prefix = prefix
        self._open: dict[PrivacyLevel, MemoryChannel] = {}
        self._down = ""
        self.fares = ClientHealth()

    async def channel(self, level: PrivacyLevel, owner: str = "") -> MemoryChannel:
        if level not in self._open:
            self._open[level] = self._network.channel(f"{self._prefix}-{level.value}")
            self._open[level].down = self._down
        return self._open[level]

    def health(self, level: PrivacyLevel, owner: str = "") -> ClientHealth | None:
        return self.fares if level in self._open else None

    async def leave(self, level: PrivacyLevel, owner: str) -> None:
        pass

    def crash(self, level: PrivacyLevel) -> None:
        """Close a level's client under those who use it."""
        channel = self._open.pop(level, None)
        if channel is not None:
            channel.down = "the client is closed"

    def cut_off(self, why: str) -> None:
        """Take the network from this side; give it back with an empty reason."""
        self._down = why
        for channel in self._open.values():
            channel.down = why


@dataclass
class Directory:
    """A list of workers that the test writes."""

    offers: list[WorkerOffer] = field(default_factory=list)

    async def workers(self) -> Sequence[WorkerOffer]:
        return list(self.offers)


class AtOnce(ThreadPoolExecutor):
    """Runs what goes to a thread in the caller's, so that no virtual time passes beside it."""

    def submit(self, fn: Callable[..., object], /, *args: object, **more: object) -> Future[object]:  # type: ignore[override]  # of whatever type the function gives
        done: Future[object] = Future()
        try:
            done.set_result(fn(*args, **more))
        except Exception as error:  # noqa: BLE001  # it belongs to the caller
            done.set_exception(error)
        return done


@dataclass
class Fog:
    """A coordinator with scripted workers on a virtual clock."""

    store: Store
    clock: ManualClock
    network: MemoryNetwork
    directory: Directory
    channels: Channels
    onion: OnionCircuitService
    fog: WorkerRegistry
    coordinator: FogCoordinator
    tempo: Tempo
    jobs: list[asyncio.Task[None]] = field(default_factory=list)
    workers: list[ScriptedWorker] = field(default_factory=list)

    def start(self) -> None:
        self.jobs.append(asyncio.create_task(self.coordinator.run()))

    def add_worker(self, name: str, **more: object) -> ScriptedWorker:
        worker = ScriptedWorker(name, self.network.channel(f"worker-{name}"), **more)  # type: ignore[arg-type]  # fields by name
        self._join(worker)
        return worker

    def restart(self, after: Fog) -> None:
        """Take over what went on while the coordinator ``after`` was away: workers and clock."""
        for old in after.workers:
            old.channel = self.network.channel(f"worker-{old.name}")
            self._join(old)

    def _join(self, worker: ScriptedWorker) -> None:
        self.workers.append(worker)
        self.directory.offers.append(worker.offer)
        self.jobs.append(asyncio.create_task(worker.run()))

    async def passes(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.clock.monotonic() + seconds
        await self.until(lambda: self.clock.monotonic() >= end)

    async def until(
        self, met: Callable[[], bool] | Callable[[], Awaitable[bool]], *, step: float = 0.05
    ) -> None:
        """Move the clock on in steps until something is so, at most for a virtual hour."""
        end = self.clock.monotonic() + 3600
        while self.clock.monotonic() < end:
            await self._rest()
            answer = met()
            if answer if isinstance(answer, bool) else await answer:
                return
            for job in self.jobs:
                if job.done():
                    job.result()
            await self.clock.advance(step)
            step = min(step * 1.1, 1.0)
        raise AssertionError("it never came to that")

    async def _rest(self) -> None:
        """Come back when only the clock can make anything happen."""
        calm = 0
        while calm < TURNS:
            # The database answers from its own threads, in real time.
            pools = (self.store._engines.writing.pool, self.store._engines.reading.pool)
            busy = any(isinstance(pool, QueuePool) and pool.checkedout() for pool in pools)
            calm = 0 if busy else calm + 1
            await asyncio.sleep(0.0002 if busy else 0)

    async def stop(self) -> None:
        for job in self.jobs:
            job.cancel()
        await asyncio.gather(*self.jobs, return_exceptions=True)


def place_in(folder: Path) -> str:
    """Where a fog of this folder has its store."""
    return f"sqlite:///{folder / 'fog.db'}"


async def open_fog(
    folder: Path,
    *,
    tempo: Tempo | None = None,
    loss: float = 0.0,
    duplication: float = 0.0,
    seed: int = 1,
    clock: ManualClock | None = None,
    keys: Keys = lambda: MEMBERS,
    circuits: PoolPolicy | None = None,
    network: MemoryNetwork | None = None,
    database: str | None = None,
    home: str = "",
    metrics: BackendMetrics | None = None,
) -> Fog:
    """Make a fog without workers; nothing runs before `Fog.start`.

    One with a ``home`` is a backend among others on a Postgres ``database``.
    """
    clock = ManualClock() if clock is None else clock
    tempo = Tempo(lease_s=60, request_timeout_s=1.0) if tempo is None else tempo
    asyncio.get_running_loop().set_default_executor(AtOnce())
    place = place_in(folder) if database is None else database
    metrics = BackendMetrics() if metrics is None else metrics
    store = await Store.open(place, clock=clock, home=home or None, metrics=metrics.store)
    if network is None:
        network = MemoryNetwork(Random(seed), loss=loss, duplication=duplication, clock=clock)
    directory = Directory()
    channels = Channels(network, f"requester{home}")
    onion = OnionCircuitService(
        channels, clock=clock, policy=circuits, rng=Random(seed), metrics=metrics.circuits
    )
    fog = WorkerRegistry(
        MemberDirectory(directory, keys), clock=clock, rng=Random(seed), metrics=metrics.tasks
    )
    coordinator = FogCoordinator(
        store=store,
        workers=fog,
        carrier=onion,
        keys=keys,
        tempo=tempo,
        clock=clock,
        metrics=metrics.tasks,
    )
    return Fog(store, clock, network, directory, channels, onion, fog, coordinator, tempo)


def elapsed(fog: Fog, since: float) -> timedelta:
    return timedelta(seconds=fog.clock.monotonic() - since)
