"""A coordinator's side of the conversation with a worker, over the channel in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pytest
import pytest_asyncio

from fog_compute.errors import ChannelTimeout
from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics import WorkerMetrics
from fog_compute.tasks import Limits, TaskResult, new_handle
from fog_compute.tasks.assembly import ResultAssembler
from fog_compute.tasks.messages import (
    FINISHED,
    Accepted,
    Answers,
    AttemptStatus,
    Done,
    Module,
    NeedModule,
    Order,
    Poll,
    PollItem,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.sealing import SealedBlob, new_key, seal_blob, session_of
from fog_compute.tasks.wire import encode, limits_to_wire, parse_reply
from fog_compute.testing import MemoryChannel, MemoryNetwork
from fog_compute.vpn.directory import WorkerOffer
from fog_compute.worker.agent import WorkerAgent
from fog_compute.worker.publishing import Served
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.slot import RunnerSlot
from tests.members import GROUP, MEMBERS

from .refusing import CALLS, build_filter

DEADLINE_S = 60.0


class Offers:
    """Remembers what a worker published."""

    def __init__(self) -> None:
        self.published: list[WorkerOffer] = []

    async def publish(self, offer: WorkerOffer) -> None:
        self.published.append(offer)


@dataclass(slots=True)
class Requester:
    """Speaks the protocol as a coordinator does, repeating what was lost."""

    channel: MemoryChannel
    worker: str = "worker"
    key: bytes = field(default_factory=new_key)

    async def ask(self, request: Request, *, reply_packets: int = 4) -> Reply:
        """Ask until an answer comes."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(ChannelTimeout):
                    body = self.sealed(encode(request))
                    data = await self.channel.request(
                        self.worker, body, reply_packets=reply_packets, timeout=5.0
                    )
                    reply = parse_reply(data)
                    if isinstance(reply, Answers) and len(reply.items) == 1:
                        return reply.items[0]
                    return reply

    def sealed(self, body: bytes) -> bytes:
        """A request as a member of the worker's group sends it."""
        return MEMBERS.seal(GROUP, self.worker, body)

    def seal(self, data: bytes) -> SealedBlob:
        return seal_blob(self.key, data)

    def submission(
        self,
        module: bytes,
        *argv: str,
        stdin: bytes | None = None,
        inputs: Mapping[str, bytes] | None = None,
        limits: Limits | None = None,
        attach: bool = True,
        hold_ms: int = 0,
    ) -> Submit:
        blobs = {"module": self.seal(module)}
        if stdin is not None:
            blobs["stdin"] = self.seal(stdin)
        files = {path: self.seal(data) for path, data in (inputs or {}).items()}
        everything = [*blobs.values(), *files.values()]
        order = Order(
            handle=bytes.fromhex(new_handle()),
            kind="wasm",
            module=blobs["module"].ref,
            argv=argv,
            stdin=None if stdin is None else blobs["stdin"].ref,
            inputs={path: sealed.ref for path, sealed in files.items()},
            limits=limits_to_wire(Limits() if limits is None else limits),
            seed=bytes(32),
        )
        return Submit(
            key=self.key,
            orders=(order,),
            attached={b.ref: b.data for b in everything} if attach else {},
            hold_ms=hold_ms,
        )

    async def submit(self, submit: Submit, *blobs: bytes) -> Reply:
        """Submit, sending the blobs that the worker lacks."""
        sealed = {one.ref: one for one in map(self.seal, blobs)}
        while True:
            reply = await self.ask(submit)
            if not isinstance(reply, NeedModule):
                return reply
            for ref in reply.refs:
                await self.submit_blob(sealed[ref])

    async def submit_blob(self, blob: SealedBlob) -> None:
        """Send a blob to the worker's cache."""
        module = Module(ref=blob.ref, data=blob.data, session=session_of(self.key))
        assert await self.ask(module) == Done()

    async def status(self, handle: bytes, offset: int = 0, *, packets: int = 4) -> AttemptStatus:
        reply = await self.ask(Poll(items=(PollItem(handle, offset),)), reply_packets=packets)
        assert isinstance(reply, Status)
        return reply.items[0]

    async def result(self, handle: bytes, *, packets: int = 4) -> TaskResult:
        """Poll until the whole result is here."""
        assembler = ResultAssembler()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                status = await self.status(handle, assembler.offset, packets=packets)
                assert status.state in {"queued", "running", FINISHED}, status.state
                result = assembler.add(status)
                if result is not None:
                    return result
                if status.state != FINISHED:
                    await asyncio.sleep(0.005)

    async def run(self, submit: Submit) -> TaskResult:
        assert isinstance(await self.submit(submit), Accepted)
        return await self.result(handle_of(submit))

    async def until(self, handle: bytes, wanted: Callable[[AttemptStatus], bool]) -> AttemptStatus:
        async with asyncio.timeout(DEADLINE_S):
            while not wanted(status := await self.status(handle)):
                await asyncio.sleep(0.005)
            return status


def handle_of(submit: Submit) -> bytes:
    """Return the handle of a submission of one order."""
    return submit.orders[0].handle


def altered(submit: Submit, **changes: object) -> Submit:
    """Return a submission of one order with fields of it, or of the order, changed."""
    of_order = {
        name: changes.pop(name) for name in tuple(changes) if name in Order.__struct_fields__
    }
    order = msgspec.structs.replace(submit.orders[0], **of_order)
    return msgspec.structs.replace(submit, orders=(order,), **changes)


class Running:
    """A worker that runs in this process; leaving the context stops it, as a restart does."""

    def __init__(self, network: MemoryNetwork, home: Path, settings: WorkerSettings) -> None:
        self.channel = network.channel("worker")
        self.public = network.channel("worker-public")
        self.offers = Offers()
        self.troubles: list[str] = []
        self.metrics = WorkerMetrics()
        self.agent = WorkerAgent(
            [
                Served("worker-test", self.channel, publisher=self.offers),
                Served("worker-other", self.public, PrivacyLevel.PUBLIC, self.offers),
            ],
            home,
            keys=lambda: MEMBERS,
            settings=settings,
            on_trouble=self.troubles.append,
            watcher=self.metrics,
        )
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._serving = asyncio.create_task(self.agent.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._serving is not None
        self._serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._serving


@pytest_asyncio.fixture
async def slot(tmp_path: Path) -> AsyncIterator[RunnerSlot]:
    """A slot without a worker."""
    opened = RunnerSlot(tmp_path / "slot", tmp_path / "compiled")
    yield opened
    await opened.close()


Refuse = Callable[[str, int], list[str]]


@pytest.fixture(scope="session")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> Refuse:
    """Return a function that gives the beginning of a command in which a call is refused."""
    program = build_filter(tmp_path_factory.mktemp("filter"))
    return lambda call, error: [str(program), str(CALLS[call]), str(error)]


Start = Callable[..., Running]


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


@pytest.fixture
def requester(network: MemoryNetwork) -> Requester:
    return Requester(network.channel("requester"))


@pytest.fixture
def start(network: MemoryNetwork, tmp_path: Path) -> Start:
    """Return a function that starts the worker, again on the same folder if called again."""

    def begin(**settings: object) -> Running:
        return Running(network, tmp_path / "worker", WorkerSettings(**settings))  # type: ignore[arg-type]

    return begin


@pytest_asyncio.fixture
async def worker(start: Start) -> AsyncIterator[Running]:
    async with start() as running:
        yield running
