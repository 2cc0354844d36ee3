"""How many scripts per second two runners end, without a network.

Prints one JSON object: scripts per second with one slot and with two, processor time of a script,
and by how much the resident memory of a runner grows over all of them. Each script starts the
interpreter anew and prints one line; the interpreter is compiled before the clock starts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from fog_compute.tasks import Limits
from fog_compute.tasks.runtimes import SCRIPT
from fog_compute.worker.job import Job
from fog_compute.worker.python import PythonRuntime, script_job
from fog_compute.worker.slot import RunnerSlot

SECONDS = 10.0
WARM = 3
"""Scripts of each slot before its memory is looked at and the clock starts."""

_JOB = Job("", (), None, {SCRIPT: b"print('hello')"}, Limits(), seed=bytes(32))


async def run_for(slot: RunnerSlot, runtime: PythonRuntime, seconds: float) -> int:
    """Run one script after the other; return how many ended in time."""
    job = script_job(runtime, _JOB, SCRIPT)
    ended, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        result = await slot.run(job, runtime.load)
        if result.stdout != b"hello\n":
            sys.exit(f"a script failed, so these numbers would mean nothing: {result.detail}")
        ended += 1
    return ended


async def measure(folder: Path) -> dict[str, float]:
    """Return the figures; one slot and two take turns."""
    runtime = PythonRuntime.found()
    slots = [RunnerSlot(folder / str(i), folder / "compiled") for i in range(2)]
    try:
        for slot in slots:
            for _ in range(WARM):
                await slot.run(script_job(runtime, _JOB, SCRIPT), runtime.load)
        runners = [psutil.Process(slot.pid) for slot in slots]
        before = [runner.memory_info().rss for runner in runners]
        busy = sum(sum(runner.cpu_times()[:2]) for runner in runners)
        one = await run_for(slots[0], runtime, SECONDS / 2)
        two = sum(await asyncio.gather(*(run_for(slot, runtime, SECONDS) for slot in slots)))
        if [slot.pid for slot in slots] != [runner.pid for runner in runners]:
            sys.exit("a runner was replaced: it grew, or it died")
        busy = sum(sum(runner.cpu_times()[:2]) for runner in runners) - busy
        grown = max(r.memory_info().rss - b for r, b in zip(runners, before, strict=True))
    finally:
        await asyncio.gather(*(slot.close() for slot in slots))
    return {
        "runner_python_1_per_s": one / (SECONDS / 2),
        "runner_python_2_per_s": two / SECONDS,
        "runner_python_cpu_ms": 1000 * busy / (one + two),
        "runner_python_grown_bytes": grown,
    }


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        summary = asyncio.run(measure(Path(folder)))
    print(json.dumps({"summary": summary}))


if __name__ == "__main__":
    main()
