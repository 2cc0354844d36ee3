"""Children of `fog up`: started again, stopped in time, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fog_compute.cli.children import Child, Event
from fog_compute.cli.common import CommandError
from fog_compute.lifetime import EXIT_UNUSABLE

pytestmark = pytest.mark.asyncio

DEADLINE_S = 30.0
READY = 'import sys, time, signal; print(\'{"event": "ready"}\', flush=True);'
WAIT = "signal.pause()"


def child(folder: Path, code: str, events: list[Event] | None = None) -> Child:
    heard = [] if events is None else events
    return Child(
        "part",
        lambda: [sys.executable, "-c", code],
        folder / "part.log",
        dict(os.environ),
        lambda _, event: heard.append(event),
    )


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not met():
            await asyncio.sleep(0.01)


async def test_killed_child_is_started_again(tmp_path: Path) -> None:
    events: list[Event] = []
    part = child(tmp_path, READY + WAIT, events)
    keeping = asyncio.create_task(part.keep())
    await until(part.ready.is_set)
    first = part.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    await until(lambda: len([event for event in events if event["event"] == "ready"]) == 2)

    assert part.pid not in (None, first)
    assert {"event": "ended", "code": -signal.SIGKILL, "pause_s": 0.2} in events
    part.ask_to_stop()
    await asyncio.wait_for(keeping, DEADLINE_S)
    assert part.pid is None


async def test_cancelled_keeper_leaves_no_process(tmp_path: Path) -> None:
    part = child(tmp_path, READY + "signal.signal(signal.SIGTERM, signal.SIG_IGN);" + WAIT)
    keeping = asyncio.create_task(part.keep())
    await until(part.ready.is_set)
    pid = part.pid
    assert pid is not None

    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)

    assert part.over.is_set()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_child_that_says_why_it_cannot_run_is_not_started_again(tmp_path: Path) -> None:
    code = (
        "import json, sys; print(json.dumps({'event': 'error', 'message': 'port 1 is taken'}));"
        f"sys.exit({EXIT_UNUSABLE})"
    )

    with pytest.raises(CommandError, match=r"^port 1 is taken$"):
        await asyncio.wait_for(child(tmp_path, code).keep(), DEADLINE_S)


async def test_last_line_of_the_log_tells_why_it_cannot_run(tmp_path: Path) -> None:
    code = f"import sys; sys.stderr.write('one\\ntwo\\n'); sys.exit({EXIT_UNUSABLE})"

    with pytest.raises(CommandError, match="part cannot run: two"):
        await asyncio.wait_for(child(tmp_path, code).keep(), DEADLINE_S)


async def test_child_runs_without_its_log_which_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "part.log").mkdir()
    part = child(tmp_path, READY + "sys.stderr.write('unheard'); sys.stderr.flush();" + WAIT)
    keeping = asyncio.create_task(part.keep())
    await until(part.ready.is_set)
    assert part.pid is not None
    os.kill(part.pid, signal.SIGKILL)
    await until(lambda: part.restarts == 1)

    part.kill()
    await asyncio.wait_for(keeping, DEADLINE_S)

    assert capsys.readouterr().err.count("part.log cannot be written (Is a directory)") == 1


async def test_missing_program_is_one_line(tmp_path: Path) -> None:
    part = Child("part", lambda: ["/nonexistent"], tmp_path / "part.log", {}, lambda *_: None)

    with pytest.raises(CommandError, match="part cannot be started"):
        await asyncio.wait_for(part.keep(), DEADLINE_S)


async def test_noise_on_standard_output_is_ignored(tmp_path: Path) -> None:
    events: list[Event] = []
    code = "print('noise'); print('[1]'); print('x' * 3_000_000);" + READY + WAIT
    part = child(tmp_path, code, events)
    keeping = asyncio.create_task(part.keep())

    await until(part.ready.is_set)

    assert events == [{"event": "ready"}]
    part.kill()
    await asyncio.wait_for(keeping, DEADLINE_S)
