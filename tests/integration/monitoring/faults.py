"""Everything that an alert tells of, done to what runs: each fault for real."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pg8000.native
import psutil

from fog_compute.levels import PrivacyLevel
from tests.integration.conftest import bench_program, scripts_folder
from tests.integration.fogs import until
from tests.integration.monitoring.causes import Told, told_of
from tests.integration.monitoring.scrapes import SECOND, Scraped
from tests.integration.monitoring.second import SecondBackend
from tests.integration.monitoring.small_net import SmallNet
from tests.integration.monitoring.stack import MIDDLES, Stack

ALERT_S: Final = 90.0
SEEN_S: Final = 60.0
FLOOD_MESSAGES: Final = 60
TASKS: Final = 6
LEVELS: Final = (PrivacyLevel.PUBLIC, PrivacyLevel.PRIVATE, PrivacyLevel.CONFIDENTIAL)
ERRORS: Final = 10
CONNECTIONS: Final = 48
STARTS: Final = 3
APART_S: Final = 6.0


class Faults:
    """What is done to a stack, and what the webhook hears of it."""

    def __init__(self, stack: Stack, ends: contextlib.ExitStack) -> None:
        """Have what suffers ready, and let it be scraped; nothing is wrong yet."""
        self._stack: Final = stack
        self._ends: Final = ends
        folder = stack.folder
        self._tight: Final = ends.enter_context(SmallNet(folder / "tight", tight=True))
        self._calm: Final = ends.enter_context(SmallNet(folder / "calm"))
        self._lonely: Final = ends.enter_context(SmallNet(folder / "lonely", alone=True))
        self._second: Final = ends.enter_context(
            SecondBackend(folder / "second", self._tight.bootstrap)
        )
        stack.targets.add(
            *_targets("tight", self._tight),
            *_targets("calm", self._calm),
            *_targets("lonely", self._lonely),
            Scraped(SECOND, "second", self._second.address),
        )
        warned = functools.partial(told_of, severity="warning")
        floods = ("HighPacketDropRate", "QueueNearFull", "ReplayMemoryNearFull")
        redis_down = told_of("ServiceDown", "critical", service="redis")
        self._later: Final[list[tuple[list[Told], Callable[[], None]]]] = [
            (list(map(warned, floods)), self._freeze_net),
            ([warned("CertificateExpiresSoon")], self._second.renew),
            ([warned("RedisMemoryHigh")], stack.redis.kill),
            ([redis_down], lambda: stack.targets.remove("redis")),
            ([warned("ReplaySpike")], self._take_folder),
            ([warned("WorkerLoss"), warned("LeaseExpiries")], self._freeze_middles),
        ]
        stack.await_scrapes()  # before anything counts, so that it counts from nothing on

    def begin(self) -> None:
        """Do what needs nothing to have happened before."""
        self._flood()
        self._replay()
        self._lose_workers()
        self._take_connections()
        self._lower_limit()
        self._stack.targets.remove("alertmanager")
        self._ask_too_much()
        self._restart()

    def await_told(self, told: Told) -> dict[str, Any]:
        """What the webhook hears of it, sooner or later."""

        def heard() -> bool:
            self._go_on()
            return self._heard(told) is not None

        until(heard, ALERT_S, lambda: f"{told} was not heard: {self._stack.figures(told.alert)}")
        alert = self._heard(told)
        assert alert is not None
        return alert

    def _heard(self, told: Told) -> dict[str, Any] | None:
        heard = self._stack.webhook.told()
        return next((one for one in heard if told.is_it(one["labels"])), None)

    def _go_on(self) -> None:
        """Do what has to wait for what was done before, once that was heard of."""
        for one in list(self._later):
            before, fault = one
            if all(map(self._heard, before)):
                self._later.remove(one)
                fault()

    def _freeze_net(self) -> None:
        """Leave a node without its authority, and a backend without its edges."""
        self._tight.signal("authority", signal.SIGSTOP)
        for edge in ("entry", "exit"):
            self._tight.signal(edge, signal.SIGKILL)

    def _take_folder(self) -> None:
        (self._calm.folder / "exit").rename(self._calm.folder / "no exit")

    def _flood(self) -> None:
        self._run(
            [
                *(sys.executable, "-P", "-m", "tests.integration.monitoring.flood"),
                *(self._tight.bootstrap, self._stack.folder / "flood", str(FLOOD_MESSAGES)),
            ],
        )

    def _replay(self) -> None:
        self._run(
            [
                *(bench_program("replayer"), "--betanet", scripts_folder() / "betanet"),
                *("--net", self._calm.bootstrap, "--dir", self._stack.folder / "replays"),
            ],
        )

    def _run(self, words: list[str | Path]) -> None:
        root = Path(__file__).resolve().parents[3]
        with (self._stack.folder / "logs" / "programs").open("ab") as log:
            process = subprocess.Popen(
                list(map(str, words)),
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(root)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._ends.callback(process.communicate)
        self._ends.callback(process.kill)

    def _lose_workers(self) -> None:
        """Give both workers more than they can do; one stops, and the other can run nothing."""
        fog = self._stack.fog
        frozen, unable = (psutil.Process(fog.pid(f"worker-{number}")) for number in (0, 1))
        for runner in frozen.children() + unable.children():
            runner.suspend()
            self._ends.callback(_resume, runner)
        for level in LEVELS:
            self._stack.submit(TASKS, level)
        until(self._all_slots_run, SEEN_S, lambda: "the workers take no tasks")
        frozen.suspend()
        self._ends.callback(_resume, frozen)
        slots = fog.home / "worker-1" / "slots"
        slots.rename(slots.with_name("no slots"))
        slots.write_text("where a runner needs its folder")
        for runner in unable.children():
            runner.kill()

    def _all_slots_run(self) -> bool:
        return not self._stack.prometheus.query('fog_worker_slots{state="free"} > 0')

    def _take_connections(self) -> None:
        url = self._stack.database_url
        parts = urlsplit(url)
        socket = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
        for _ in range(CONNECTIONS):
            connection = pg8000.native.Connection(
                parts.username, unix_sock=str(socket), database=parts.path[1:]
            )
            self._ends.callback(connection.close)

    def _lower_limit(self) -> None:
        used = self._stack.prometheus.query("redis_memory_used_bytes")[0]["value"][1]
        self._stack.redis.say("CONFIG", "SET", "maxmemory", str(int(float(used))))

    def _ask_too_much(self) -> None:
        """Once, and more when that was seen: the first error of a route makes its series."""
        assert self._second.upload() >= 500
        errors = 'http_requests_total{instance="second", status=~"5.."}'
        until(
            lambda: bool(self._stack.prometheus.query(errors)), SEEN_S, lambda: "no error was seen"
        )
        for _ in range(ERRORS):
            assert self._second.upload() >= 500

    def _restart(self) -> None:
        """Kill an exporter again and again, and not start it the last time."""
        exporter = self._stack.exporters["host"]
        began = 'process_start_time_seconds{service="host"}'
        first = time.monotonic()
        for _ in range(STARTS):
            before = self._stack.prometheus.query(began)[0]["value"][1]
            exporter.stop()
            exporter.start()

            def seen(before: str = before) -> bool:
                now = self._stack.prometheus.query(began)
                return bool(now) and now[0]["value"][1] != before

            until(seen, SEEN_S, lambda: "a start was not seen")
        until(lambda: time.monotonic() - first > APART_S, SEEN_S, lambda: "time stands still")
        exporter.stop()
        exporter.start()
        exporter.stop()

    def _freeze_middles(self) -> None:
        fog = self._stack.fog
        for number in range(MIDDLES):
            node = psutil.Process(fog.node_pid(f"middle-{number}"))
            node.suspend()
            self._ends.callback(_resume, node)
        self._stack.submit(2 * TASKS)


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def _targets(name: str, net: SmallNet) -> list[Scraped]:
    nodes = [
        Scraped("betanet-mixnodes", f"{name}-{role}", net.address(role), {"role": role})
        for role in net.roles
    ]
    authority = Scraped("betanet-authority", f"{name}-authority", net.authority_address)
    return [*nodes, authority]


@contextlib.contextmanager
def provoked(stack: Stack) -> Iterator[Faults]:
    """Do everything to a stack; what was frozen goes on afterwards, so that it can end."""
    with contextlib.ExitStack() as ends:
        faults = Faults(stack, ends)
        faults.begin()
        yield faults
