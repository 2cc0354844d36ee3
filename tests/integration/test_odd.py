"""Whole fogs on odd machines: no IPv4, an odd home, no streams, a terminal that goes away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import wasmtime

from tests.integration.fogs import FOG, STOP_S, TASK_S, running_fog

IPV6_ONLY = 'ip link set lo up && ip address delete 127.0.0.1/8 dev lo && exec "$@"'
EXIT_5 = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
(memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 5))))"""
# No home, no stream but a log, a mask that would give everything to all.
CRON = f"""umask 0
"{FOG}" up --port 0 --detach <&- >&- 2>&-
"{FOG}" run module.wasm <&-
echo "exit code $?"
"{FOG}" status --json
"{FOG}" down >&2
"""


def ipv6_only() -> list[str]:
    """The command before another that leaves it a machine with IPv6 loopback alone."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"this machine has no {tool}")
    command = ["unshare", "--user", "--map-root-user", "--net", "/bin/sh", "-c", IPV6_ONLY, "sh"]
    tried = subprocess.run([*command, "ip", "-6", "address"], capture_output=True, check=False)
    if tried.returncode or b"::1" not in tried.stdout:
        pytest.skip("this machine gives no namespace with IPv6 loopback")
    return command


@pytest.mark.parametrize(("host", "name"), [("::", "a?b %41#"), ("LOCALHOST", "c&d=:e")])
def test_fog_of_a_job_without_streams_runs_on_a_machine_without_ipv4(
    tmp_path: Path, host: str, name: str
) -> None:
    before = ipv6_only()
    home = tmp_path / name
    (tmp_path / "module.wasm").write_bytes(wasmtime.wat2wasm(EXIT_5))
    done = subprocess.run(
        [*before, "/bin/sh", "-c", CRON],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "FOG_HOME": str(home),
            "FOG_HOST": host,
            "FOG_ALLOW_REMOTE": "1",
            "FOG_KINDS": "wasm",
        },
        text=True,
        timeout=TASK_S,
    )

    lines = done.stdout.splitlines()
    assert lines[0] == "exit code 5", done.stderr
    status = json.loads(lines[1])
    assert status["fog"]["url"].startswith("http://[::1]:")
    assert status["tasks"]["accepted"] == 1
    assert "stopped in" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["module.wasm", name])
    assert (home / "daemon" / "fog.db").exists()
    for path in (home, *home.rglob("*")):
        assert not path.lstat().st_mode & 0o077, path


def test_terminal_that_goes_away_stops_a_fog_in_order(tmp_path: Path) -> None:
    # Whoever runs the tests may ignore it, and so would all that they start.
    listening = ("env", "--default-signal=HUP")
    with running_fog(tmp_path / "home", prefix=listening) as fog:
        # The kernel sends it, and then the shell.
        for _ in range(2):
            fog.process.send_signal(signal.SIGHUP)

        assert fog.process.wait(STOP_S) == 0
        assert '"event": "stopped"' in fog.log.read_text()
        assert not (fog.home / "fog.json").exists()
        fog.await_gone()
