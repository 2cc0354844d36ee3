"""What crosses the network, and how often: the real coordinator and the real worker."""

from __future__ import annotations

import random
from unittest.mock import patch

import pytest

from fog_compute.tasks import TaskSpec
from fog_compute.testing import MemoryNetwork

from .test_with_workers import LEVEL, MODULE, World, check, world

pytestmark = pytest.mark.asyncio

MODULE_BYTES = 20_000_003


async def run(made: World, module: str, *texts: bytes) -> None:
    """Run a task for each text, all at once, to their ends."""
    wanted = {}
    for text in texts:
        spec = TaskSpec(module=module, stdin=await made.fog.store.blobs.put(text), privacy=LEVEL)
        wanted[(await made.fog.coordinator.submit(spec)).id] = text
    await made.fog.until(made.accepted)
    await check(made, wanted)


async def test_a_large_module_crosses_once_for_each_session() -> None:
    """INV-TASK-73: for tasks that come together, one after the other, and after a restart."""
    carried: list[int] = []
    post = MemoryNetwork._post

    def counted(
        network: MemoryNetwork, to: str, body: bytes, capacity: int, handle: int | None
    ) -> None:
        if to.startswith("worker-"):
            carried.append(len(body))
        post(network, to, body, capacity, handle)

    with patch.object(MemoryNetwork, "_post", counted):
        async with world(3, 0.0, 0.0, 0.01, workers=1) as made:
            filler = random.Random(3).randbytes(MODULE_BYTES - len(MODULE))
            module = await made.fog.store.blobs.put(MODULE + filler)
            await run(made, module, b"a" * 40_000, b"b" * 600_000, b"c")
            await run(made, module, b"d" * 70_000)
            await run(made, module, b"a" * 40_000)  # of which the worker has all
            assert sum(size >= MODULE_BYTES for size in carried) == 1
            inputs = 40_000 + 600_000 + 70_000
            assert sum(carried) < MODULE_BYTES + inputs + 100_000, "no input twice either"

            await made.kill_coordinator()  # which has another session then
            await run(made, module, b"e")
            assert sum(size >= MODULE_BYTES for size in carried) == 2
