"""What a home holds, or stands in for its processes, before a command is tried in it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from pathlib import Path

import msgspec
import pytest

from fog_compute.cli import bench, main
from fog_compute.cli.doctor.findings import Finding, Verdict
from fog_compute.cli.supervisor import Supervisor
from fog_compute.store import Store
from tests.unit.fog_compute.cli.backends import ALERT
from tests.unit.fog_compute.cli.test_lent import REPORT


def lends(home: Path, patch: pytest.MonkeyPatch) -> None:
    folder = home / "lent" / "worker-0"
    folder.mkdir(parents=True)
    (folder / "report.json").write_bytes(msgspec.json.encode(REPORT))
    patch.setattr("fog_compute.cli.lent.is_locked", lambda path: True)


def has_net(home: Path, patch: pytest.MonkeyPatch) -> None:
    (home / "net").mkdir(parents=True)
    edge = {"id": "e" * 64, "address": "127.0.0.1:9"}
    net = {"network": "n", "authority": edge, "edges": [edge], "one_operator": True}
    (home / "net" / "net.json").write_text(json.dumps(net))


def has_logs(home: Path, patch: pytest.MonkeyPatch) -> None:
    (home / "logs").mkdir(parents=True)
    line = {"timestamp": "2026-11-27T10:00:00Z", "level": "INFO", "message": "server.started"}
    (home / "logs" / "backend.log").write_text(json.dumps(line) + "\n")


def gave_token(home: Path, patch: pytest.MonkeyPatch) -> None:
    has_net(home, patch)
    assert main.run(["net", "token"]) == 0


def has_token(home: Path, patch: pytest.MonkeyPatch) -> None:
    """A token of another home, in a file."""
    other = home.parent / "other"
    has_net(other, patch)
    patch.setenv("FOG_HOME", str(other))
    with (home.parent / "token").open("w") as file, contextlib.redirect_stdout(file):
        assert main.run(["net", "token"]) == 0
    patch.setenv("FOG_HOME", str(home))
    patch.setenv("FOG_TOKEN_FILE", str(home.parent / "token"))


def starts(home: Path, patch: pytest.MonkeyPatch) -> None:
    """A fog whose parts are not started."""

    async def run(supervisor: Supervisor) -> None:
        supervisor._report("ready", {"url": "http://127.0.0.1:1", "seconds": 0.1})

    patch.setattr(Supervisor, "run", run)
    patch.setattr("fog_compute.cli.up.check_needs", lambda settings: None)
    patch.setattr("fog_compute.cli.lend.check_needs", lambda settings: None)
    patch.setattr("fog_compute.cli.up.undo_inherited_signals", lambda: None)
    patch.setattr("fog_compute.cli.lend.undo_inherited_signals", lambda: None)


def lends_itself(home: Path, patch: pytest.MonkeyPatch) -> None:
    has_token(home, patch)
    starts(home, patch)


def stops(home: Path, patch: pytest.MonkeyPatch) -> None:
    """A fog that ends as soon as it is told to."""
    patch.setattr("fog_compute.cli.down._stop", lambda lock, holder, what: 0.24)


def is_watched(home: Path, patch: pytest.MonkeyPatch) -> None:
    state = {"pid": 7, "url": "", "started_at": "", "version": "", "children": {}, "troubles": {}}
    home.mkdir(exist_ok=True)
    watched = {**state, "monitoring": {"prometheus": "http://127.0.0.1:9"}}
    (home / "fog.json").write_text(json.dumps(watched))
    patch.setattr("fog_compute.cli.alerts.HomeLock.holder", lambda lock: None)
    patch.setattr("fog_compute.cli.alerts.ask_alerts", lambda url: [ALERT])


def lent_stops(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("fog_compute.cli.lend.HomeLock.holder", lambda lock: None)
    patch.setattr("fog_compute.cli.lend.stop_holder", lambda layout, what, command: 0.2)


def is_examined(home: Path, patch: pytest.MonkeyPatch) -> None:
    finding = Finding("memory", Verdict.OK, "8.0 GiB are free")
    patch.setattr("fog_compute.cli.doctor.command.examine", lambda: [finding])


def measures(home: Path, patch: pytest.MonkeyPatch) -> None:
    rate = {"per_s": 7.5, "seconds": 1.0, "failed": 0, "backend_ms": 1.0, "worker_ms": 2.0}
    patch.setattr(bench, "_one", lambda *_: 0.25)
    patch.setattr(bench, "_sustained", lambda *_: rate)


def has_database(home: Path, patch: pytest.MonkeyPatch) -> None:
    async def make() -> None:
        async with await Store.open(home / "daemon" / "fog.db"):
            pass

    asyncio.run(make())


def has_backup(home: Path, patch: pytest.MonkeyPatch) -> None:
    has_database(home, patch)
    assert main.run(["db", "backup", str(home / "backup")]) == 0


def pipes_a_line(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sys.stdin", io.StringIO("see you at eight\n"))
