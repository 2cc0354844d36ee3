"""How long a backend takes from its start until it takes tasks again, with 100,000 open ones.

The database is on disk, most of the tasks wait and some are with workers. The backend is a process
of its own, as `fog up` starts it, and there is no network yet; what is measured ends with the
answer to a new task, for which it has read what is open. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import fog_compute
from fog_compute.layout import HomeLayout
from fog_compute.store import Change, Leased, Started, Store
from fog_compute.tasks import TaskSpec, new_handle

OPEN = 100_000
HELD = 2_000
"""Of them, tasks that workers have: more than 64 workers of 16 slots with full queues."""

MODULE = Path(fog_compute.__file__).with_name("cli") / "echo.wasm"
BATCH = 1000
TRIES = 3


async def fill(layout: HomeLayout) -> str:
    """Make the tasks; return the hash of their module."""
    layout.daemon.mkdir(parents=True, mode=0o700)
    async with await Store.open(layout.database) as store:
        module = await store.blobs.put(MODULE.read_bytes())
        held = 0
        for begun in range(0, OPEN, BATCH):
            specs = [
                TaskSpec(module=module, argv=(str(begun + i),), group="local") for i in range(BATCH)
            ]
            changes: list[Change] = []
            for task in (await store.tasks.create_batch(specs))[: HELD - held]:
                held += 1
                handle, until = new_handle(), task.created_at + timedelta(hours=1)
                worker = f"w{held % 64}"
                lease = Leased(task.id, handle, worker, f"fog1{worker}", until)
                changes += (lease, Started(handle, until))
            if changes:
                await store.apply(changes)
    return module


def recovered(layout: HomeLayout, module: str) -> dict[str, float]:
    """Start a backend; return the seconds until it said that it is ready, and took a task."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "fog_compute.server", "--home", layout.root, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        told = next(
            event
            for line in process.stdout or ()
            if line.startswith("{") and (event := json.loads(line)).get("event") == "ready"
        )
        ready_s = time.monotonic() - begun
        address = urlsplit(told["url"])
        asking = http.client.HTTPConnection(address.hostname or "", address.port)
        task = {"module": module, "wait_for_worker": True}
        headers = {
            "authorization": f"Bearer {layout.token_file.read_text('ascii').strip()}",
            "content-type": "application/json",
        }
        asking.request("POST", "/api/v1/tasks", json.dumps(task), headers)
        answer = asking.getresponse()
        if answer.status != HTTPStatus.CREATED:
            raise SystemExit(f"the task was refused: {answer.read().decode()}")
        return {"ready_s": ready_s, "recovered_s": time.monotonic() - begun}
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Fill a database, and start a backend on it again and again."""
    with tempfile.TemporaryDirectory() as folder:
        layout = HomeLayout(Path(folder) / "home")
        module = asyncio.run(fill(layout))
        runs = [recovered(layout, module) for _ in range(TRIES)]
    slowest = max(run["recovered_s"] for run in runs)
    details = {"open": OPEN, "held": HELD, "runs": runs}
    print(json.dumps({"summary": {"recovery_s": round(slowest, 2)}, "details": details}, indent=1))


if __name__ == "__main__":
    main()
