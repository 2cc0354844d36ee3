"""`fog doctor`: what it finds, what follows from that, and what it says to do."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import betanet
from fog_compute import spawn
from fog_compute.cli import main
from fog_compute.cli.doctor import command, fog, machine, sandbox
from fog_compute.cli.doctor.findings import Finding, Verdict, of_problem
from fog_compute.cli.local_net import net_trouble
from fog_compute.clock import SystemClock
from fog_compute.config import Settings, load_settings
from fog_compute.layout import HomeLayout
from fog_compute.units import GIB, MIB
from fog_compute.worker.process import RunnerLost
from fog_compute.worker.protocol import Ready, Wall
from fog_compute.worker.python import PythonRuntime, PythonUnusable
from tests.unit.fog_compute.cli.backends import STATUS, backend
from tests.unit.fog_compute.cli.test_status import JOINING

OK, SKIPPED, WARNING, PROBLEM = Verdict


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("FOG_HOME", str(home))
    monkeypatch.setenv("FOG_PORT", "0")
    return load_settings()


def verdicts(findings: Iterator[Finding]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings}


def one(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_problem_is_told_with_what_follows_and_what_mends_it_and_ends_with_1(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        Finding("memory", WARNING, "100 MiB\n\x1b[2J are free", "tasks are killed", "add some"),
        Finding("disk", PROBLEM, "it is full", "nothing can be kept", "make room"),
        Finding("disk", PROBLEM, "no locks"),
    ]
    monkeypatch.setattr(command, "examine", lambda: iter(found))
    assert main.run(["doctor"]) == 1
    done = capsys.readouterr()
    indent = " " * 29
    assert done.out.splitlines() == [
        "warning  memory              100 MiB [2J are free",
        f"{indent}so tasks are killed",
        f"{indent}do add some",
        "problem  disk                it is full",
        f"{indent}so nothing can be kept",
        f"{indent}do make room",
        "problem  disk                no locks",
    ]
    assert done.err == "fog: 2 problems: disk\n"
    assert main.run(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][1] == {
        "check": "disk",
        "verdict": "problem",
        "found": "it is full",
        "means": "nothing can be kept",
        "do": "make room",
    }
    assert told["error"]["exit_code"] == 1


def test_everything_is_looked_at_on_this_machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOG_WORKERS", "0")
    found = verdicts(command.examine())
    assert {"versions", "native core", "program", "settings", "memory", "clock"} <= set(found)
    assert {"network", "address", "home", "disk", "files", "/proc", "database"} <= set(found)
    assert found["sandbox"] is found["scripts"] is found["fog"] is SKIPPED
    assert found["native core"] is found["program"] is found["home"] is OK


def test_settings_that_cannot_be_used_are_a_finding(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOG_PORT", "99999")
    *_, last = command.examine()
    assert (last.check, last.verdict) == ("settings", PROBLEM)
    assert "FOG_PORT" in last.found


def test_line_is_parted_into_what_is_wrong_and_what_mends_it() -> None:
    finding = of_problem("home", "the home folder /a: b is a file: set FOG_HOME", "nothing is kept")
    assert (finding.found, finding.do) == ("the home folder /a: b is a file", "set FOG_HOME")
    assert of_problem("home", "no colon", "").found == "no colon"


# The machine


def test_core_and_program_of_another_version_are_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(betanet, "__version__", "0.0.9")
    monkeypatch.setattr(spawn, "output_of", lambda *_: b"betanet 0.0.9\n")
    found = verdicts(machine.versions())
    assert found == {"versions": OK, "native core": PROBLEM, "program": PROBLEM}


def test_program_that_cannot_be_run_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(spawn, "output_of", refuse)
    *_, last = machine.versions()
    assert (last.check, last.found) == ("program", "betanet: Permission denied")


def test_needs_are_named_and_the_port_of_a_fog_that_runs_is_no_problem(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {
        "address": lambda _: iter(["port 7 is taken: stop it"]),
        "disk": lambda _: iter(()),
        "open files": lambda _: iter(()),
    }
    monkeypatch.setattr(machine, "NEEDS", needs)
    monkeypatch.setattr(machine, "POORER", {"space": lambda _: iter(["10 MiB left: make room"])})
    alone = list(machine.needs(settings, runs=False))
    assert (alone[0].verdict, alone[0].found, alone[0].do) == (
        PROBLEM,
        "port 7 is taken",
        "stop it",
    )
    beside = verdicts(machine.needs(settings, runs=True))
    assert beside == {"address": SKIPPED, "disk": OK, "open files": OK, "space": WARNING}


@pytest.mark.parametrize(("left", "verdict"), [(511, WARNING), (512, OK), (-3, WARNING)])
def test_few_processes_are_a_warning(left: int, verdict: Verdict) -> None:
    finding = machine._processes(left, 4000)
    assert finding.verdict is verdict
    assert finding.found == f"{max(0, left)} of 4000 are left"


def test_limit_on_processes_is_looked_at_as_far_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "limits_of", lambda _: (resource.RLIM_INFINITY, 0))
    assert one(machine.processes()).verdict is OK
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(machine, "limits_of", lambda _: (10**9, 0))
    assert one(machine.processes()).verdict is OK

    def refuse(_: int) -> tuple[int, int]:
        raise OSError(1, "no")

    monkeypatch.setattr(machine, "limits_of", refuse)
    assert one(machine.processes()).verdict is SKIPPED
    assert machine._limit(resource.RLIMIT_NOFILE) == "not told by this sandbox"


@pytest.mark.parametrize(
    ("free", "lent", "verdict"),
    [(4 * GIB, GIB, OK), (GIB, GIB, WARNING), (100 * MIB, 0, WARNING), (600 * MIB, 0, OK)],
)
def test_memory_is_enough_for_a_fog_and_what_it_lends(
    free: int, lent: int, verdict: Verdict
) -> None:
    assert machine._memory(free, lent).verdict is verdict


@pytest.mark.parametrize(
    ("wall_ms", "network_ms", "verdict", "text"),
    [
        (10_000.0, None, SKIPPED, "no network"),
        (10_000.0, 14_900.0, OK, "within 5 s"),
        (7_210_000.0, 10_000.0, WARNING, "2 h 00 min ahead of the network's time"),
        (10_000.0, 7_210_000.0, WARNING, "2 h 00 min behind the network's time"),
    ],
)
def test_clock_is_judged_by_the_time_of_the_network(
    wall_ms: float, network_ms: float | None, verdict: Verdict, text: str
) -> None:
    finding = machine.judge_clock(wall_ms, network_ms)
    assert finding.verdict is verdict
    assert text in finding.found


def test_time_of_a_network_counts_within_one_boot_and_as_far_as_it_was_confirmed(
    settings: Settings,
) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    clock = SystemClock()
    ahead = round((clock.now().timestamp() - clock.monotonic()) * 1000)

    def keep(path: Path, boot: str, ahead_ms: int, *, confirmed: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"boot": boot, "ahead_ms": ahead_ms, "confirmed": confirmed}
        path.write_text(json.dumps(kept))

    own = settings.layout.net / "authority" / "clock.json"
    keep(own, f"{boot} time:[1]", ahead, confirmed=False)
    assert one(machine.clock(settings)).verdict is OK
    keep(own, "another", ahead, confirmed=True)
    assert one(machine.clock(settings)).verdict is SKIPPED
    own.write_text("[")
    assert one(machine.clock(settings)).verdict is SKIPPED
    joined = settings.model_copy(update={"net": Path("/net.json")})
    client = settings.layout.clients / "private" / "clock.json"
    keep(client, boot, ahead - 7_200_000, confirmed=False)
    assert one(machine.clock(joined)).verdict is SKIPPED
    keep(client, boot, ahead - 7_200_000, confirmed=True)
    assert "2 h 00 min ahead of" in one(machine.clock(joined)).found


# The sandbox


def test_wall_that_does_not_stand_is_a_warning_with_what_mends_it() -> None:
    walls = (Wall("seccomp", True, "118 calls"), Wall("landlock", False, "refused"))
    findings = list(sandbox.judge_walls(Ready(GIB, GIB, (), walls), GIB))
    assert [finding.verdict for finding in findings] == [OK, WARNING, OK]
    assert "Linux 5.13" in findings[1].do
    *_, less = sandbox.judge_walls(Ready(MIB, GIB, (), ()), GIB)
    assert (less.verdict, less.do) == (WARNING, "raise `ulimit -v`")


def test_runner_is_asked_as_a_worker_asks_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ready(folder: Path, memory_bytes: int) -> Ready:
        assert folder.parent == settings.home
        return Ready(memory_bytes, GIB, (), (Wall("seccomp", True, "some"),))

    monkeypatch.setattr(sandbox, "_ready", ready)
    assert verdicts(sandbox.sandbox(settings)) == {"wall: seccomp": OK, "sandbox": OK}

    async def lost(*_: object) -> Ready:
        raise RunnerLost("no runner can be started: no threads")

    monkeypatch.setattr(sandbox, "_ready", lost)
    assert one(sandbox.sandbox(settings)).verdict is PROBLEM


def test_machine_without_a_place_for_files_is_told_like_any_other_lack(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.rmdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    found = one(sandbox.sandbox(settings))
    assert found.verdict is PROBLEM
    assert "no place for a runner" in found.found
    assert "TMPDIR" in found.do


def test_scripts_need_the_interpreter_that_is_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks() -> None:
        raise PythonUnusable("the package is not installed: install fog-compute[python]")

    monkeypatch.setattr(PythonRuntime, "found", lacks)
    finding = one(sandbox.scripts(settings))
    assert (finding.verdict, finding.do) == (WARNING, "install fog-compute[python]")
    wasm = settings.model_copy(update={"kinds": "wasm"})
    assert one(sandbox.scripts(wasm)).verdict is SKIPPED


# The home


def test_database_is_read_and_not_changed(settings: Settings) -> None:
    assert "will be made" in one(fog.database(settings)).found
    assert not settings.layout.database.exists()
    settings.layout.daemon.mkdir(parents=True, exist_ok=True)
    settings.layout.database.touch()
    assert one(fog.database(settings)).verdict is OK
    with contextlib.closing(sqlite3.connect(settings.layout.database)) as written, written:
        written.execute("CREATE TABLE alembic_version (version_num TEXT)")
        written.execute("INSERT INTO alembic_version VALUES ('9999')")
    newer = one(fog.database(settings))
    assert (newer.verdict, newer.do) == (PROBLEM, "update fog-compute")
    settings.layout.database.write_bytes(b"no database" * 1000)
    damaged = one(fog.database(settings))
    assert damaged.verdict is PROBLEM
    assert "fog db check" in damaged.do


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://a:secret@h/b", "postgresql://u:secret@127.0.0.1:1/x"]
)
def test_database_that_cannot_be_had_is_a_problem_that_tells_no_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("FOG_DATABASE_URL", url)
    finding = one(fog.database(load_settings()))
    assert finding.verdict is PROBLEM
    assert "secret" not in finding.found + finding.do


@pytest.mark.parametrize(
    ("url", "verdict"),
    [("redis://:secret@127.0.0.1:1/0", WARNING), ("nonsense://secret", PROBLEM)],
)
def test_redis_that_does_not_answer_is_told_without_its_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, url: str, verdict: Verdict
) -> None:
    assert list(fog.redis(settings)) == []
    monkeypatch.setenv("FOG_REDIS_URL", url)
    finding = one(fog.redis(load_settings()))
    assert finding.verdict is verdict
    assert "secret" not in finding.found + finding.do


def test_fog_that_runs_is_asked_what_is_wrong(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(fog.running(settings)).verdict is SKIPPED
    monkeypatch.setattr(fog, "net_trouble", lambda _: "")
    well = {**STATUS, "services": []}
    with backend(settings.home, (200, json.dumps(well).encode())):
        assert one(fog.running(settings)).found == "it runs, and knows 1 worker"
    with backend(settings.home, (200, json.dumps(JOINING).encode())):
        finding = one(fog.running(settings))
    assert finding.found == "betanet is starting: joining the network"
    with backend(settings.home, (200, b"[]")):
        assert one(fog.running(settings)).verdict is PROBLEM


def test_home_without_a_net_has_no_trouble_with_it(settings: Settings) -> None:
    assert net_trouble(HomeLayout(settings.home)) == ""
