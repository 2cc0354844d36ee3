"""A fog with a stream of tasks through which blows are dealt, and the report of what came of it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from fog_compute.cli.client import Backend
from fog_compute.client.places import Home
from fog_compute.errors import FogError
from fog_compute.layout import HomeLayout
from tests.integration.blows import CLASSES, OWNER, Blow, Processes
from tests.integration.clocks import JumpingClock
from tests.integration.fogs import START_S, TASK_S, running_fog, until
from tests.integration.stream import TaskStream, last_event, read_ledger

WORKERS: Final = 3
FLAGS: Final = ("--epoch", "20s", "--workers", str(WORKERS), "--slots", "2")
SETTINGS: Final = {
    # Results are dropped some days after their task; what is counted here must outlive every jump.
    "FOG_RESULT_TTL_S": str(10 * 365 * 86_400),
    "FOG_LEASE_S": "10",  # some freezes are longer
}
AT_ONCE: Final = 14
LIVE_S: Final = 1.5
"""Longest pause between two blows, in which the fog does its work."""
HURRIED_S: Final = 0.3
OVER_S: Final = 240.0

Tell = Callable[[str], object]


class Upheaval:
    """One run: a fog in ``folder``, the blows, and the ledger afterwards."""

    def __init__(self, folder: Path, shim: Path, seed: str, tell: Tell) -> None:
        """Start nothing yet; ``tell`` takes each line of what happens."""
        self._home: Final = folder / "home"
        self._layout: Final = HomeLayout(self._home)
        self._seed: Final = seed
        self._choose: Final = random.Random(seed)
        self._clock: Final = JumpingClock(shim, folder)
        self._tell: Final = tell
        self._dealt: Final[Counter[str]] = Counter()
        self._recovery_s: Final[dict[str, list[float]]] = defaultdict(list)
        self._answers_s: Final[list[float]] = []

    def live_through(self, blows: Sequence[Blow]) -> dict[str, Any]:
        """Deal all blows, let every task come to its end, and say what there is then."""
        began = time.monotonic()
        with contextlib.ExitStack() as self._fogs:
            self._start()
            with self._streaming() as stream:
                for number, blow in enumerate(blows):
                    self._tell(f"{time.monotonic() - began:6.1f} s, blow {number}: {blow}")
                    self._deal(stream, blow)
                    self._pause(HURRIED_S if blow.hurried else LIVE_S)
                self._tell(f"{time.monotonic() - began:6.1f} s, all blows are dealt")
                until(stream.all_over, OVER_S, lambda: self._unfinished(stream))
            assert self._fog.stop() == 0, self._fog.log.read_text()[-3000:]
        return self._report(stream, time.monotonic() - began)

    def _start(self) -> None:
        environment = {**self._clock.environment, **SETTINGS}
        self._fog = self._fogs.enter_context(
            running_fog(self._home, *FLAGS, environment=environment)
        )
        self._processes = Processes(self._fog)

    @contextlib.contextmanager
    def _streaming(self) -> Iterator[TaskStream]:
        until(self._is_whole, START_S, lambda: f"not whole: {self._processes.counts()}")
        self._whole = self._processes.counts()
        stream = TaskStream(self._layout, self._choose, AT_ONCE)
        try:
            until(lambda: stream.accepted_of_those_after(0), TASK_S, lambda: self._state())
            yield stream
        finally:
            self._processes.let_go()
            stream.close()

    def _is_whole(self) -> bool:
        counts = self._processes.counts()
        return all(counts[target] for target in CLASSES) and counts["runner"] == 2 * WORKERS

    def _pause(self, longest_s: float) -> None:
        threading.Event().wait(self._choose.uniform(0, longest_s))

    def _deal(self, stream: TaskStream, blow: Blow) -> None:
        made = len(stream.wanted)
        if blow.kind == "jump":
            self._clock.jump(int(blow.seconds))
        elif blow.target == OWNER:
            self._processes.let_go()
            self._fog.kill()
            self._fog.await_gone()
            began = time.monotonic()
            self._start()
            self._recovery_s[OWNER].append(round(time.monotonic() - began, 2))
        else:
            struck: list[psutil.Process] = []

            def found() -> bool:
                victim = self._processes.strike(blow, self._choose)
                struck.extend([] if victim is None else [victim])
                return bool(struck)

            until(found, START_S, lambda: f"there is no {blow.target}: {self._state()}")
            if blow.kind == "kill" and not blow.hurried:
                self._await_recovery(stream, blow, struck[-1])
        self._dealt[blow.label] += 1
        if not blow.hurried:
            until(
                lambda: stream.accepted_of_those_after(made),
                TASK_S,
                lambda: f"no new task was accepted after {blow}: {self._state()}",
            )

    def _await_recovery(self, stream: TaskStream, blow: Blow, victim: psutil.Process) -> None:
        """Wait until all processes run again, and note how long it took."""
        began = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.wait()
        if blow.target == "backend":
            written = last_event(self._layout)
            until(self._answers, START_S, lambda: f"no answer: {self._state()}")
            self._answers_s.append(round(time.monotonic() - began, 2))
            moved: list[float] = []

            def moves() -> bool:
                at = stream.moved_after(written)
                moved.extend([] if at is None else [at])
                return bool(moved)

            until(moves, TASK_S, lambda: f"nothing moves: {self._state()}")
            self._recovery_s["backend"].append(round(moved[-1] - began, 2))
            return
        if blow.target == "runner":
            return  # the slot has another one when it has the next task
        until(
            lambda: self._processes.counts()[blow.target] >= self._whole[blow.target],
            START_S,
            lambda: f"after {blow} not whole: {self._processes.counts()} {self._state()}",
        )
        self._recovery_s[blow.target].append(round(time.monotonic() - began, 2))

    def _answers(self) -> bool:
        try:
            with Backend(Home(self._layout)) as backend:
                backend.on_lost = lambda _: None
                backend.get("/api/v1/events", dict[str, Any], limit=1)
        except FogError:
            return False
        return True

    def _state(self) -> str:
        status, log = self._fog.run("status").stdout, self._fog.log.read_text()
        return f"CHAOS_SEED={self._seed}\n{status}\n{log[-3000:]}"

    def _unfinished(self, stream: TaskStream) -> str:
        shown = [self._fog.run("task", "show", task).stdout for task in stream.open()[:3]]
        return f"not over: {stream.open()}\n{shown}\n{self._state()}"

    def _report(self, stream: TaskStream, seconds: float) -> dict[str, Any]:
        ledger = read_ledger(self._layout, stream.wanted, WORKERS)
        by_kind: dict[str, Counter[str]] = {
            "kill": Counter(),
            "freeze": Counter(),
            "jump": Counter(),
        }
        for label, count in self._dealt.items():
            kind, target = label.split()
            by_kind[kind][target] += count
        return {
            "chaos_lost": len(ledger.lost),
            "chaos_twice": len(ledger.twice),
            "chaos_wrong": len(stream.wrong),
            "lost": ledger.lost,
            "twice": ledger.twice,
            "wrong": stream.wrong,
            "seed": self._seed,
            "kills": dict(by_kind["kill"]),
            "freezes": dict(by_kind["freeze"]),
            "jumps": by_kind["jump"]["all"],
            "tasks": len(stream.wanted),
            "tasks_by_kind": dict(Counter(task.kind for task in stream.wanted.values())),
            "tasks_by_level": dict(Counter(task.privacy for task in stream.wanted.values())),
            "attempts": sum(ledger.attempts.values()),
            "attempts_by_end": ledger.attempts,
            "most_attempts": ledger.tries,
            "results_left_with_workers": ledger.left,
            "backend_answers_s": sorted(self._answers_s),
            "recovery_s": {name: sorted(times) for name, times in self._recovery_s.items()},
            "troubles": {
                text.replace(str(self._home), "FOG_HOME"): count
                for text, count in stream.troubles.items()
            },
            "seconds": round(seconds, 1),
        }
