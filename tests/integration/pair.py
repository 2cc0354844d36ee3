"""Two backends of two homes on one Postgres, real processes that are killed while they work."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from fog_compute.client.answers import Batch
from fog_compute.client.backend import Backend
from fog_compute.client.places import Home
from fog_compute.errors import FogError
from fog_compute.layout import HomeLayout
from fog_compute.store.dialects import database_at
from fog_compute.tasks.result import TaskResult
from fog_compute.text import one_line
from tests.integration.blows import Blow, Processes
from tests.integration.fogs import RunningFog, running_fog, until
from tests.postgres import PrivatePostgres

HOMES: Final = ("one", "other")
WORKERS: Final = ("--workers", "2", "--slots", "2")
SETTINGS: Final = {
    "FOG_OWNER_LEASE_S": "4",
    "FOG_LEASE_S": "30",
    "FOG_RESULT_TTL_S": str(10 * 365 * 86_400),
}
BATCH: Final = 50
WAITING: Final = 400
"""Tasks that wait or run before more are asked for."""

TRIES: Final = 100
PAUSE_S: Final = 0.2
OVER_S: Final = 1800.0

Tell = Callable[[str], object]


class Pair:
    """One run: the two, their Postgres, the blows, and what the database says afterwards."""

    def __init__(
        self, folder: Path, postgres: PrivatePostgres, url: str, seed: str, tell: Tell
    ) -> None:
        """Start nothing yet; ``tell`` takes each line of what happens."""
        self._folder: Final = folder
        self._postgres: Final = postgres
        self._url: Final = url
        self._seed: Final = seed
        self._choose: Final = random.Random(seed)
        self._tell: Final = tell
        self._engine: Final = database_at(url).engines().reading
        self._wanted: Final[dict[str, bytes]] = {}
        self._troubles: Final[Counter[str]] = Counter()
        self._dealt: Final[Counter[str]] = Counter()
        self._away_s: Final[dict[str, list[float]]] = defaultdict(list)
        self._failure: BaseException | None = None
        self._stop: Final = threading.Event()
        self._fogs: Final[dict[str, RunningFog]] = {}

    def live_through(self, tasks: int, blows: list[Blow]) -> dict[str, Any]:
        """Have so many tasks done and deal the blows on the way; return the report."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            self._start(stack)
            feeding = threading.Thread(target=self._guarded, args=(tasks,))
            feeding.start()
            stack.callback(feeding.join)
            stack.callback(self._stop.set)
            for number, blow in enumerate(blows, 1):
                self._await(tasks * number // (len(blows) + 1))
                self._tell(f"{time.monotonic() - began:6.1f} s, blow {number}: {blow.label}")
                self._deal(blow)
            self._await(tasks)
            seconds = time.monotonic() - began
            self._stop.set()
            feeding.join()
            if self._failure is not None:
                raise self._failure
            for name in reversed(HOMES):
                assert self._fogs[name].stop() == 0, self._fogs[name].log.read_text()[-3000:]
        return self._report(seconds)

    def _await(self, count: int) -> None:
        def come() -> bool:
            if self._failure is not None:
                raise self._failure
            return self._accepted() >= count

        until(come, OVER_S, lambda: f"it goes on no more: {self._state()}")

    def _start(self, stack: contextlib.ExitStack) -> None:
        environment = {**SETTINGS, "FOG_DATABASE_URL": self._url}
        first, second = (self._folder / name for name in HOMES)
        self._fogs[HOMES[0]] = stack.enter_context(
            running_fog(first, *WORKERS, environment=environment)
        )
        second.mkdir(mode=0o700)
        shutil.copy(first / "groups.json", second / "groups.json")
        net = str(HomeLayout(first).bootstrap)
        self._fogs[HOMES[1]] = stack.enter_context(
            running_fog(second, "--workers", "0", environment=environment | {"FOG_NET": net})
        )

    # What is asked for.

    def _guarded(self, tasks: int) -> None:
        try:
            self._feed(tasks)
        except BaseException as error:
            self._failure = error
            raise

    def _feed(self, tasks: int) -> None:
        """Ask now the one and now the other, never for much more than they have done."""
        module = (files("fog_compute.cli") / "echo.wasm").read_bytes()
        keys = random.Random(self._seed)
        while len(self._wanted) < tasks and not self._stop.is_set():
            if len(self._wanted) - self._accepted() > WAITING:
                self._stop.wait(PAUSE_S)
                continue
            home = HOMES[len(self._wanted) // BATCH % len(HOMES)]
            texts = [keys.randbytes(24) for _ in range(min(BATCH, tasks - len(self._wanted)))]
            level = keys.choice(("public", "public", "private"))

            def described(
                backend: Backend, texts: list[bytes] = texts, level: str = level
            ) -> list[dict[str, object]]:
                sha256 = backend.upload(module)
                return [
                    {
                        "module": sha256,
                        "stdin": backend.upload(words),
                        "privacy": level,
                        "max_attempts": TRIES,
                    }
                    for words in texts
                ]

            body = self._insist(home, described)
            key = keys.randbytes(16).hex()
            made = self._insist(
                home,
                lambda backend, body=body, key=key: backend.post(  # type: ignore[misc]
                    "/api/v1/tasks/batch", Batch, {"tasks": body}, key=key
                ),
            )
            if made is not None:
                self._wanted.update(zip(made["tasks"], texts, strict=True))

    def _insist(self, home: str, ask: Callable[[Backend], Any]) -> Any:
        """Ask until there is an answer, as a user does who is told that the backend is away."""
        while not self._stop.is_set():
            try:
                with Backend(Home(HomeLayout(self._folder / home))) as backend:
                    backend.on_lost = lambda _: None
                    return ask(backend)
            except FogError as error:
                self._troubles[one_line(str(error))[:100]] += 1
                self._stop.wait(PAUSE_S)
        return None

    # What is done to them.

    def _deal(self, blow: Blow) -> None:
        self._dealt[blow.label] += 1
        if blow.target == "postgres":
            self._postgres.kill(signal.SIGKILL)
            time.sleep(blow.seconds)
            self._postgres.start()
        else:
            processes = Processes(self._fogs[blow.target])
            if blow.kind == "freeze":
                processes.strike(Blow("freeze", "backend", blow.seconds), self._choose)
                return
            until(
                lambda: processes.strike(Blow("kill", "backend"), self._choose) is not None,
                OVER_S,
                lambda: "there is no backend to kill",
            )
        before = self._accepted()
        began = time.monotonic()
        until(lambda: self._accepted() > before, OVER_S, lambda: f"nothing moves: {self._state()}")
        self._away_s[blow.target].append(round(time.monotonic() - began, 2))

    # What the database says.

    def _rows(self, statement: str) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(text(statement)))

    def _accepted(self) -> int:
        while True:
            try:
                return int(self._rows("SELECT count(*) FROM tasks WHERE state = 'accepted'")[0][0])
            except (SQLAlchemyError, OSError):
                time.sleep(PAUSE_S)

    def _state(self) -> dict[str, Any]:
        return {
            "tasks": self._rows("SELECT state, count(*) FROM tasks GROUP BY state"),
            "attempts": self._rows("SELECT state, owner, count(*) FROM attempts GROUP BY 1, 2"),
            "backends": self._rows("SELECT id, beat FROM backends"),
            "log": {name: fog.log.read_text()[-1500:] for name, fog in self._fogs.items()},
        }

    def _report(self, seconds: float) -> dict[str, Any]:
        wanted = self._wanted
        states = dict(tuple(row) for row in self._rows("SELECT id, state FROM tasks"))
        histories: dict[str, list[str]] = defaultdict(list)
        for task, state in self._rows("SELECT task_id, state FROM events ORDER BY seq"):
            histories[task].append(state)
        attempts = self._rows("SELECT task_id, state, owner FROM attempts")
        results = {row[0]: bytes(row[1]) for row in self._rows("SELECT task_id, data FROM results")}
        settled = Counter(row[0] for row in attempts if row[1] == "settled")
        (kept,) = self._rows("SELECT count(*) FROM results")[0]
        self._engine.dispose()
        lost = {task: states.get(task, "gone") for task in wanted if states.get(task) != "accepted"}
        lost |= dict.fromkeys(states.keys() - wanted.keys(), "made without being asked for")
        wrong = [
            task
            for task, words in wanted.items()
            if task in results and TaskResult.parse(results[task]).stdout != words
        ]
        return {
            "seed": self._seed,
            "tasks": len(wanted),
            "seconds": round(seconds, 1),
            "kills": dict(self._dealt),
            "lost": lost,
            "leased_twice": [task for task, states_ in histories.items() if _leased_twice(states_)],
            "accepted_twice": [
                task
                for task in states
                if histories[task].count("accepted") > 1 or settled[task] > 1
            ]
            + ["results"] * (kept != len(wanted)),
            "wrong": wrong,
            "attempts": dict(Counter(row[1] for row in attempts)),
            "owners": len({row[2] for row in attempts}),
            "moves_again_s": dict(self._away_s),
            "troubles": dict(self._troubles),
        }


def _leased_twice(history: list[str]) -> bool:
    """Whether a task was leased while it was leased already."""
    held = False
    for state in history:
        if state == "leased" and held:
            return True
        held = state in ("leased", "running", "reported")
    return False


def drawn(choose: random.Random, kills: int, away_s: float) -> list[Blow]:
    """So many kills of backends, now of one and now of the other; Postgres dies in their middle."""
    blows = [Blow("kill", HOMES[number % len(HOMES)]) for number in range(kills)]
    choose.shuffle(blows)
    blows.insert(len(blows) // 2, Blow("kill", "postgres", away_s))
    return blows
