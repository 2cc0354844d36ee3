"""What a worker shows of itself: each figure moves when that happens which it counts."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

import fog_compute
from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics import WorkerMetrics
from fog_compute.tasks import Fault, Limits, TaskKind
from fog_compute.tasks.messages import FINISHED, LOST, Accepted, Cancel, Done
from fog_compute.tasks.wire import encode
from fog_compute.worker import slot
from fog_compute.worker.cache import BlobGone
from fog_compute.worker.job import Job
from fog_compute.worker.metrics import pages_of, reasons_against
from fog_compute.worker.report import Counts, Listing, WorkerReport

from . import guests
from .conftest import Requester, Running, Start, handle_of

REPORT = WorkerReport(
    levels=(
        Listing("worker-a", PrivacyLevel.PUBLIC, listed=True),
        Listing("worker-b", PrivacyLevel.SECRET, reason="the directory is away"),
    ),
    groups=("own",),
    kinds=("wasm",),
    slots=5,
    able=4,
    running=3,
    waiting=7,
    queue=11,
    memory_bytes=13,
    walls=(),
    trouble="no runner can be started",
    cache_bytes=17,
    cache_limit=19,
    kept_bytes=23,
    kept_limit=29,
    counts=Counts(taken=31, finished=37, lost=41, returned=43, turned_away=47),
)

KILLS = "fog_worker_runner_kills_total"
LIMITS = (Fault.TIMEOUT, Fault.OUT_OF_MEMORY, Fault.OUTPUT_LIMIT, Fault.SCRATCH_LIMIT)


def samples(metrics: WorkerMetrics, report: Callable[[], WorkerReport]) -> dict[str, float]:
    """Every sample of the page, by its name with the labels' values behind it."""
    shown = pages_of(metrics, report)["/metrics"]()
    assert shown.kind.startswith("text/plain; version=0.0.4")
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(shown.body.decode())
        for sample in family.samples
    }


def of(running: Running) -> dict[str, float]:
    return samples(running.metrics, running.agent.report)


def health(report: WorkerReport) -> tuple[int, Any]:
    shown = pages_of(WorkerMetrics(), lambda: report)["/health"]()
    return shown.status, json.loads(shown.body)


def test_report_is_shown_as_metrics() -> None:
    """INV-MON-02."""
    shown = samples(WorkerMetrics(), lambda: REPORT)
    assert {
        name: value for name, value in shown.items() if value and name.startswith("fog_worker_")
    } == {
        "fog_worker_slots running": 3,
        "fog_worker_slots free": 1,
        "fog_worker_slots unable": 1,
        "fog_worker_waiting_attempts": 7,
        "fog_worker_queue_capacity": 11,
        "fog_worker_cache_bytes": 17,
        "fog_worker_cache_limit_bytes": 19,
        "fog_worker_kept_bytes": 23,
        "fog_worker_kept_limit_bytes": 29,
        "fog_worker_listed public": 1,
        "fog_worker_attempts_total taken": 31,
        "fog_worker_attempts_total finished": 37,
        "fog_worker_attempts_total lost": 41,
        "fog_worker_attempts_total returned": 43,
        "fog_worker_attempts_total turned_away": 47,
    }
    assert shown[f"fog_build_info {fog_compute.__version__}"] == 1
    assert {"process_cpu_seconds_total", "process_open_fds"} <= shown.keys()
    # What has not happened is there as well, so that its first time is a change.
    assert {f"fog_worker_runner_kills_total {fault}" for fault in LIMITS} <= shown.keys()
    assert {f"fog_worker_run_seconds_count {kind}" for kind in TaskKind} <= shown.keys()
    assert "fog_worker_listed secret" in shown


def test_more_attempts_than_slots_are_not_shown_as_running() -> None:
    shown = samples(WorkerMetrics(), lambda: msgspec.structs.replace(REPORT, able=2))
    assert [shown[f"fog_worker_slots {state}"] for state in ("running", "free", "unable")] == [
        2,
        0,
        3,
    ]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"able": 0}, ["no runner can be started"]),
        ({"able": 0, "trouble": ""}, ["no slot can run tasks yet"]),
        ({"levels": REPORT.levels[1:]}, ["the directory is away"]),
        (
            {"levels": (Listing("w", PrivacyLevel.PUBLIC),)},
            ["the directory has no offer of this worker yet"],
        ),
    ],
)
def test_worker_is_well_where_tasks_can_reach_it_and_run(
    changes: dict[str, Any], reasons: list[str]
) -> None:
    """INV-MON-02."""
    report = msgspec.structs.replace(REPORT, **changes)
    assert reasons_against(report) == reasons
    assert health(report) == (
        503 if reasons else 200,
        {"status": "degraded" if reasons else "ok", "reasons": reasons},
    )


@pytest.mark.asyncio
async def test_figures_move_with_what_a_worker_does(start: Start, requester: Requester) -> None:
    """INV-MON-02."""
    async with start(slots=1, queue=9) as running:
        agent = running.agent
        assert of(running)["fog_worker_slots unable"] == 1
        await agent.tried()
        assert of(running)["fog_worker_slots free"] == 1

        hello = requester.submission(guests.HELLO)
        await requester.run(hello)
        shown = of(running)
        assert shown["fog_worker_attempts_total taken"] == 1
        assert shown["fog_worker_attempts_total finished"] == 1
        assert shown["fog_worker_run_seconds_count wasm"] == 1
        assert shown["fog_worker_kept_bytes"] > 0
        assert shown["fog_worker_cache_bytes"] > 0
        assert shown["fog_worker_queue_capacity"] == 9
        assert shown["fog_worker_listed public"] == 1

        long = requester.submission(guests.SAYS_AND_LOOPS)
        assert isinstance(await requester.submit(long), Accepted)
        await requester.until(handle_of(long), lambda status: status.log_tail == b"error")
        waiting = requester.submission(guests.HELLO, "waits")
        assert isinstance(await requester.submit(waiting), Accepted)
        shown = of(running)
        assert shown["fog_worker_slots running"] == 1
        assert shown["fog_worker_waiting_attempts"] == 1

        assert await requester.ask(Cancel(handles=(handle_of(long),))) == Done()
        await requester.until(handle_of(waiting), lambda status: status.state == FINISHED)
        shown = of(running)
        assert shown["fog_worker_runner_kills_total cancelled"] == 1
        assert shown["fog_worker_waiting_attempts"] == 0

        slow = requester.submission(guests.SAYS_AND_LOOPS, limits=Limits(wall_s=0.2))
        await requester.run(slow)
        shown = of(running)
        assert shown["fog_worker_runner_kills_total timeout"] == 1
        assert shown["fog_worker_run_seconds_sum wasm"] > 0

        stranger = b"stranger" + encode(hello)
        await requester.channel.request(requester.worker, stranger, reply_packets=1, timeout=5.0)
        assert of(running)["fog_worker_attempts_total turned_away"] == 1

        lost = requester.submission(guests.SAYS_AND_LOOPS)
        await requester.submit(lost)
        await requester.until(handle_of(lost), lambda status: status.log_tail == b"error")
        (busy,) = agent._slots
        assert busy.pid is not None
        os.kill(busy.pid, signal.SIGKILL)
        await requester.until(handle_of(lost), lambda status: status.state == LOST)
        shown = of(running)
        assert shown["fog_worker_attempts_total lost"] == 1
        assert shown["fog_worker_runner_kills_total lost"] == 1

        left = requester.submission(guests.SAYS_AND_LOOPS)
        await requester.submit(left)
        await requester.until(handle_of(left), lambda status: status.log_tail == b"error")
        await agent.drain(0.0)
        assert of(running)["fog_worker_attempts_total returned"] == 1


@pytest.mark.asyncio
async def test_runner_that_is_killed_counts_by_the_fault_that_is_told(tmp_path: Path) -> None:
    """INV-MON-02: the label is the fault of the result, also where the kernel ended the runner."""
    metrics = WorkerMetrics()
    one = slot.RunnerSlot(tmp_path / "slot", tmp_path / "compiled", watcher=metrics)

    def kills() -> dict[str, float]:
        found = {r: metrics.registry.value(KILLS, reason=r) for r in (*LIMITS, "unfinished")}
        return {reason: count for reason, count in found.items() if count}

    async def run(module: bytes, limits: Limits) -> Fault | None:
        async def load() -> bytes:
            if not module:
                raise BlobGone("a blob is gone")
            return module

        job = Job(hashlib.sha256(module).hexdigest(), (), None, {}, limits, bytes(32))
        return (await one.run(job, load)).fault

    try:
        faults = [
            await run(guests.FLOOD, Limits(output_bytes=5_003, scratch_bytes=300_007)),
            await run(guests.writes(400_009), Limits(output_bytes=1000, scratch_bytes=300_007)),
        ]
        assert faults == [Fault.OUTPUT_LIMIT, Fault.SCRATCH_LIMIT]
        assert kills() == {"output_limit": 1, "scratch_limit": 1}
        with pytest.raises(BlobGone):
            await run(b"", Limits())
        assert kills() == {"output_limit": 1, "scratch_limit": 1, "unfinished": 1}
    finally:
        await one.close()


def test_every_reason_in_the_code_is_a_label_of_kills() -> None:
    """INV-MON-02: the set is closed."""
    text = inspect.getsource(slot)
    reasons = set(re.findall(r"self\.kill\(\"(\w+)\"\)", text)) | set(LIMITS)
    (family,) = (one for one in WorkerMetrics().registry.families() if one.name == KILLS)
    assert set(family.labels["reason"]) == reasons
