"""The real coordinator and real workers, on a virtual clock, over a network that does its worst.

Only the runner is a stand-in: it takes virtual time and gives its input back.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fog_compute.coordinator.sessions import Tempo
from fog_compute.errors import FogError
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import AttemptState, Limits, TaskResult, TaskSpec, TaskState
from fog_compute.testing import ManualClock, MemoryNetwork
from fog_compute.units import GIB
from fog_compute.vpn.directory import WorkerOffer
from fog_compute.worker.agent import WorkerAgent
from fog_compute.worker.job import Job, LoadModule
from fog_compute.worker.publishing import Served
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.slot import RunnerSlot
from tests.members import MEMBERS

from .scripted import Fog, open_fog

LEVEL: Final = PrivacyLevel.PRIVATE
MODULE: Final = b"module" * 20
TEMPO: Final = Tempo(lease_s=20, request_timeout_s=2.0)


class Runner(RunnerSlot):
    """Gives standard input back after a random time, without a process."""

    def __init__(self, folder: Path, clock: ManualClock, rng: Random) -> None:
        folder.mkdir(parents=True, exist_ok=True)  # where there is room for a task
        super().__init__(folder, folder / "compiled")
        self._clock = clock
        self._rng = rng

    @property
    def pid(self) -> int | None:
        return 1

    async def start(self) -> None:
        pass

    async def run(self, job: Job, load: LoadModule) -> TaskResult:
        assert (await load()).startswith(MODULE)
        stdin = job.stdin if isinstance(job.stdin, bytes) else b""
        await self._clock.sleep(self._rng.choice((0.0, 0.1, 2.0)))
        return TaskResult(0, stdin, b"", 1, 2, 3)

    async def compile(self, module_id: str, load: LoadModule, limits: Limits) -> None:
        with contextlib.suppress(FogError):  # the cache may have lost it
            assert (await load()).startswith(MODULE)
        await self._clock.sleep(self._rng.choice((0.0, 0.1, 2.0)))

    async def close(self) -> None:
        pass


@dataclass
class World:
    """A coordinator and workers, each of which can die at any moment and come back."""

    folder: Path
    clock: ManualClock
    network: MemoryNetwork
    rng: Random
    fog: Fog
    agents: dict[str, WorkerAgent] = field(default_factory=dict)
    serving: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start_worker(self, name: str) -> None:
        served = Served(name, self.network.channel(f"worker-{name}"), LEVEL)
        settings = WorkerSettings(slots=2, queue=3, kinds=("wasm",))
        agent = WorkerAgent(
            [served],
            self.folder / name,
            keys=lambda: MEMBERS,
            settings=settings,
            clock=self.clock,
        )
        self.agents[name] = agent
        self.serving[name] = asyncio.create_task(agent.run())

    async def kill_worker(self, name: str) -> None:
        self.serving[name].cancel()
        await asyncio.gather(self.serving[name], return_exceptions=True)
        self.start_worker(name)

    async def kill_coordinator(self) -> None:
        await self.fog.stop()
        await self.fog.store.close()
        self.fog = await begin(self.folder, self.clock, self.network, self.rng)
        self.fog.directory.offers.extend(map(offer, self.agents))
        self.fog.start()

    async def accepted(self) -> bool:
        for serving in self.serving.values():
            if serving.done():
                serving.result()
        counts = await self.fog.store.tasks.count_by_state()
        return sum(counts.values()) == counts[TaskState.ACCEPTED]

    def idle(self) -> bool:
        return not any(len(agent._holdings) for agent in self.agents.values())


def offer(name: str) -> WorkerOffer:
    return WorkerOffer(
        name=name,
        address=f"worker-{name}",
        kinds=("wasm",),
        slots=2,
        memory_bytes=GIB,
        groups=MEMBERS.tags(f"worker-{name}"),
        level=LEVEL,
    )


async def begin(folder: Path, clock: ManualClock, network: MemoryNetwork, rng: Random) -> Fog:
    return await open_fog(
        folder, tempo=TEMPO, seed=rng.randrange(2**32), clock=clock, network=network
    )


@contextlib.asynccontextmanager
async def world(
    seed: int, loss: float, duplication: float, delay: float, workers: int
) -> AsyncIterator[World]:
    rng, clock = Random(seed), ManualClock()
    network = MemoryNetwork(
        Random(seed), loss=loss, duplication=duplication, delay=delay, clock=clock
    )

    def runner(folder: Path, *_: object) -> Runner:
        return Runner(folder, clock, rng)

    with (
        tempfile.TemporaryDirectory() as folder,
        patch("fog_compute.worker.slots.RunnerSlot", runner),
    ):
        made = World(
            Path(folder), clock, network, rng, await begin(Path(folder), clock, network, rng)
        )
        try:
            for number in range(workers):
                made.start_worker(f"w{number}")
            made.fog.directory.offers.extend(map(offer, made.agents))
            made.fog.start()
            yield made
        finally:
            for serving in made.serving.values():
                serving.cancel()
            await asyncio.gather(*made.serving.values(), return_exceptions=True)
            await made.fog.stop()
            await made.fog.store.close()


async def submit(made: World, count: int) -> dict[str, bytes]:
    """Make tasks and return what each has to bring."""
    store = made.fog.store
    module = await store.blobs.put(MODULE)
    wanted = {}
    for number in range(count):
        text = b"input %d" % number + b"." * made.rng.choice((0, 50_000))
        spec = TaskSpec(
            module=module, stdin=await store.blobs.put(text), privacy=LEVEL, max_attempts=100
        )
        wanted[(await made.fog.coordinator.submit(spec)).id] = text
    return wanted


async def check(made: World, wanted: dict[str, bytes]) -> None:
    """Every task was accepted once, with its own result."""
    for task_id, text in wanted.items():
        attempts = await made.fog.store.attempts.of_task(task_id)
        assert [one.state for one in attempts].count(AttemptState.SETTLED) == 1
        assert await (await made.fog.store.results.get(task_id)).stdout() == text


moments = st.lists(
    st.tuples(st.floats(0, 6.0), st.sampled_from(["w0", "w1", "coordinator"])), max_size=6
)


@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    duplication=st.sampled_from([0.0, 0.3]),
    delay=st.sampled_from([0.0, 0.05, 1.0]),
    kills=moments,
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_task_is_accepted_exactly_once_whoever_dies_and_whatever_is_lost(
    seed: int, loss: float, duplication: float, delay: float, kills: list[tuple[float, str]]
) -> None:
    """INV-TASK-03, INV-TASK-09, INV-TASK-14, INV-TASK-74."""

    async def play() -> None:
        async with world(seed, loss, duplication, delay, workers=2) as made:
            wanted = await submit(made, 9)
            for pause, who in kills:
                await made.fog.passes(pause)
                if who == "coordinator":
                    await made.kill_coordinator()
                else:
                    await made.kill_worker(who)
            await made.fog.until(made.accepted)
            await check(made, wanted)
            await made.fog.until(made.idle)

    asyncio.run(play())
