"""What `fog up` starts, and what it bears."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fog_compute.cli import supervisor
from fog_compute.cli.children import Child, Event, Wish
from fog_compute.cli.monitoring import exporters, system
from fog_compute.cli.monitoring.foreign import ForeignChild
from fog_compute.cli.monitoring.system import Monitoring
from fog_compute.cli.supervisor import Supervisor
from fog_compute.config import load_settings

pytestmark = pytest.mark.asyncio

DEADLINE_S = 30.0


class ReadyChild(Child):
    """A child that is ready at once and starts no process."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        log: Path,
        environment: dict[str, str],
        on_event: Callable[[Child, Event], None],
    ) -> None:
        super().__init__(name, command, log, environment, on_event)
        self.hear = on_event

    async def keep(self) -> None:
        self.ready.set()
        self.hear(self, {"event": "ready", "url": "http://127.0.0.1:1"})
        await self._last.wait()
        self.over.set()


async def started(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: type[Child] = ReadyChild,
    **settings: object,
) -> list[str]:
    """Run a fog until it is ready; return the parts that it started."""
    monkeypatch.setattr(supervisor, "Child", child)
    seen: list[str] = []

    def report(event: str, fields: dict[str, object]) -> None:
        if event == "started":
            seen.append(str(fields["name"]))
        elif event == "ready":
            os.kill(os.getpid(), signal.SIGTERM)

    fog = Supervisor(load_settings(home=home, port=0, **settings), report)
    await asyncio.wait_for(fog.run(), DEADLINE_S)
    return seen


async def test_parts_are_started_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "find_betanet", lambda: Path("betanet"))

    assert await started(tmp_path, monkeypatch) == ["net", "backend", "worker-0"]
    assert not (tmp_path / "fog.json").exists()


async def test_other_net_is_joined_and_none_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tmp_path / "net.json"

    assert await started(tmp_path, monkeypatch, net=net) == ["backend", "worker-0"]


async def test_fog_runs_on_where_its_state_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fog.json").mkdir()

    parts = await started(tmp_path, monkeypatch, net=tmp_path / "net.json", workers=2)

    assert parts == ["backend", "worker-0", "worker-1"]
    assert capsys.readouterr().err.count("fog.json cannot be written (Is a directory)") == 1


@pytest.mark.parametrize(("port", "ports"), [(0, ["0", "0"]), (9200, ["9200", "9201"])])
async def test_each_worker_shows_its_metrics_at_a_port_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, ports: list[str]
) -> None:
    given: dict[str, str] = {}

    class AskedChild(ReadyChild):
        async def keep(self) -> None:
            command = self._command()
            if "--http-port" in command:
                given[self.name] = command[command.index("--http-port") + 1]
            await super().keep()

    net = tmp_path / "net.json"
    await started(tmp_path, monkeypatch, AskedChild, net=net, workers=2, worker_http_port=port)

    assert given == dict(zip(("worker-0", "worker-1"), ports, strict=True))


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("0.0.0.0", "127.0.0.1")],
)
async def test_net_gets_the_loopback_address_of_the_chosen_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, address: str
) -> None:
    monkeypatch.setattr(supervisor, "find_betanet", lambda: Path("betanet"))
    commands: dict[str, Sequence[str]] = {}

    class AskedChild(ReadyChild):
        async def keep(self) -> None:
            commands[self.name] = self._command()
            await super().keep()

    await started(tmp_path, monkeypatch, AskedChild, host=host, allow_remote=True)

    def given(part: str, option: str) -> str:
        return commands[part][commands[part].index(option) + 1]

    assert (given("net", "--ip"), given("backend", "--host")) == (address, host)


async def test_no_part_is_started_again_once_the_first_is_asked_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-40."""
    monkeypatch.setattr(supervisor, "find_betanet", lambda: Path("betanet"))
    wishes: dict[str, list[Wish]] = {}
    children: list[Child] = []

    class WatchfulChild(ReadyChild):
        async def keep(self) -> None:
            children.append(self)
            await super().keep()
            wishes[self.name] = [child._wish for child in children]

    await started(tmp_path, monkeypatch, WatchfulChild)

    assert {child.name for child in children} == set(wishes) == {"net", "backend", "worker-0"}
    assert all(Wish.RUN not in seen for seen in wishes.values()), wishes


class TroubledChild(ReadyChild):
    """A worker whose machine cannot run tasks; that of the second soon can again."""

    async def keep(self) -> None:
        if self.name.startswith("worker"):
            self.hear(self, {"event": "trouble", "reason": "few files:\n\x1b[2Jraise the limit"})
        if self.name == "worker-1":
            self.hear(self, {"event": "trouble", "reason": ""})
        await super().keep()


async def test_what_keeps_a_worker_from_its_tasks_is_told_in_one_line_and_kept_for_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-27."""
    monkeypatch.setattr(supervisor, "Child", TroubledChild)
    told: list[dict[str, object]] = []
    kept: list[dict[str, object]] = []

    def report(event: str, fields: dict[str, object]) -> None:
        if event == "trouble":
            told.append(fields)
        elif event == "ready":
            kept.append(json.loads((tmp_path / "fog.json").read_text())["troubles"])
            os.kill(os.getpid(), signal.SIGTERM)

    settings = load_settings(home=tmp_path, port=0, net=tmp_path / "net.json", workers=2)
    await asyncio.wait_for(Supervisor(settings, report).run(), DEADLINE_S)

    line = "few files: [2Jraise the limit"
    assert told == [
        {"name": "worker-0", "reason": line},
        {"name": "worker-1", "reason": line},
        {"name": "worker-1", "reason": ""},
    ]
    assert kept == [{"worker-0": line}]


class FallingChild(ReadyChild):
    """A backend that has ended twice before it is ready."""

    async def keep(self) -> None:
        if self.name == "backend":
            for code in (1, -9):
                self.hear(self, {"event": "ended", "code": code, "reason": f"code\n{code}"})
        await super().keep()


async def test_what_was_started_again_is_kept_with_the_last_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "Child", FallingChild)
    told: list[object] = []
    kept: list[dict[str, object]] = []

    def report(event: str, fields: dict[str, object]) -> None:
        if event == "ended":
            told.append((fields["name"], fields["reason"]))
        elif event == "ready":
            kept.append(json.loads((tmp_path / "fog.json").read_text())["restarts"]["backend"])
            os.kill(os.getpid(), signal.SIGTERM)

    settings = load_settings(home=tmp_path, port=0, net=tmp_path / "net.json")
    await asyncio.wait_for(Supervisor(settings, report).run(), DEADLINE_S)

    assert told == [("backend", "code 1"), ("backend", "code -9")]
    assert (kept[0]["count"], kept[0]["why"]) == (2, "code -9")


async def test_what_watches_a_fog_stops_last_and_the_backend_alone_leaves_it_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-MON-30, INV-MON-31."""
    asked: list[Monitoring] = []

    async def ask_net(watching: Monitoring) -> None:
        asked.append(watching)

    ended: list[str] = []
    environments: dict[str, dict[str, str]] = {}

    class Kept(Child):
        async def keep(self) -> None:
            environments[self.name] = self._environment
            self.ready.set()
            self._on_event(self, {"event": "ready", "url": "http://127.0.0.1:1"})
            while self._wish < Wish.STOP:
                self._last.clear()
                await self._last.wait()
            ended.append(self.name)
            self.over.set()

    class KeptForeign(Kept, ForeignChild):
        """One of those that watch."""

    monkeypatch.setattr(supervisor, "find_betanet", lambda: Path("betanet"))
    monkeypatch.setattr(Monitoring, "ask_net", ask_net)
    monkeypatch.setattr(system, "ForeignChild", KeptForeign)
    monkeypatch.setattr(exporters, "wanted", lambda settings: [])
    monkeypatch.setenv("FOG_ALERT_WEBHOOK", "https://example.org/s3cret")
    monkeypatch.setenv("FOG_DATABASE_URL", "postgresql://ann:s3cret@127.0.0.1/fog")
    monkeypatch.setenv("FOG_REDIS_URL", "redis://:s3cret@127.0.0.1/0")

    parts = await started(tmp_path, monkeypatch, Kept, monitoring=True)

    watchers = ["alertmanager", "prometheus"]
    assert parts == ["net", "backend", "worker-0", *watchers]
    assert ended == ["worker-0", "backend", "net", *watchers]
    assert len(asked) == 1
    keys = {name: values.get("FOG_METRICS_KEY_FILE") for name, values in environments.items()}
    assert keys.pop("backend") == str(tmp_path / "monitoring/metrics-key")
    assert set(keys.values()) == {None}
    told = {name for name, values in environments.items() if "s3cret" in str(values)}
    assert told == {"backend"}
