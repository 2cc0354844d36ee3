"""Tasks whose answers are known beforehand, asked for again and again, and what became of each."""

from __future__ import annotations

import queue
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

import wasmtime

from fog_compute.cli.client import Backend
from fog_compute.client.answers import Batch
from fog_compute.client.places import Home
from fog_compute.errors import FogError
from fog_compute.layout import HomeLayout
from fog_compute.text import one_line
from fog_compute.units import KIB

T = TypeVar("T")

PROGRAMS: Final = Path(__file__).resolve().parents[1] / "programs"
LEVELS: Final = (*["public"] * 2, *["private"] * 3, *["confidential"] * 2, "secret")
TRIES: Final = 100
"""A task that is hit again and again is not at fault: only one that is forgotten is."""
BATCH: Final = 3
PAUSE_S: Final = 0.1
WAIT_S: Final = 5
ASK_AGAIN_S: Final = 0.2


class Event(TypedDict):
    """A state that a task came to."""

    seq: int
    task: str
    state: str
    final: bool


class Events(TypedDict):
    """What happened, in order."""

    events: list[Event]


FACTOR: Final = 6364136223846793005
SUMMAND: Final = 1442695040888963407
WORD: Final = 2**64
CHURN: Final = f"""(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $x i64) (local $left i64)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 16))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $x (i64.load (i32.const 64)))
    (local.set $left (i64.load (i32.const 72)))
    (loop $again
      (local.set $x
        (i64.add (i64.mul (local.get $x) (i64.const {FACTOR})) (i64.const {SUMMAND})))
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $again (i64.ne (local.get $left) (i64.const 0))))
    (i64.store (i32.const 64) (local.get $x))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))"""


def churned(start: int, rounds: int) -> int:
    """What `CHURN` makes of a number, without its long way."""
    factor, summand = 1, 0
    step_factor, step_summand = FACTOR, SUMMAND
    while rounds:
        if rounds & 1:
            factor, summand = factor * step_factor, summand * step_factor + step_summand
        step_factor, step_summand = step_factor**2, (step_factor + 1) * step_summand
        factor, summand = factor % WORD, summand % WORD
        step_factor, step_summand = step_factor % WORD, step_summand % WORD
        rounds >>= 1
    return (factor * start + summand) % WORD


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task, and all that it has to bring.

    Attributes:
        kind: what it is like.
        module: its program.
        privacy: its level.
        stdin: its standard input.
        out: what stands on its standard output afterwards.
        argv: its arguments.
        inputs: its input files by name.
        files: what it leaves below ``out``, by name.
    """

    kind: str
    module: bytes
    privacy: str
    stdin: bytes = b""
    out: bytes = b""
    argv: tuple[str, ...] = ()
    inputs: Mapping[str, bytes] | None = None
    files: Mapping[str, bytes] | None = None

    def described(self, upload: Callable[[bytes], str]) -> dict[str, Any]:
        """Say it as the backend is asked for it, once all of it was uploaded."""
        return {
            "module": upload(self.module),
            "stdin": upload(self.stdin) if self.stdin else None,
            "inputs": {name: upload(data) for name, data in (self.inputs or {}).items()},
            "argv": list(self.argv),
            "privacy": self.privacy,
            "max_attempts": TRIES,
        }


class Recipes:
    """Draws tasks: quick ones, ones that run for long, ones with much to carry, ones with files."""

    def __init__(self, choose: random.Random) -> None:
        self._choose: Final = choose
        self._echo: Final = (files("fog_compute.cli") / "echo.wasm").read_bytes()
        self._churn: Final = bytes(wasmtime.wat2wasm(CHURN))
        self._sort: Final = (PROGRAMS / "sort.wasm").read_bytes()

    def next(self) -> list[Wanted]:
        """Some tasks that are asked for together."""
        choose = self._choose
        privacy = choose.choice(LEVELS)
        match choose.choices(("quick", "batch", "busy", "bulk", "files"), (3, 2, 5, 2, 1))[0]:
            case "batch":
                return [self._quick(privacy) for _ in range(BATCH)]
            case "busy":
                return [self._busy(privacy)]
            case "bulk":
                data = choose.randbytes(choose.randrange(200 * KIB, 900 * KIB))
                return [Wanted("bulk", self._echo, privacy, stdin=data, out=data)]
            case "files":
                return [self._files(privacy)]
        return [self._quick(privacy)]

    def _quick(self, privacy: str) -> Wanted:
        data = self._choose.randbytes(32)
        return Wanted("quick", self._echo, privacy, stdin=data, out=data)

    def _busy(self, privacy: str) -> Wanted:
        start, rounds = self._choose.randrange(WORD), self._choose.randrange(10**8, 15 * 10**8)
        given = start.to_bytes(8, "little") + rounds.to_bytes(8, "little")
        out = churned(start, rounds).to_bytes(8, "little")
        return Wanted("busy", self._churn, privacy, stdin=given, out=out)

    def _files(self, privacy: str) -> Wanted:
        numbers = self._choose.sample(range(10**6), 20_000)
        before, after = (
            "".join(f"{number}\n" for number in each).encode()
            for each in (numbers, sorted(numbers))
        )
        return Wanted(
            *("files", self._sort, privacy),
            out=f"{len(numbers)} numbers\n".encode(),
            argv=("numbers", "out/sorted"),
            inputs={"numbers": before},
            files={"sorted": after},
        )


class TaskStream:
    """Keeps a fog busy, whatever becomes of its backend, and looks at each answer.

    Attributes:
        wanted: every task that the fog said it has, by its id.
        wrong: what came instead of an answer, by the task's id.
        troubles: what commands would have told their user.
    """

    def __init__(self, layout: HomeLayout, choose: random.Random, at_once: int) -> None:
        """Begin with ``at_once`` open tasks."""
        self.wanted: dict[str, Wanted] = {}
        self.wrong: dict[str, str] = {}
        self.troubles: Counter[str] = Counter()
        self._layout = layout
        self._recipes = Recipes(choose)
        self._keys = random.Random(choose.random())
        self._at_once = at_once
        self._over: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ends = 0
        self._checked: set[str] = set()
        self._moves: list[tuple[int, str, str, float]] = []
        self._leave = threading.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=work.__name__)
            for work in (self._feed, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def moved_after(self, seq: int) -> float | None:
        """When a worker had brought something on, of all that was written after a number."""
        times = (at for number, _, state, at in self._moves if number > seq and state != "queued")
        return next(times, None)

    def accepted_of_those_after(self, count: int) -> bool:
        """Whether a task was accepted that was made when there had been so many."""
        self.check()
        fresh = set(list(self.wanted)[count:])
        return any(task in fresh and state == "accepted" for _, task, state, _ in self._moves)

    def check(self) -> None:
        """Raise what went wrong with the stream itself."""
        if self._failure is not None:
            raise self._failure

    def all_over(self) -> bool:
        """Ask for nothing more; say whether all that was asked for is over, and was looked at."""
        self._leave.set()
        self.check()
        return not self._threads[0].is_alive() and self._checked == set(self.wanted)

    def open(self) -> list[str]:
        """The tasks of which no end was seen."""
        return sorted(set(self.wanted) - self._checked)

    def close(self) -> None:
        """Leave nothing behind."""
        self._leave.set()
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failure = error
            raise

    def _feed(self) -> None:
        """Ask for tasks, and look at those that are over; to the end once it shall leave."""
        while not self._stop.is_set():
            if not self._leave.is_set() and len(self.wanted) - self._ends < self._at_once:
                self._ask_for(self._recipes.next())
            try:
                self._look_at(self._over.get(timeout=PAUSE_S))
            except queue.Empty:
                if self._leave.is_set() and self._checked == set(self.wanted):
                    return

    def _ask_for(self, tasks: Sequence[Wanted]) -> None:
        key = self._keys.randbytes(16).hex()
        upload = self._upload
        described = [task.described(upload) for task in tasks]
        if len(described) == 1:
            made = self._insist(
                lambda backend: [
                    str(backend.post("/api/v1/tasks", dict[str, Any], described[0], key=key)["id"])
                ]
            )
        else:
            body = {"tasks": described}
            made = self._insist(
                lambda backend: backend.post("/api/v1/tasks/batch", Batch, body, key=key)["tasks"]
            )
        self.wanted.update(zip(made, tasks, strict=True))

    def _upload(self, data: bytes) -> str:
        return self._insist(lambda backend: backend.upload(data))

    def _look_at(self, task_id: str) -> None:
        wanted = self.wanted[task_id]
        got = self._insist(lambda backend: backend.whole(f"/api/v1/tasks/{task_id}/stdout"))
        if got != wanted.out:
            self.wrong[task_id] = f"{wanted.kind}: {len(got)} bytes, not {len(wanted.out)}"
        for name, data in (wanted.files or {}).items():
            path = f"/api/v1/tasks/{task_id}/files/{name}"
            if self._insist(lambda backend, path=path: backend.whole(path)) != data:  # type: ignore[misc]
                self.wrong[task_id] = f"{wanted.kind}: {name} differs"
        self._checked.add(task_id)

    def _watch(self) -> None:
        """Hear of everything that happens, once and in order."""
        since = 0
        while not self._stop.is_set():
            asked = since
            answer = self._insist(
                lambda backend, asked=asked: backend.get(  # type: ignore[misc]
                    "/api/v1/events", Events, since=asked, wait=WAIT_S
                )
            )
            now = time.monotonic()
            for event in answer["events"]:
                assert event["seq"] > since, f"event {event['seq']} comes after {since}"
                since = event["seq"]
                self._moves.append((since, event["task"], event["state"], now))
                if event["final"]:
                    self._ends += 1
                    self._over.put(event["task"])

    def _insist(self, ask: Callable[[Backend], T]) -> T:
        """Ask until there is an answer, as a user does who is told that the backend is away."""
        while True:
            try:
                with Backend(Home(self._layout)) as backend:
                    backend.on_lost = lambda _: None
                    return ask(backend)
            except FogError as error:
                self.troubles[one_line(str(error))] += 1
                if self._stop.wait(ASK_AGAIN_S):
                    raise


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the store and the workers' journals hold in the end.

    Attributes:
        lost: tasks that are not accepted, or are not there, each with what it is instead.
        twice: tasks of which more than one attempt, event, result or row is the accepted one.
        attempts: how many attempts there were, by how they ended.
        tries: most attempts of one task.
        left: how many results workers still keep, by what became of their attempt.
    """

    lost: dict[str, str]
    twice: dict[str, str]
    attempts: dict[str, int]
    tries: int
    left: dict[str, int]


def read_ledger(layout: HomeLayout, wanted: Iterable[str], workers: int) -> Ledger:
    """Compare what was asked for with what is on disk; nothing may run in that home."""
    asked = set(wanted)
    with sqlite3.connect(f"file:{layout.database}?mode=ro", uri=True) as store:
        states = dict(store.execute("SELECT id, state FROM tasks").fetchall())
        accepted = Counter(_column(store, "SELECT task_id FROM events WHERE state = 'accepted'"))
        results = Counter(_column(store, "SELECT task_id FROM results"))
        rows = store.execute("SELECT handle, task_id, state FROM attempts").fetchall()
        (counted,) = _column(store, "SELECT sum(accepted) FROM level_statistics")
    store.close()
    settled = Counter(task for _, task, state in rows if state == "settled")
    per_task = Counter(task for _, task, _ in rows)
    lost = {task: states.get(task, "gone") for task in asked if states.get(task) != "accepted"}
    lost |= dict.fromkeys(asked - lost.keys() - results.keys(), "accepted without a result")
    twice = {
        task: f"{settled[task]} settled, {accepted[task]} accepted, {results[task]} results"
        for task in states
        if max(settled[task], accepted[task], results[task]) > 1
    }
    twice |= dict.fromkeys(states.keys() - asked, "made without being asked for")
    if counted != len(accepted):
        twice["statistics"] = f"{counted} counted, {len(accepted)} accepted"
    ended = {bytes.fromhex(handle): state for handle, _, state in rows}
    left: Counter[str] = Counter()
    for index in range(workers):
        kept = _kept(layout.worker(index) / "attempts.db")
        left.update(ended.get(handle, "nobody's") for handle in kept)
    return Ledger(
        lost,
        twice,
        dict(sorted(Counter(row[2] for row in rows).items())),
        max(per_task.values()),
        left,
    )


def last_event(layout: HomeLayout) -> int:
    """The number of the last event that is written."""
    with sqlite3.connect(f"file:{layout.database}?mode=ro", uri=True) as store:
        (last,) = _column(store, "SELECT coalesce(max(seq), 0) FROM events")
    store.close()
    return int(last)


def _kept(journal: Path) -> list[bytes]:
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as store:
        kept = _column(store, "SELECT handle FROM results")
    store.close()
    return kept


def _column(store: sqlite3.Connection, query: str) -> list[Any]:
    return [value for (value,) in store.execute(query)]
