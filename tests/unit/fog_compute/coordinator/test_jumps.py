"""Clocks that jump between runs, and outages of the requester, in drawn order: no task suffers."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from fog_compute.coordinator.sessions import Tempo
from fog_compute.tasks import AttemptState, Task, TaskState
from fog_compute.testing import ManualClock
from tests.unit.fog_compute.coordinator.scripted import Fog, open_fog
from tests.unit.fog_compute.coordinator.test_dispatcher import OK, create

TEMPO: Final = Tempo(lease_s=30, request_timeout_s=1.0, poll_max_s=5)
PAUSE_S: Final = 10.0
"""Longest pause between two submissions of an attempt, and between two looks at a busy worker."""


@dataclass(frozen=True)
class Outage:
    """The network is away from the requester alone."""

    seconds: float


@dataclass(frozen=True)
class DeadNet:
    """The network takes nothing from anybody, and says nothing."""

    seconds: float


@dataclass(frozen=True)
class Suspended:
    """The machine sleeps."""

    seconds: float


@dataclass(frozen=True)
class Restart:
    """The coordinator ends and begins again, beside a clock that was moved meanwhile."""

    jump: float
    reboot: bool


@dataclass(frozen=True)
class Work:
    """Nothing special happens for a while; a new task comes."""

    seconds: float


Step: TypeAlias = Outage | DeadNet | Suspended | Restart | Work

JUMPS = st.sampled_from([1.0, 60.0, 3600.0, 86400.0, 30 * 86400.0]).flatmap(
    lambda most: st.floats(-most, most)
)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Outage, st.floats(1, 400)),
    st.builds(DeadNet, st.floats(1, 200)),
    st.builds(Suspended, st.floats(1, 30 * 86400)),
    st.builds(Restart, JUMPS, st.booleans()),
    st.builds(Work, st.floats(0, 60)),
)


async def take(fog: Fog, folder: Path, step: Step, tasks: list[Task]) -> Fog:
    """Let one step happen; return the fog that goes on."""
    match step:
        case Work(seconds):
            tasks.append(await create(fog, max_attempts=1, wall_s=86400.0))
            await fog.passes(seconds)
        case Outage(seconds):
            fog.channels.cut_off("no edge of the network answers")
            await fog.passes(seconds)
            fog.channels.cut_off("")
        case DeadNet(seconds):
            fog.network.loss = 1.0
            await fog.passes(seconds)
            fog.network.loss = 0.0
        case Suspended(seconds):
            fog.clock.suspend(seconds)
        case Restart(jump, reboot):
            await fog.stop()
            await fog.store.close()
            fog.clock.jump(jump)
            if reboot:
                fog.clock.reboot()
            again = await open_fog(folder, tempo=TEMPO, clock=fog.clock)
            again.restart(fog)
            again.start()
            return again
    return fog


async def story(folder: Path, steps: list[Step]) -> None:
    clock = ManualClock()
    fog = await open_fog(folder, tempo=TEMPO, clock=clock)
    fog.start()
    worker = fog.add_worker("a", slots=8)
    tasks: list[Task] = []
    try:
        tasks.append(await create(fog, max_attempts=1, wall_s=86400.0))
        for step in steps:
            fog = await take(fog, folder, step, tasks)

        # All is well again: every task is with the worker within a lease and a pause.
        async def all_with_the_worker() -> bool:
            now = [await fog.store.tasks.get(task.id) for task in tasks]
            assert not any(task.state is TaskState.FAILED for task in now), now
            held = {handle.hex() for handle in worker.attempts}
            return all(task.attempt in held for task in now)

        begun = clock.monotonic()
        await fog.until(all_with_the_worker)
        assert clock.monotonic() - begun <= TEMPO.lease_s + 2 * PAUSE_S

        # And none that is there stays longer than a poll once it has ended.
        for handle in list(worker.attempts):
            if handle not in worker.results:
                worker.finish(OK, handle)

        async def all_accepted() -> bool:
            now = [await fog.store.tasks.get(task.id) for task in tasks]
            assert not any(task.state is TaskState.FAILED for task in now), now
            return all(task.state is TaskState.ACCEPTED for task in now)

        begun = clock.monotonic()
        await fog.until(all_accepted)
        assert clock.monotonic() - begun <= TEMPO.lease_s + 2 * PAUSE_S

        for task in tasks:
            assert (await fog.store.tasks.get(task.id)).tries == 0
            states = [attempt.state for attempt in await fog.store.attempts.of_task(task.id)]
            assert states.count(AttemptState.SETTLED) == 1
    finally:
        await fog.stop()
        await fog.store.close()


@settings(max_examples=25)
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_no_jump_and_no_outage_of_the_requester_costs_a_task_a_try(steps: list[Step]) -> None:
    """INV-TASK-36, INV-TASK-37: nor does any task wait longer than a lease and a pause for it."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(story(Path(folder), steps))
