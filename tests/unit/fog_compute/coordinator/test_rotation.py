"""The coordinator over circuits that are rotated, and clients that are closed, under its hands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from fog_compute.errors import CircuitError
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import TaskSpec, TaskState
from fog_compute.vpn.circuits import LARGEST, CircuitState
from fog_compute.vpn.plans import PoolPolicy
from tests.unit.fog_compute.coordinator.scripted import Fog
from tests.unit.fog_compute.coordinator.test_dispatcher import OK, running

pytestmark = pytest.mark.asyncio

TASKS = 24
SHORT = PoolPolicy(lifetime_s=1.5, earliest=0.3, latest=0.9, budget=LARGEST)


async def all_over(fog: Fog, rng: Random, tasks: list[str]) -> tuple[int, int]:
    """Let workers finish what they have until all is over; count what rotated under way."""
    drained: set[str] = set()

    async def over() -> bool:
        for worker in fog.workers:
            unfinished = [one for one in worker.attempts if one not in worker.results]
            if unfinished and rng.random() < 0.3:
                worker.finish(OK, unfinished[0])
        for pool in fog.onion.circuit_pools.values():
            drained.update(
                one.id for one in pool if one.state is CircuitState.DRAINING and one.in_flight
            )
        states = [(await fog.store.tasks.get(task)).state for task in tasks]
        return all(state.final for state in states)

    await fog.until(over)
    rotations = [pool.totals().rotations for pool in fog.onion.circuit_pools.values()]
    return sum(rotations), len(drained)


async def test_no_request_is_lost_or_repeated_while_circuits_rotate_under_load(
    tmp_path: Path,
) -> None:
    """INV-VPN-06, INV-VPN-09"""
    rng = Random(9)
    async with running(tmp_path, circuits=SHORT) as fog:
        tending = asyncio.create_task(fog.onion.run())
        for name in "ab":
            # What a worker needs is longer on its way than a circuit lives.
            fog.add_worker(name, slots=4, clock=fog.clock, blob_s=2.2)
        tasks = []
        for i in range(TASKS):
            module = await fog.store.blobs.put(bytes([i]) * 40_000)
            level = rng.choice(list(PrivacyLevel))
            spec = TaskSpec(module=module, privacy=level, max_attempts=1)
            task = await fog.coordinator.submit(spec)
            tasks.append(task.id)

        rotations, drained = await all_over(fog, rng, tasks)

        assert [(await fog.store.tasks.get(one)).state for one in tasks] == [
            TaskState.ACCEPTED
        ] * TASKS
        for one in tasks:
            assert len(await fog.store.attempts.of_task(one)) == 1
        assert rotations > TASKS
        assert drained > len(PrivacyLevel)
        tending.cancel()


async def test_tasks_go_on_where_the_clients_are_closed_under_them(tmp_path: Path) -> None:
    """INV-VPN-07"""
    rng = Random(4)
    async with running(tmp_path, circuits=SHORT) as fog:
        worker = fog.add_worker("a", slots=4)
        tasks = []
        module = await fog.store.blobs.put(b"\0asm")
        for level in PrivacyLevel:
            for _ in range(3):
                task = await fog.coordinator.submit(
                    TaskSpec(module=module, privacy=level, max_attempts=1)
                )
                tasks.append(task.id)
        await fog.until(lambda: len(worker.attempts) >= 4)

        for level in PrivacyLevel:
            fog.channels.crash(level)
        await all_over(fog, rng, tasks)

        states = {(await fog.store.tasks.get(one)).state for one in tasks}
        assert states == {TaskState.ACCEPTED}
        assert fog.coordinator.trouble == ""


async def test_circuit_of_a_session_that_is_over_is_closed(tmp_path: Path) -> None:
    async with running(tmp_path, circuits=SHORT) as fog:
        worker = fog.add_worker("a")
        module = await fog.store.blobs.put(b"\0asm")
        task = await fog.coordinator.submit(TaskSpec(module=module, privacy=PrivacyLevel.SECRET))
        circuit = await fog.coordinator.circuit_of(task.id)
        await fog.until(lambda: bool(worker.attempts))
        worker.finish(OK)

        pool = fog.onion.circuit_pools[PrivacyLevel.SECRET]
        await fog.until(lambda: not pool.sessions)

        with pytest.raises(CircuitError):
            pool.get_circuit(circuit)
