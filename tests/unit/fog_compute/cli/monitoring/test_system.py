"""The programs that watch a fog: started with its files, kept running, found again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fog_compute import spawn
from fog_compute.cli.children import Event
from fog_compute.cli.common import CommandError
from fog_compute.cli.monitoring import exporters, programs, system, targets
from fog_compute.cli.monitoring.foreign import ForeignChild
from fog_compute.cli.monitoring.system import Monitoring
from fog_compute.config import load_settings

DEADLINE_S = 30.0

SERVER = """
import http.server, os, sys
host, _, port = sys.argv[1].partition("=")[2].rpartition(":")
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/-/ready" else 404)
        self.end_headers()
    def log_message(self, *arguments): pass
with open(os.environ["STARTS"], "a") as starts:
    print(*sys.argv[1:], file=starts)
http.server.HTTPServer((host, int(port)), Page).serve_forever()
"""
"""A program that is ready at once at the address that is asked for."""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that is all there is of them, and rules to go by."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for program in (programs.PROMETHEUS, programs.ALERTMANAGER):
        path = folder / program.package
        path.write_text(f"#!{sys.executable}\n{SERVER}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return folder


def monitoring(tmp_path: Path, **settings: object) -> Monitoring:
    home = tmp_path / "home"
    (home / "logs").mkdir(parents=True, exist_ok=True)
    chosen = load_settings(home=home, prometheus_port=0, alertmanager_port=0, **settings)
    return Monitoring(chosen, lambda child, event: None)


def targets_in(tmp_path: Path, job: str) -> Any:
    return json.loads((tmp_path / "home/monitoring/targets" / f"{job}.json").read_bytes())


def test_jobs_are_those_that_this_fog_has(tools: Path, tmp_path: Path) -> None:
    assert monitoring(tmp_path).jobs == [
        *("fog-backend", "fog-worker", "betanet-mixnodes", "betanet-authority"),
        *("prometheus", "alertmanager"),
    ]
    for exporter in (programs.NODE_EXPORTER, programs.REDIS_EXPORTER):
        (tools / exporter.upstream).touch(0o755)
    joined = monitoring(tmp_path, workers=0, net=tmp_path / "net.json", redis_url="redis://r")
    assert joined.jobs == ["fog-backend", "host", "redis", "prometheus", "alertmanager"]


def test_parts_of_the_fog_become_targets_when_they_say_where_they_are(
    tools: Path, tmp_path: Path
) -> None:
    """INV-MON-30."""
    watching = monitoring(tmp_path)
    watching.children()
    assert targets_in(tmp_path, targets.BACKEND) == []

    for port in (8001, 8002):  # the second time after a restart
        watching.heard("backend", {"event": "ready", "url": f"http://127.0.0.1:{port}"})
    watching.heard("worker-3", {"event": "ready", "http": "http://127.0.0.1:9001"})
    watching.heard("worker-4", {"event": "ready"})
    watching.heard("net", {"event": "ready", "url": "http://127.0.0.1:7"})

    (backend,) = targets_in(tmp_path, targets.BACKEND)
    (worker,) = targets_in(tmp_path, targets.WORKER)
    assert (backend["targets"], backend["labels"]["instance"]) == (["127.0.0.1:8002"], "backend")
    assert (worker["targets"], worker["labels"]["instance"]) == (["127.0.0.1:9001"], "worker-3")


@pytest.mark.asyncio
async def test_nodes_are_targets_where_the_net_says_that_they_answer(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"name": "entry-0", "role": "entry", "http": "127.0.0.1:7001"}
    told = [json.dumps({"nodes": [row]}).encode(), b"no report"]
    monkeypatch.setattr(system, "find_betanet", lambda: Path("betanet"))
    monkeypatch.setattr(spawn, "output_of", lambda command, seconds: told.pop(0))
    watching = monitoring(tmp_path)
    watching.children()

    await watching.ask_net()
    await watching.ask_net()

    (node,) = targets_in(tmp_path, targets.NODES)
    assert (node["targets"], node["labels"]["role"]) == (["127.0.0.1:7001"], "entry")
    assert "the nodes are not watched" in capsys.readouterr().err


def test_files_are_for_the_owner_alone(tools: Path, tmp_path: Path) -> None:
    """INV-MON-31."""
    monitoring(tmp_path, alert_webhook="https://example.org/s3cret").children()

    folder = tmp_path / "home" / "monitoring"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"prometheus.yml", "alertmanager.yml", "expected.yml"} <= {file.name for file in files}
    assert all(not file.stat().st_mode & 0o077 for file in files)
    assert [file.name for file in files if b"s3cret" in file.read_bytes()] == ["alertmanager.yml"]


def test_missing_rules_are_an_error(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "find_share", lambda files: None)

    with pytest.raises(CommandError, match="rules of the monitoring"):
        monitoring(tmp_path)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not met():
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_program_is_ready_when_its_page_says_so_and_comes_back_where_it_was(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # this Python is needed to bind a program
    monkeypatch.setattr(programs, "find", lambda program: tools / program.package)
    monkeypatch.setattr(exporters, "wanted", lambda settings: [])
    starts = tmp_path / "starts"
    monkeypatch.setattr(spawn, "loader_environment", lambda: {**os.environ, "STARTS": str(starts)})
    heard: list[tuple[str, Event]] = []
    home = tmp_path / "home"
    (home / "logs").mkdir(parents=True)
    settings = load_settings(home=home, prometheus_port=0, alertmanager_port=0)
    watching = Monitoring(settings, lambda child, event: heard.append((child.name, event)))
    (part,) = [child for child in watching.children() if child.name == "prometheus"]
    assert isinstance(part, ForeignChild)
    keeping = asyncio.create_task(part.keep())
    try:
        await until(part.ready.is_set)
        assert watching.urls["prometheus"].startswith("http://127.0.0.1:")
        assert part.pid is not None

        os.kill(part.pid, signal.SIGKILL)
        await until(lambda: heard.count(("prometheus", {"event": "ready"})) == 2)
    finally:
        part.ask_to_stop()
        await asyncio.wait_for(keeping, DEADLINE_S)

    first, second = starts.read_text().splitlines()
    assert first == second
    assert "--storage.tsdb.path=prometheus" in first
    (target,) = targets_in(tmp_path, "prometheus")
    assert f"--web.listen-address={target['targets'][0]}" in first


@pytest.mark.asyncio
async def test_last_words_of_a_program_carry_no_url(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-MON-31."""
    monkeypatch.undo()  # this Python is needed to bind a program
    monkeypatch.setattr(exporters, "wanted", lambda settings: [])
    program = tools / "wordy"
    program.write_text("""#!/bin/sh
echo 'parse \\"https://us:s3cret@h/t0ken?a\\": no host' >&2
exit 3
""")
    program.chmod(0o700)
    monkeypatch.setattr(programs, "find", lambda _: program)
    heard: list[Event] = []
    settings = load_settings(home=tmp_path / "home", alertmanager_port=0)
    watching = Monitoring(settings, lambda _, event: heard.append(event))
    (part,) = [child for child in watching.children() if child.name == "alertmanager"]
    keeping = asyncio.create_task(part.keep())
    await until(lambda: bool(heard))
    part.kill()
    await asyncio.wait_for(keeping, DEADLINE_S)

    reason = str(heard[0]["reason"])
    assert "it ended with 3: parse" in reason
    assert "s3cret" not in reason
    assert "t0ken" not in reason


def test_what_is_missing_is_named_with_its_packages() -> None:
    both = programs.missing([programs.PROMETHEUS, programs.ALERTMANAGER])
    assert both.startswith("prometheus and prometheus-alertmanager are neither on the PATH")
    assert "apt-get install --no-install-recommends prometheus prometheus-alertmanager`" in both
    one = programs.missing([programs.ALERTMANAGER])
    assert one.startswith("prometheus-alertmanager is neither")


def test_programs_are_found_under_debians_names_and_their_makers(tools: Path) -> None:
    found = programs.find(programs.ALERTMANAGER)
    assert found == tools / "prometheus-alertmanager"
    found.rename(tools / "alertmanager")
    assert programs.find(programs.ALERTMANAGER) == tools / "alertmanager"
    (tools / "alertmanager").unlink()
    assert programs.find(programs.ALERTMANAGER) is None
