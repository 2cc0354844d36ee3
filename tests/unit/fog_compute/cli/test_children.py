"""Children of `fog up`: started again, stopped in time, and never left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fog_compute import spawn
from fog_compute.cli.children import (
    Again,
    Child,
    Ended,
    Event,
    Hopeless,
    Over,
    Wish,
    after_end,
    reason_of,
)
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
    (end,) = [event for event in events if event["event"] == "ended"]
    assert (end["code"], end["pause_s"]) == (-signal.SIGKILL, 0.2)
    assert end["reason"] == "it was killed, as happens when memory runs out"
    part.ask_to_stop()
    await asyncio.wait_for(keeping, DEADLINE_S)
    assert part.pid is None


@pytest.mark.parametrize("wish", Wish)
@pytest.mark.parametrize("code", [0, 1, -9, EXIT_UNUSABLE])
@pytest.mark.parametrize("was_ready", [False, True])
@pytest.mark.parametrize("tries", [1, 5, 6, 7])
@pytest.mark.parametrize(("ran_s", "expected"), [(1, 4), (11, 0)])
async def test_child_is_started_again_only_while_nobody_wants_its_end(
    wish: Wish,
    code: int,
    was_ready: bool,
    tries: int,
    ran_s: float,
    expected: int,
) -> None:
    after = after_end(wish, Ended(code, ran_s, was_ready, tries, 4))

    if wish > Wish.RUN:
        assert after == Over()
    elif code == EXIT_UNUSABLE or (tries > 5 and not was_ready):
        assert after == Hopeless()
    else:
        assert after == Again(expected)


async def test_child_whose_turn_to_stop_is_later_is_not_started_again(tmp_path: Path) -> None:
    events: list[Event] = []
    part = child(tmp_path, READY + WAIT, events)
    keeping = asyncio.create_task(part.keep())
    await until(part.ready.is_set)
    pid = part.pid
    assert pid is not None

    part.start_no_more()
    assert part.pid == pid
    os.kill(pid, signal.SIGTERM)  # as who stops a whole service does
    await asyncio.wait_for(keeping, DEADLINE_S)

    assert part.restarts == 0
    assert events == [{"event": "ready"}]
    part.ask_to_stop()  # its turn


async def test_child_that_waits_for_its_next_start_is_not_started_again(tmp_path: Path) -> None:
    events: list[Event] = []
    part = child(tmp_path, "pass", events)
    keeping = asyncio.create_task(part.keep())
    await until(lambda: bool(events))

    part.start_no_more()
    await asyncio.wait_for(keeping, DEADLINE_S)

    assert len(events) == part.restarts


async def test_what_is_wanted_of_a_child_reaches_one_that_is_being_started(tmp_path: Path) -> None:
    part = child(tmp_path, READY + "signal.signal(signal.SIGTERM, signal.SIG_IGN);" + WAIT)
    keeping = asyncio.create_task(part.keep())
    await asyncio.sleep(0)  # the start has begun

    part.kill()
    part.ask_to_stop()  # less than what is wanted already
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


async def test_child_that_was_killed_is_told_so_whatever_its_log_says(tmp_path: Path) -> None:
    code = "import os, signal, sys; print('all is well', file=sys.stderr, flush=True);"
    part = child(tmp_path, code + "os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(CommandError, match=r"part cannot run: it was killed, as .* memory"):
        await part.keep()


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


@pytest.mark.parametrize(
    "refusal",
    [
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        RuntimeError("can't start new thread"),
    ],
)
async def test_child_that_ran_is_tried_again_when_the_machine_refuses_its_next_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refusal: Exception,
) -> None:
    part = child(tmp_path, READY + WAIT)
    keeping = asyncio.create_task(part.keep())
    await until(part.ready.is_set)
    first = part.pid
    assert first is not None

    def refuse(*_: object, **__: object) -> None:
        raise refusal

    with monkeypatch.context() as refused:
        refused.setattr(spawn, "start", refuse)
        os.kill(first, signal.SIGKILL)
        await until(lambda: part.restarts == 3)
    await until(lambda: part.pid not in (None, first))

    assert not keeping.done()
    part.kill()
    await asyncio.wait_for(keeping, DEADLINE_S)
    assert capsys.readouterr().err.count("part cannot be started now, and is tried again") == 1


async def test_noise_on_standard_output_is_ignored(tmp_path: Path) -> None:
    events: list[Event] = []
    code = "print('noise'); print('[1]'); print('x' * 3_000_000);" + READY + WAIT
    part = child(tmp_path, code, events)
    keeping = asyncio.create_task(part.keep())

    await until(part.ready.is_set)

    assert events == [{"event": "ready"}]
    part.kill()
    await asyncio.wait_for(keeping, DEADLINE_S)


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (-9, "", "it was killed, as happens when memory runs out"),
        (-15, "x", "it was ended by SIGTERM"),
        (-99, "", "it ended with -99"),
        (3, "no memory", "it ended with 3: no memory"),
        (0, "", "it ended with 0"),
    ],
)
async def test_how_a_child_ended_is_told_in_words(code: int, said: str, reason: str) -> None:
    assert reason_of(code, said) == reason
