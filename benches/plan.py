"""What planning costs a task, and what memory it takes, with queues of different length.

For each length there is a process of its own: it fills a store on disk, lets workers with a place
take the oldest tasks, ends those, and goes on so. Planning is all that the coordinator does to find
out what to do: it reads the queue, chooses workers, and looks at what is open. What is measured is
processor time, that of the database's threads too. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fog_compute.clock import SystemClock
from fog_compute.coordinator.open_work import OpenWork
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.sessions import Tempo
from fog_compute.observability.metrics import Registry, TaskMetrics
from fog_compute.store import Reported, Settled, Store
from fog_compute.tasks import TaskResult, TaskSpec
from fog_compute.vpn.directory import WorkerOffer

LENGTHS = (1_000, 10_000, 100_000)
TAKEN = 900
"""Tasks that are planned and ended: what is left of the shortest queue still waits."""

WORKERS = 16
GROUP = "bench"
BATCH = 1000
RESULT = TaskResult(0, b"out", b"", 10, 5, 65536)


class Directory:
    """A list of workers that never changes."""

    async def workers(self) -> Sequence[WorkerOffer]:
        """All of them."""
        return [
            WorkerOffer(f"w{i}", f"fog1w{i}", ("wasm",), 4, 2**30, groups=(GROUP,))
            for i in range(WORKERS)
        ]


async def measure(folder: Path, length: int) -> dict[str, float]:
    """Microseconds a task, and MiB, with a queue of so many tasks."""
    async with await Store.open(folder / "fog.db") as store:
        before = memory_mib()
        module = await store.blobs.put(b"module")
        for begun in range(0, length, BATCH):
            tasks = [
                TaskSpec(module=module, argv=(str(begun + i),), group=GROUP) for i in range(BATCH)
            ]
            await store.tasks.create_batch(tasks)
        fog = WorkerRegistry(Directory())
        await fog.refresh()
        work = OpenWork(
            store=store,
            fog=fog,
            tempo=Tempo(),
            clock=SystemClock(),
            metrics=TaskMetrics(Registry()),
            changed=lambda: None,
        )
        begun_at = time.monotonic()
        await work.recover()
        recovered_ms = (time.monotonic() - begun_at) * 1000
        planned, spent = 0, 0.0
        while planned < TAKEN:
            begun_cpu = time.process_time()
            given = await work.queue.take()
            spent += time.process_time() - begun_cpu
            planned += len(given)
            await work.apply(given)
            begun_cpu = time.process_time()
            work.plan()
            spent += time.process_time() - begun_cpu
            for handle in list(work.ledger.records):
                await work.apply([Reported(handle, RESULT), Settled(handle)])
        return {
            "plan_us_per_task": spent / planned * 1e6,
            "plan_rss_mib": memory_mib(),
            "rss_growth_mib": memory_mib() - before,
            "recovery_ms": recovered_ms,
        }


def memory_mib() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Measure one length, or start a process for each."""
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(asyncio.run(measure(Path(folder), int(sys.argv[1])))))
        return
    summary: dict[str, float] = {}
    details: dict[str, dict[str, float]] = {}
    for length in LENGTHS:
        command = [sys.executable, __file__, str(length)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
        name = f"{length // 1000}k"
        details[name] = json.loads(ran.stdout.splitlines()[-1])
        for figure in ("plan_us_per_task", "plan_rss_mib"):
            summary[f"{figure}_{name}"] = round(details[name][figure], 2)
    print(json.dumps({"summary": summary, "details": details}, indent=1))


if __name__ == "__main__":
    main()
