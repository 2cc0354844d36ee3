"""Modules that were written to do harm, on a runner behind its walls, beside a neighbour."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from fog_compute.tasks import Limits
from fog_compute.tasks.result import TaskResult
from fog_compute.units import MIB
from fog_compute.worker.footprint import own_bytes
from fog_compute.worker.job import Job
from fog_compute.worker.slot import RunnerSlot

from . import guests
from .conftest import DEADLINE_S
from .hostile import HOSTILE

pytestmark = pytest.mark.asyncio(loop_scope="module")

WALL_S = 0.75
TASKS = 1000


class House:
    """Two slots of one worker, and a file of the worker's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.slot = RunnerSlot(home / "slots" / "0", home / "compiled")
        self.neighbour = RunnerSlot(home / "slots" / "1", home / "compiled")
        (home / "token").write_text("secret")

    def others(self) -> dict[str, tuple[int, int]]:
        """What lies outside of the folders of the slots and of the cache."""
        return {
            path.name: (path.stat().st_size, path.stat().st_mtime_ns)
            for path in self.home.iterdir()
            if path.is_file()
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    opened = House(tmp_path_factory.mktemp("house"))
    yield opened
    await opened.slot.close()
    await opened.neighbour.close()


async def run(
    slot: RunnerSlot, module: bytes, limits: Limits, inputs: Mapping[str, bytes] | None = None
) -> TaskResult:
    async def load() -> bytes:
        return module

    name = hashlib.sha256(module).hexdigest()
    async with asyncio.timeout(DEADLINE_S):
        return await slot.run(Job(name, (), None, inputs or {}, limits, bytes(32)), load)


def count(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_module_ends_at_its_limits_with_one_line_and_harms_nothing_else(
    house: House, name: str
) -> None:
    """INV-TASK-82."""
    hostile = HOSTILE[name]
    limits = Limits(
        memory_bytes=hostile.memory_bytes, fuel=10**12, wall_s=WALL_S, output_bytes=1_000_003
    )
    assert (await run(house.neighbour, guests.HELLO, Limits())).stdout == b"hello\n"
    neighbour, before = house.neighbour.pid, house.others()

    result = await run(house.slot, hostile.build(), limits)

    assert (result.exit_code if result.fault is None else result.fault) in hostile.ends, result
    assert hostile.says in result.detail
    assert result.detail.isprintable()
    assert bool(result.detail) == (result.fault is not None)
    assert len(result.stdout) <= limits.output_bytes
    assert (await run(house.slot, guests.HELLO, Limits())).stdout == b"hello\n"
    assert (await run(house.neighbour, guests.HELLO, Limits())).stdout == b"hello\n"
    assert (house.neighbour.pid, house.others()) == (neighbour, before)


async def test_a_thousand_tasks_leave_the_runner_as_the_first_ones_did(house: House) -> None:
    """INV-TASK-25: in descriptors, threads and memory, however the tasks ended."""
    modules = (
        *(guests.HELLO, guests.ECHO, guests.TRAPS, guests.EXITS_200, guests.OVERFLOWS),
        *(guests.opens("a.txt"), guests.GROWS_TO_10_GB, guests.writes(100_003, files=2)),
    )
    limits = Limits(memory_bytes=16 * MIB)
    await house.slot.start()
    pid = house.slot.pid
    measured = []
    for number in range(TASKS + 1):
        if number in (TASKS // 5, TASKS):
            opened, threads = count(f"/proc/{pid}/fd"), count(f"/proc/{pid}/task")
            measured.append((opened, threads, own_bytes(pid or 0)))
        module = modules[number % len(modules)]
        await run(house.slot, module, limits, {"a.txt": b"a" * 1000})
    (opened, threads, own), (opened_then, threads_then, own_then) = measured
    assert house.slot.pid == pid
    assert opened_then <= opened + 2  # a standard input closes in a moment
    assert threads_then <= threads + 4
    assert own_then <= own + 8 * MIB
