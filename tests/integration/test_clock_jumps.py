"""A machine's clock jumps under a busy fog: no task and no message is lost, failed or doubled."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.clocks import JumpingClock
from tests.integration.fogs import TASK_S, RunningFog, until

ROOT: Final = Path(__file__).resolve().parents[2]
WORDCOUNT: Final = ROOT / "examples" / "wordcount" / "wordcount.wasm"

SIZES_S: Final = (1, 45, 3_600, 86_400, 30 * 86_400)
VICTIMS: Final = (None, "backend", "worker-0", "worker-1", "net")
FLAGS: Final = ("--epoch", "10s", "--workers", "2")
# Results are dropped some days after their task; what is counted here must outlive every jump.
KEPT: Final = {"FOG_RESULT_TTL_S": str(10 * 365 * 86_400)}
TASKS_AT_MOST: Final = 900


@dataclass(frozen=True, slots=True)
class Jump:
    """One move of the clock.

    Attributes:
        seconds: how far.
        stopped: whether the fog does not run meanwhile.
        victim: the process that is killed after it, so that it starts with the new time.
    """

    seconds: int
    stopped: bool = False
    victim: str | None = None


def drawn(seed: int, count: int) -> list[Jump]:
    """Jumps of all sizes, either way; some while the fog is down, some before a restart of a part.

    They stay within some weeks of the true time, as a clock that is set back and forth does.
    """
    choose = random.Random(seed)
    jumps: list[Jump] = []
    offset = 0
    for index in range(count):
        size = SIZES_S[index % len(SIZES_S)]
        sign = choose.choice((-1, 1))
        if abs(offset + sign * size) > 2 * SIZES_S[-1]:
            sign = -sign
        stopped = choose.random() < 0.3
        victim = None if stopped else choose.choice(VICTIMS)
        jumps.append(Jump(sign * size, stopped, victim))
        offset += sign * size
    return jumps


class BusyFog:
    """A fog with a stream of tasks, and two clients that talk over its net."""

    def __init__(self, folder: Path, clock: JumpingClock) -> None:
        self._home = folder / "home"
        self._folder = folder / "clients"
        self._folder.mkdir()
        self._clock = clock
        self._environment = {**clock.environment, **KEPT}
        self._text = folder / "text"
        self._text.write_text("to be or not to be")
        self._leave = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="feeder")
        self.sent: list[int] = []
        self.got: Counter[int] = Counter()
        self.troubles: Counter[str] = Counter()
        self.complaints: Counter[str] = Counter()
        self.fog = self._start()
        self._chatter = self._talk()
        self._feeder.start()

    def _start(self) -> RunningFog:
        return RunningFog(self._home, *FLAGS, environment=self._environment)

    def live_through(self, jump: Jump) -> None:
        """Let the clock jump, and see that a task and a message still come through."""
        if jump.stopped:
            assert self.fog.stop() == 0, self.fog.log.read_text()[-3000:]
            self._clock.jump(jump.seconds)
            self.fog = self._start()
            self._end_talk()
            self._chatter = self._talk()
        else:
            self._clock.jump(jump.seconds)
            if jump.victim is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.fog.pid(jump.victim), signal.SIGKILL)
        received = self.got.total()
        done = self.fog.run("run", WORDCOUNT, "--stdin", self._text, "--timeout", f"{TASK_S}s")
        assert done.returncode == 0, f"after {jump}: {done.stderr}{self._state()}"
        until(
            lambda: self.got.total() > received,
            TASK_S,
            lambda: f"no message came after {jump}: {self.troubles}{self._state()}",
        )

    def end(self) -> list[dict[str, Any]]:
        """Stop the streams; return all tasks, each over."""
        self._leave.set()
        self._feeder.join()
        self._end_talk()
        while not set(self.sent) <= set(self.got):
            before = self.got.total()
            self._chatter = self._talk()
            self._end_talk()
            assert self.got.total() > before, f"lost: {set(self.sent) - set(self.got)}"

        def all_tasks() -> list[dict[str, Any]]:
            tasks: list[dict[str, Any]] = self.fog.json("task", "ls", "--limit", "1000")
            return tasks

        until(
            lambda: all(task["final"] for task in all_tasks()),
            TASK_S,
            lambda: f"not over: {[task for task in all_tasks() if not task['final']]}",
        )
        return [self.fog.json("task", "show", task["id"]) for task in all_tasks()]

    def close(self) -> None:
        """Leave nothing behind."""
        self._leave.set()
        self._feeder.join()
        self._chatter.kill()
        self._chatter.wait()
        self._listener.join()
        if self.fog.process.poll() is None:
            self.fog.stop()

    def _feed(self) -> None:
        """Submit tasks, also while the backend is away."""
        given = 0
        while not self._leave.wait(0.5) and given < TASKS_AT_MOST:
            done = self.fog.run("run", WORDCOUNT, "--stdin", self._text, "--detach")
            if done.returncode == 0:
                given += 1
            else:
                self.complaints[done.stderr] += 1

    def _talk(self) -> subprocess.Popen[str]:
        first = 1 + max(self.sent, default=0)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.integration.chatter"),
                *(self._home / "net" / "net.json", self._folder, str(first)),
            ],
            cwd=ROOT,
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, args=(process,), name="listener")
        self._listener.start()
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                match json.loads(line):
                    case {"sent": int(number)}:
                        self.sent.append(number)
                    case {"got": int(number)}:
                        self.got[number] += 1
                    case {"trouble": str(text)}:
                        self.troubles[text] += 1

    def _end_talk(self) -> None:
        assert self._chatter.stdin is not None
        self._chatter.stdin.close()
        assert self._chatter.wait(TASK_S) == 0, self.troubles
        self._listener.join()

    def _state(self) -> str:
        return f"\n{self.fog.run('status').stdout}\n{self.fog.log.read_text()[-3000:]}"


@contextlib.contextmanager
def busy_fog(folder: Path, shim: Path) -> Iterator[BusyFog]:
    """Hold a busy fog whose clock is the right one at first."""
    busy = BusyFog(folder, JumpingClock(shim, folder))
    try:
        yield busy
    finally:
        busy.close()


def tell(text: str) -> None:
    """Write a line of the report."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def check(busy: BusyFog, jumps: list[Jump]) -> None:
    """Live through all jumps; then every task and message came to its end once."""
    began = time.monotonic()
    for number, jump in enumerate(jumps):
        tell(f"{time.monotonic() - began:6.1f} s, jump {number}: {jump}")
        busy.live_through(jump)
    tasks = busy.end()

    assert len(tasks) > len(jumps)
    unhappy = [task for task in tasks if task["state"] != "accepted"]
    assert unhappy == []
    for task in tasks:
        states = [attempt["state"] for attempt in task["attempts"]]
        assert states.count("settled") == 1, task
        assert [event["state"] for event in task["history"]].count("accepted") == 1, task
    assert {number: times for number, times in busy.got.items() if times != 1} == {}
    assert set(busy.sent) == set(busy.got)
    assert not any("Traceback" in text for text in busy.complaints), busy.complaints
    tell(
        f"{len(jumps)} jumps: {len(tasks)} tasks accepted once, {len(busy.sent)} messages received"
        f" once; complaints: {dict(busy.complaints)}; the clients': {dict(busy.troubles)}"
    )


@pytest.mark.timeout(600)
def test_tasks_and_messages_survive_a_clock_that_jumps(
    tmp_path: Path, wall_clock_shim: Path
) -> None:
    jumps = [
        Jump(-3_600, victim="worker-0"),
        Jump(31 * 86_400, stopped=True),
        Jump(-29 * 86_400, stopped=True),
    ]
    with busy_fog(tmp_path, wall_clock_shim) as busy:
        check(busy, jumps)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tasks_and_messages_survive_thirty_drawn_jumps(
    tmp_path: Path, wall_clock_shim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(2**32)))
    with capsys.disabled(), busy_fog(tmp_path, wall_clock_shim) as busy:
        tell(f"\nCHAOS_SEED={seed}")
        check(busy, drawn(seed, 30))
