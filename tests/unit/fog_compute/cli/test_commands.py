"""The `fog` command as a process: output, exit codes, and one line for each mistake."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fog_compute
from fog_compute.cli import run
from fog_compute.cli.failures import exit_code_of
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.client import asking as rules
from fog_compute.client import backend as client
from fog_compute.client import inputs
from fog_compute.client.answers import Made, Status
from fog_compute.client.lock import Free, HeldBy, HomeLock
from fog_compute.client.places import Home
from fog_compute.errors import BackendError, FogError, HomeUnusable, InvalidTask, NotRunning
from fog_compute.layout import HomeLayout
from fog_compute.processes import ProcessMark
from tests.unit.fog_compute.cli.backends import (
    ID,
    STATUS,
    TASK,
    WORDCOUNT,
    announced,
    backend,
)
from tests.unit.fog_compute.modules import command_of

TIMEOUT_S = 60
LOOK = """
import sys
from pathlib import Path
from fog_compute.client.lock import HomeLock
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.layout import HomeLayout
lock = HomeLock(HomeLayout(Path(sys.argv[1])))
print("looking", flush=True)
while True:
    lock.holder()
"""


def fog(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fog_compute.cli.main", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "FOG_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT_S,
    )


def test_version_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['fog', '--version'];"
        "from fog_compute.cli.main import main; main();"
        "print(sorted({'cyclopts', 'pydantic', 'rich', 'httpx2', 'betanet'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert done.stdout == f"fog {fog_compute.__version__}\n[]\n"


def test_help_documents_the_exit_codes(tmp_path: Path) -> None:
    done = fog(tmp_path, "--help")

    assert done.returncode == 0
    for text in ("0 ok", "1 failed", "2 wrong usage", "3 no fog", "124 out of time", "130"):
        assert text in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("down",),
        ("task", "ls"),
        ("task", "show", "01abc"),
        ("task", "cancel", "01abc"),
        ("worker", "ls"),
        ("circuit", "ls"),
        ("circuit", "show", "secret"),
        ("run", WORDCOUNT),
    ],
)
def test_command_without_a_fog_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = fog(tmp_path, *arguments)

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith(f"fog: no fog is running in {tmp_path}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "begin",
    [
        "from fog_compute.cli.up import up as main; main(port=99999)",
        "from fog_compute.server.process import main; main(['--port', '99999'])",
        (
            "from fog_compute.worker.__main__ import main;"
            " main(['--home', '/proc/no', '--net', '/', '--groups', '/'])"
        ),
    ],
)
def test_files_are_private_whatever_the_folder_is(begin: str) -> None:
    code = f"""
import os
os.umask(0o022)
try:
    {begin}
except Exception:
    pass
raise SystemExit(os.umask(0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0o077, done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nonsense",), 'Unknown command "nonsense"'),
        (("run",), "MODULE requires an argument"),
        (("run", "x", "--nonsense"), "Unknown option"),
        (("run", "x", "--privacy", "top"), "--privacy"),
        (("run", "/proc/nonexistent.wasm"), "module file /proc/nonexistent.wasm does not exist"),
        (("run", "/"), "module / is a folder"),
        (
            ("run", __file__, "--stdin", "/proc/nonexistent"),
            "standard input file /proc/nonexistent",
        ),
        (("run", __file__, "--input", "/proc/nonexistent=a"), "input file /proc/nonexistent"),
        (
            ("run", __file__, "--stdin", "-", "--input", "/proc/nonexistent=a"),
            "input file /proc/nonexistent",
        ),
        (("run", __file__, "--input", "/x=" + "y" * 300), "input file /x does not exist"),
        (("run", __file__, *("--input", f"{__file__}=a") * 2), "two input files would be 'a'"),
        (("run", __file__, "\udcff"), "no UTF-8 text"),
        (("run", __file__, "--input", f"{__file__}=\udcff"), "no UTF-8 text"),
        (("task", "show", "../x"), "no id of a task"),
        (("task", "show", "0" * 27), "no id of a task"),
        (("task", "ls", "--limit", "0"), "out of bounds"),
        (("task", "ls", "--limit", "1.6"), "'1.6' is no whole number"),
        (("up", "--port", "1.5"), "'1.5' is no whole number"),
        (("up", "--workers", "0x1"), "'0x1' is no whole number"),
        (("up", "--slots", "\u0663"), "is no whole number"),
        (("run", __file__, "--attempts", "1_0"), "'1_0' is no whole number"),
        (("run", __file__, "--fuel", "1.0"), "'1.0' is no whole number"),
        (("run", ""), "module file '' does not exist"),
        (("run", "\udcff"), r"module file '\udcff' does not exist"),
        (("run", __file__, "--stdin", "/a\nb"), r"standard input file '/a\nb' does not exist"),
        (("run", __file__, "--input", f"{__file__}=\x01"), r"the input path '\x01'"),
        (("run", __file__, "--input", f"{__file__}="), "the input path ''"),
        (("run", __file__, "--memory", "1"), "--memory is 1: give 65536"),
        (("run", __file__, "--wall", "0s"), "--wall is 0.0: give"),
        (("run", __file__, "--env", "K"), "--env 'K' has no value: give NAME=VALUE"),
        (
            ("run", __file__, "--strategy", "affinity", "--privacy", "secret"),
            "affinity is off at secret",
        ),
        (("run", __file__, "--strategy", "nearest"), "nearest"),
        (("run", __file__, "--env", "=x"), "--env has a variable named ''"),
        (("run", __file__, "--env", "K=\udcff"), "no UTF-8 text"),
        (("run", __file__, "--seed", "\udcff"), "no UTF-8 text"),
        (("run", __file__, "--attempts", "0"), "--attempts is 0"),
        (("run", __file__, "--empty-input"), "Unknown option"),
        (("run", "/dev/zero"), "module file /dev/zero cannot be read: it has more than 48.0 MiB"),
        (("run", __file__, "--stdin", "/dev/zero"), "standard input file /dev/zero cannot be"),
        (("run", __file__, "--input", "/dev/zero"), "input file /dev/zero cannot be read"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    done = fog(tmp_path, *arguments)

    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("run", __file__, "--timeout", "soon"), ("up", "--port", "99999")]
)
def test_bad_value_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = fog(tmp_path, *arguments)

    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("home", [Path("/proc/nowhere"), Path(__file__), Path("~nobody-here/fog")])
def test_unusable_home_is_one_line(home: Path) -> None:
    for arguments in (("up", "--port", "0"), ("up", "--port", "0", "--detach"), ("status",)):
        done = fog(home, *arguments)

        assert done.returncode in (1, 2, 3)
        assert done.stderr.count("\n") == 1, done.stderr


def test_full_disk_behind_standard_output_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fog_compute.cli.main", "--help"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert done.returncode == 1
    assert done.stderr == "fog: standard output: No space left on device\n"


def test_looking_who_holds_the_lock_takes_it_from_nobody(tmp_path: Path) -> None:
    lock = HomeLock(HomeLayout(tmp_path))
    mark = ProcessMark.of_this_process()
    assert mark is not None
    assert lock.holder() == Free()
    with subprocess.Popen(
        [sys.executable, "-c", LOOK, str(tmp_path)], stdout=subprocess.PIPE
    ) as looking:
        assert looking.stdout is not None
        looking.stdout.readline()
        for _ in range(200):
            assert lock.take()
            assert HomeLock(HomeLayout(tmp_path)).holder() == HeldBy(mark)
            lock.give_back()
        looking.kill()


def test_start_waits_for_one_who_looks_for_long(tmp_path: Path) -> None:
    lock = HomeLock(HomeLayout(tmp_path))
    assert lock.take()
    lock.give_back()
    with (tmp_path / "fog.lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        letting_go = threading.Timer(0.3, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        letting_go.start()
        assert lock.take()
        letting_go.join()
    lock.give_back()


def test_error_of_up_is_also_an_event(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = fog(tmp_path, "up", "--json", "--port", str(port))

    assert done.returncode == 1
    event = json.loads(done.stdout)
    assert event["event"] == "error"
    assert f"port {port} on 127.0.0.1 is taken" in event["message"]
    assert done.stderr == f"fog: {event['message']}\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("server.json", text)
            for text in ("", "{", "[]", "null", '{"url": 5}', '{"url": "file:///etc"}', "[" * 9999)
        ),
        *(("token", text) for text in ("", "short", "é" * 40, "t" * 300, "a b" * 20)),
    ],
)
def test_damaged_file_of_a_running_backend_is_named(tmp_path: Path, name: str, text: str) -> None:
    with backend(tmp_path):
        (tmp_path / "daemon" / name).write_text(text)
        with pytest.raises(
            HomeUnusable, match=rf"daemon/{name} (is damaged|holds no token): .*fog"
        ):
            client.Backend(Home(HomeLayout(tmp_path)))


def test_worker_of_this_fog_that_cannot_run_tasks_is_named_with_the_reason(tmp_path: Path) -> None:
    trouble = {"worker-0": "a process may open 9 files: a runner needs 64"}
    state = {"pid": 1, "url": "u", "started_at": "s", "version": "v", "children": {}}
    (tmp_path / "fog.json").write_text(json.dumps({**state, "troubles": trouble}))
    queued = {**TASK, "state": "queued", "reason": "no worker is known yet", "final": False}
    answers = [(200, json.dumps(answer).encode()) for answer in (STATUS, queued, TASK)]
    with backend(tmp_path, *answers, (200, b""), (200, b"")):
        status = fog(tmp_path, "status")
        shown = fog(tmp_path, "task", "show", ID, "--wait")

    text = "worker-0 can run no task: a process may open 9 files: a runner needs 64"
    assert text in status.stdout
    assert f"(no worker is known yet; {text})" in shown.stderr
    assert shown.returncode == 0


def test_huge_module_is_refused_before_it_is_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.wasm"
    with huge.open("wb") as file:
        file.truncate(10 * 2**30)

    done = fog(tmp_path, "run", str(huge))

    assert done.returncode == 2
    assert "it has 10.0 GiB, and at most 48.0 MiB fit" in done.stderr


@pytest.mark.parametrize("beyond", [0, 1])
def test_inputs_that_are_too_large_together_are_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setattr(inputs, "INPUT_BYTES", 1100)
    (tmp_path / "module").write_bytes(command_of(500))
    for name, size in (("stdin", 300), ("one", 200), ("two", 100 + beyond)):
        (tmp_path / name).write_bytes(bytes(size))

    with pytest.raises(FogError) as refused:
        run.run(
            str(tmp_path / "module"),
            stdin=str(tmp_path / "stdin"),
            input=(str(tmp_path / "one"), str(tmp_path / "two")),
        )

    if beyond:
        assert isinstance(refused.value, InvalidTask)
        assert exit_code_of(refused.value) == 2
        assert f"together with the input {tmp_path / 'two'}: send less" in str(refused.value)
    else:  # it goes on, and finds no fog
        assert isinstance(refused.value, NotRunning)


@pytest.mark.parametrize("fog_runs", [False, True])
def test_token_goes_to_nobody_who_took_the_port_of_a_backend_that_is_gone(
    tmp_path: Path, fog_runs: bool
) -> None:
    daemon = tmp_path / "daemon"
    daemon.mkdir()
    (daemon / "token").write_text("t" * 40)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.setblocking(False)
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        (daemon / "server.json").write_text(json.dumps({"url": url, "pid": 1}))

        lock = HomeLock(HomeLayout(tmp_path))
        if fog_runs:
            assert lock.take()
        done = fog(tmp_path, "task", "show", ID, "--timeout", "1s")
        lock.give_back()

        assert done.returncode == (124 if fog_runs else 3), done.stderr
        with pytest.raises(BlockingIOError):
            other.accept()


def test_token_goes_to_nobody_who_takes_the_port_between_two_requests(tmp_path: Path) -> None:
    lock = HomeLock(HomeLayout(tmp_path))
    assert lock.take()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.setblocking(False)
        with contextlib.ExitStack() as life:
            life.enter_context(announced(tmp_path, f"http://127.0.0.1:{other.getsockname()[1]}"))
            asking = client.Backend(Home(HomeLayout(tmp_path)))
        with asking, pytest.raises(OutOfTime), Patience(0.5):
            asking.get("/api/v1/status", Status)
        with pytest.raises(BlockingIOError):
            other.accept()
    lock.give_back()


def test_foreign_program_on_the_known_port_is_not_taken_for_a_backend(tmp_path: Path) -> None:
    daemon = tmp_path / "daemon"
    daemon.mkdir()
    (daemon / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 1}))
    (daemon / "token").write_text("t" * 40)

    assert fog(tmp_path, "status").returncode == 3


def test_what_broke_under_way_is_sent_again_and_makes_one_task(tmp_path: Path) -> None:
    blob = b'{"sha256": "' + b"0" * 64 + b'"}'
    with backend(
        tmp_path,
        None,
        (201, blob),
        None,
        (201, b'{"id": "01k", "state": "queued", "warning": "x\\u001b"}'),
    ) as asked:
        done = fog(tmp_path, "run", WORDCOUNT, "--detach")

    assert (done.returncode, done.stdout) == (0, "01k\n"), done.stderr
    assert done.stderr.endswith("\nfog: x\n")
    # What is known by its hash needs no key.
    assert asked[:2] == ["POST /api/v1/blobs"] * 2
    assert re.fullmatch(r"POST /api/v1/tasks [0-9a-f]{32}", asked[2])
    assert asked[3] == asked[2]


def test_backend_that_stays_away_is_not_called_no_fog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RECONNECT_S", -1.0)
    with (
        backend(tmp_path, None),
        client.Backend(Home(HomeLayout(tmp_path))) as asking,
        pytest.raises(BackendError, match="does not come back, and may have done") as caught,
    ):
        asking.post("/api/v1/tasks", Made, {})

    assert not isinstance(caught.value, NotRunning)


@pytest.mark.parametrize("body", [b"{}", b'{"tasks": [{}]}', b"[]", b"no JSON"])
def test_answer_of_another_program_is_one_line(tmp_path: Path, body: bytes) -> None:
    with backend(tmp_path, (200, body)):
        done = fog(tmp_path, "task", "ls")

    assert done.returncode == 1
    assert "is it another program?" in done.stderr
    assert done.stderr.count("\n") == 1
