"""What a fog needs of its machine: all that is missing is told at once, and nothing is made."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fog_compute.cli import needs
from fog_compute.cli.needs import UnmetNeeds, check_needs, unmet
from fog_compute.clock import SystemClock
from fog_compute.config import Settings, load_settings

FOG = (sys.executable, "-m", "fog_compute.cli.main")
TIMEOUT_S = 60
OWN_FILE = Path(__file__)


def settings_of(home: Path, **given: object) -> Settings:
    return load_settings(home=home, port=0, **given)


def fog(home: Path, *arguments: str, before: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """Run a command; return its exit code and its lines."""
    done = subprocess.run(
        [*before, *FOG, *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "FOG_HOME": str(home), "FOG_PORT": "0"},
        text=True,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stderr.splitlines()


def without_network(*tools: str) -> tuple[str, ...]:
    """The command before another that takes the network from it; skip where that cannot be."""
    for tool in ("unshare", *tools):
        if shutil.which(tool) is None:
            pytest.skip(f"this machine has no {tool}")
    command = ("unshare", "--user", "--map-root-user", "--net")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no namespaces")
    return command


def test_machine_that_has_everything_lacks_nothing(tmp_path: Path) -> None:
    assert unmet(settings_of(tmp_path / "new" / "home")) == []
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_missing_is_told_at_once_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "file").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = load_settings(home=tmp_path / "file" / "home", port=port)
        with pytest.raises(UnmetNeeds) as caught:
            check_needs(settings)

    problems = caught.value.problems
    assert len(problems) == 3
    for problem, words in zip(
        problems,
        ("the betanet program is neither", f"port {port} on 127.0.0.1 is taken", "no folder"),
        strict=True,
    ):
        assert words in problem
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_lost_file_modes_are_one_message_and_its_command_mends_them(tmp_path: Path) -> None:
    keys = [tmp_path / f"net/node-{number}/identity.key" for number in range(9)]
    for key in keys:
        key.parent.mkdir(parents=True)
        key.write_bytes(b"k")
        key.chmod(0o644)
    (tmp_path / "daemon" / "blobs").mkdir(parents=True)
    (tmp_path / "daemon" / "token").touch(0o640)
    for harmless in ("fog.json", "daemon/blobs/x.key"):
        (tmp_path / harmless).touch(0o644)

    (problem,) = unmet(settings_of(tmp_path))

    assert "and 9 more files can be read by others" in problem
    command = problem.partition("`")[2].rstrip("`")
    subprocess.run(command, check=True, shell=True)
    assert unmet(settings_of(tmp_path)) == []
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_closed_files_are_one_message_and_its_command_mends_them(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "closed").touch(0o000)

    (problem,) = unmet(settings_of(tmp_path))

    subprocess.run(problem.partition("`")[2].rstrip("`"), check=True, shell=True)
    assert unmet(settings_of(tmp_path)) == []


def test_bootstrap_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (problem,) = unmet(settings_of(tmp_path, net=tmp_path / "net.json"))

    assert f"{tmp_path}/net.json cannot be read (No such file or directory)" in problem


def test_link_that_leads_nowhere_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(tmp_path / "gone")

    (problem,) = unmet(settings_of(tmp_path / "home"))

    assert "is a link that leads nowhere" in problem


def test_home_that_cannot_even_be_looked_at_is_told(tmp_path: Path) -> None:
    home = tmp_path / ("n" * 256)

    assert unmet(settings_of(home)) == [
        f"the home folder {home} cannot be used (File name too long): set FOG_HOME"
    ]


def test_limits_that_a_sandbox_does_not_tell_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(resource, "getrlimit", refuse)
    monkeypatch.setattr(resource, "setrlimit", refuse)

    assert unmet(settings_of(tmp_path / "home")) == []


def test_few_descriptors_are_raised_or_told(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from fog_compute.cli.needs import unmet\n"
        "from fog_compute.config import load_settings\n"
        "print(*unmet(load_settings(home=Path(sys.argv[1]), port=0)))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def lines(limits: str) -> list[str]:
        return subprocess.run(
            ["/bin/sh", "-c", f'{limits} && exec "$@"', "sh", sys.executable, "-c", code, tmp_path],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.splitlines()

    assert lines("ulimit -Sn 33") == ["", "46"]
    assert lines("ulimit -n 33") == [
        "this shell allows 33 open files, and 256 are needed: run `ulimit -n 1024`",
        "33",
    ]
    assert hard != 33


@pytest.mark.parametrize(("year", "told"), [(1970, 1), (2033, 0), (2128, 1)])
def test_clock_that_cannot_be_right_is_noted(
    monkeypatch: pytest.MonkeyPatch, year: int, told: int
) -> None:
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime(year, 6, 1, tzinfo=UTC))

    assert len(list(needs._wrong_clock(load_settings()))) == told


def test_loopback_that_is_down_is_told_with_all_else(tmp_path: Path) -> None:
    before = without_network()
    key = tmp_path / "home" / "a.key"
    key.parent.mkdir()
    key.touch(0o644)

    code, lines = fog(tmp_path / "home", "up", before=before)

    assert code == 1
    assert len(lines) == 2, lines
    assert lines[0] == "fog: the loopback interface is down: run `ip link set lo up` as root"
    assert "chmod -R go-rwx" in lines[1]
    assert [path.name for path in key.parent.iterdir()] == ["a.key"]


def test_machine_without_ipv4_is_told_what_to_set(tmp_path: Path) -> None:
    before = without_network("ip")
    script = 'ip link set lo up && ip address delete 127.0.0.1/8 dev lo && exec "$@"'

    code, lines = fog(tmp_path / "home", "up", before=(*before, "/bin/sh", "-c", script, "sh"))

    assert code == 1
    assert len(lines) == 1, lines
    assert "cannot use 127.0.0.1" in lines[0]
    assert lines[0].endswith("set FOG_HOST=::1")
    assert list(tmp_path.iterdir()) == []


def test_needs_are_an_event_too(tmp_path: Path) -> None:
    (tmp_path / "a.key").touch(0o666)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [*FOG, "up", "--json", "--port", str(port)],
            capture_output=True,
            check=False,
            env={**os.environ, "FOG_HOME": str(tmp_path)},
            text=True,
            timeout=TIMEOUT_S,
        )

    event = json.loads(done.stdout)
    taken, exposed = event["problems"]
    assert done.returncode == 1
    assert event["event"] == "error"
    assert event["message"] == f"{taken}; {exposed}"
    assert done.stderr == f"fog: {taken}\nfog: {exposed}\n"
    assert f"port {port}" in taken
    assert "a.key can be read by others" in exposed


@pytest.mark.parametrize(("begin", "ends"), [("", True), ("trap '' HUP;", False)])
def test_end_of_the_terminal_asks_to_stop_unless_it_is_ignored(begin: str, ends: bool) -> None:
    code = (
        "import asyncio, os, signal\n"
        "from fog_compute.lifetime import stop_event\n"
        "async def main():\n"
        "    event = stop_event()\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:\n"
        "        return print(event.is_set())\n"
        "    async with asyncio.timeout(60):\n"
        "        print(await event.wait())\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'{begin} exec "$@"', "sh", sys.executable, "-c", code],
        capture_output=True,
        check=False,
        text=True,
        # Whoever runs the tests may ignore it, and so would all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )

    assert (done.returncode, done.stdout) == (0, f"{ends}\n"), done.stderr


def test_deleted_current_folder_is_named_whoever_asks_for_it(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    script = f'mkdir "{gone}" && cd "{gone}" && rmdir "{gone}" && exec "$@"'

    code, lines = fog(tmp_path, "status", before=("/bin/sh", "-c", script, "sh"))
    assert (code, len(lines)) == (3, 1), lines

    code, lines = fog(Path("relative"), "status", before=("/bin/sh", "-c", script, "sh"))
    assert code == 2
    assert len(lines) == 1
    assert "'relative' begins in the current folder, which is deleted" in lines[0]


def test_files_that_may_not_grow_are_told_before_anything_is_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shell = ("sh", "-c", 'ulimit -f 3000; exec "$@"', "sh")

    code, lines = fog(home, "up", "--port", "0", before=shell)

    assert code == 1
    assert len(lines) == 1
    assert "run `ulimit -f unlimited`" in lines[0]
    assert not home.exists()


def test_missing_proc_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "OWN_PROCESS", tmp_path / "none")

    (problem,) = unmet(settings_of(tmp_path / "home"))

    assert "run `mount -t proc proc /proc`" in problem


def test_ports_that_workers_are_to_show_themselves_at_are_free_or_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = unmet(settings_of(tmp_path, net=OWN_FILE, worker_http_port=port))
        idle = unmet(settings_of(tmp_path, net=OWN_FILE, worker_http_port=port, workers=0))
    far = unmet(settings_of(tmp_path, net=OWN_FILE, worker_http_port=65535, workers=3))

    (taken,) = told
    assert taken == (
        f"port {port} on 127.0.0.1 is taken by another program: set FOG_WORKER_HTTP_PORT to"
        " another one, or to 0"
    )
    assert idle == []
    assert [line.partition(",")[0] for line in far[-2:]] == [
        "there is no port 65536",
        "there is no port 65537",
    ]


def test_what_watches_a_fog_is_needed_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(needs, "find", lambda program: None)
    monkeypatch.setattr(needs, "find_share", lambda files: None)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ports = {"prometheus_port": port, "alertmanager_port": 0}
        calm = unmet(settings_of(tmp_path, net=OWN_FILE, **ports))
        told = unmet(settings_of(tmp_path, net=OWN_FILE, monitoring=True, **ports))

    assert calm == []
    missing, rules, taken = told
    assert "install --no-install-recommends prometheus prometheus-alertmanager`" in missing
    assert "install fog-compute again" in rules
    assert taken == (
        f"port {port} on 127.0.0.1 is taken by another program: set FOG_PROMETHEUS_PORT to another"
        " one, or to 0"
    )
