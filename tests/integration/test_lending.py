"""A machine that is lent to a fog on another one: two network namespaces, joined by a cable."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from fog_compute.levels import PrivacyLevel
from tests.machines import Machines, NoMachines
from tests.unit.fog_compute.worker import guests

from .fogs import FOG, START_S, TASK_S, RunningFog, running_fog, until
from .lending import FogOn, Lender, stopping

ECHO = Path(__file__).resolve().parents[2] / "examples" / "wordcount" / "wordcount.wasm"
TASKS = 97
TEXT = Path(__file__).resolve().parents[2] / "examples" / "text" / "opticks.txt"


class Requester:
    """Asks a fog for many tasks over its interface, each of which gives back what it was given."""

    def __init__(self, name: str, fog: RunningFog) -> None:
        url = json.loads((fog.home / "daemon" / "server.json").read_text())["url"]
        token = (fog.home / "daemon" / "token").read_text().strip()
        self._name = name
        self._http = httpx2.Client(
            base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=TASK_S
        )
        self._words: dict[str, bytes] = {}

    def ask(self) -> None:
        module = self._upload(guests.ECHO)
        for number in range(TASKS):
            word = f"{self._name} {number}".encode()
            task = {"module": module, "stdin": self._upload(word)}
            made = self._http.post("/api/v1/tasks", json=task)
            self._words[made.raise_for_status().json()["id"]] = word

    def ended(self) -> int:
        """How many tasks have been accepted."""
        levels = self._http.get("/api/v1/status").raise_for_status().json()["levels"]
        return int(levels[PrivacyLevel.PRIVATE]["accepted"])

    def check(self) -> None:
        """Every task has its own result."""
        for task_id, word in self._words.items():
            shown = self._http.get(f"/api/v1/tasks/{task_id}/stdout").raise_for_status()
            assert shown.content == word
        self._http.close()

    def _upload(self, data: bytes) -> str:
        answer = self._http.post(
            "/api/v1/blobs", content=data, headers={"content-type": "application/octet-stream"}
        )
        return str(answer.raise_for_status().json()["sha256"])


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with contextlib.ExitStack() as stack:
        try:
            yield Machines(stack, tmp_path)
        except NoMachines as missing:
            pytest.skip(str(missing.__doc__))


def wordcount(fog: RunningFog, *flags: str) -> str:
    done = fog.run("run", ECHO, "--stdin", TEXT, *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_machine_that_got_a_token_alone_runs_tasks_of_another_also_after_a_reboot(
    machines: Machines, tmp_path: Path
) -> None:
    """INV-TASK-110."""
    fog = FogOn(machines, 1, tmp_path / "a", "--listen", "10.1.0.1", "--workers", "0")
    lender = Lender(machines, 2, tmp_path / "b")
    token = tmp_path / "token"
    with stopping(fog):
        asked = fog.run("net", "token")
        assert asked.returncode == 0, asked.stderr
        token.write_text(asked.stdout)
        try:
            lender.lend("--token", token)
            token.unlink()
            first = wordcount(fog)
            assert "which" in first
            status = lender.status()
            assert {level["level"] for level in status["levels"]} == set(PrivacyLevel)
            assert status["groups"] == ["local"]
            lender.await_finished(1)

            lender.lose_power()
            lender.lend()
            assert wordcount(fog, "--privacy", "secret") == first
            lender.await_finished(1)

            # With new keys the old token opens nothing; a new one brings the machine back.
            revoked = fog.json("net", "tokens")[0]["id"]
            assert fog.run("net", "revoke", revoked).returncode == 0
            assert fog.json("net", "tokens")[0]["revoked"] is True
            token.write_text(fog.run("net", "token").stdout)
            rejoined = lender.run("worker", "start", "--token", token)
            assert rejoined.returncode == 0, rejoined.stderr
            assert wordcount(fog) == first

            stopped = lender.run("worker", "stop")
            assert stopped.returncode == 0, stopped.stderr
            assert lender.run("worker", "status").returncode == 3
        finally:
            lender.lose_power()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_fogs_share_two_workers_evenly_and_each_gets_its_own_results(tmp_path: Path) -> None:
    """INV-TASK-111."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(running_fog(tmp_path / "one", "--workers", "2"))
        token = tmp_path / "token"
        token.write_text(one.run("net", "token").stdout)
        home = tmp_path / "two"
        environment = {**one.environment, "FOG_HOME": str(home)}
        joined = subprocess.run(
            [FOG, "net", "join", "--token", token],
            env=environment,
            capture_output=True,
            check=False,
            text=True,
            timeout=START_S,
        )
        assert joined.returncode == 0, joined.stderr
        two = stack.enter_context(running_fog(home, "--workers", "0"))
        fogs = [Requester("one", one), Requester("two", two)]
        with ThreadPoolExecutor(len(fogs)) as pool:
            list(pool.map(Requester.ask, fogs))
        # Both have work until the first of them has none left.
        shares: list[int] = []

        def one_is_done() -> bool:
            shares[:] = [fog.ended() for fog in fogs]
            return TASKS in shares

        until(one_is_done, TASK_S, lambda: f"so far: {shares}")
        assert min(shares) >= 0.4 * sum(shares), shares
        until(lambda: all(fog.ended() == TASKS for fog in fogs), TASK_S, lambda: "some never ended")
        for fog in fogs:
            fog.check()
