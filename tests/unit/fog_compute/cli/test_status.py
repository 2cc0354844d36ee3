"""`fog status` says what is wrong, and what was started again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fog_compute.cli import main, status
from fog_compute.cli.common import CommandError
from tests.unit.fog_compute.cli.backends import STATUS, backend

STATE = {
    "pid": 1,
    "url": "http://127.0.0.1:8000",
    "started_at": "s",
    "version": "v",
    "children": {"net": 2, "backend": None},
    "troubles": {"worker-0": "few files"},
    "restarts": {"backend": {"count": 2, "at": "noon", "why": "it was killed"}},
}
JOINING = {
    **STATUS,
    "services": [
        {"name": "store", "state": "running", "detail": ""},
        {"name": "betanet", "state": "starting", "detail": "joining the network"},
    ],
    "net": None,
    "workers": [],
}
TROUBLES = [
    "the net: no valid consensus for 23 s",
    "betanet is starting: joining the network",
    "worker-0 can run no task: few files",
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setattr(status, "net_trouble", lambda layout: "no valid consensus for 23 s")
    (tmp_path / "fog.json").write_text(json.dumps(STATE))
    return tmp_path


def test_network_without_a_consensus_is_told_also_before_it_is_joined(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with backend(home, (200, json.dumps(JOINING).encode())):
        assert main.run(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"trouble    {TROUBLES[0]}" in lines
    assert [f"           {text}" in lines for text in TROUBLES[1:]] == [True, True]
    assert "net        not joined" in lines
    assert "restarted  backend, 2 times, last at noon: it was killed" in lines
    assert "processes  fog 1, net 2, backend restarting" in lines


def test_troubles_are_told_as_json_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with backend(home, (200, json.dumps(JOINING).encode())):
        assert main.run(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["troubles"] == TROUBLES
    assert told["fog"]["restarts"] == STATE["restarts"]


def test_worker_that_takes_no_scripts_yet_is_told_with_the_reason(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "lacking_scripts", lambda layout: ["worker-0: compiling"])
    with backend(home, *[(200, json.dumps(STATUS).encode())] * 2):
        assert main.run(["status"]) == 0
        assert "scripts    worker-0: compiling" in capsys.readouterr().out.splitlines()
        assert main.run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scripts"] == ["worker-0: compiling"]


def test_state_that_an_earlier_version_wrote_is_read(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: value for name, value in STATE.items() if name != "restarts"}
    (home / "fog.json").write_text(json.dumps(state))
    with backend(home, (200, json.dumps(STATUS).encode())):
        assert main.run(["status"]) == 0
    assert "restarted" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "line", "told"),
    [
        ({"firing": 2, "pending": 1}, "alerts      2 firing, 1 pending: see them with", True),
        ({"firing": 0, "pending": 1}, "alerts      1 pending: see them with", True),
        ({"firing": 0, "pending": 0}, "alerts      none", True),
        (CommandError("Prometheus is away"), "alerts      Prometheus is away", False),
    ],
)
def test_fog_that_is_watched_tells_where_and_what_is_complained_of(
    answer: dict[str, int] | CommandError,
    line: str,
    told: bool,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ask(url: str) -> object:
        assert url == "http://127.0.0.1:7090"
        if isinstance(answer, CommandError):
            raise answer
        return answer

    monkeypatch.setattr(status, "ask_alerts", ask)
    monkeypatch.setattr(status, "counts_of", lambda alerts: alerts)
    urls = {"prometheus": "http://127.0.0.1:7090", "alertmanager": "http://127.0.0.1:7093"}
    (home / "fog.json").write_text(json.dumps({**STATE, "monitoring": urls}))

    with backend(home, (200, json.dumps(STATUS).encode())):
        assert main.run(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    where = "prometheus http://127.0.0.1:7090, alertmanager http://127.0.0.1:7093"
    assert f"monitoring  {where}" in lines
    assert any(one.startswith(line) for one in lines), lines
    with backend(home, (200, json.dumps(STATUS).encode())):
        assert main.run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alerts"] == (answer if told else None)
