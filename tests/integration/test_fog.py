"""The fog as its users have it: real processes, a real mixnet, and `kill -9`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wasmtime

import fog_compute
from fog_compute.levels import PrivacyLevel
from tests.integration.exports import Exported, sections
from tests.integration.fogs import FOG, STOP_S, TASK_S, RunningFog, running_fog, until
from tests.integration.pages import blocks, commands, run_commands, run_python

pytestmark = pytest.mark.timeout(300)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
WORDCOUNT = EXAMPLES / "wordcount" / "wordcount.wasm"
TEXT = EXAMPLES / "text" / "opticks.txt"

WRITE = """
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\05\\00\\00\\00done\\n")
"""
ROUNDS = 4_000_000_000
SLOW = f"""(module {WRITE}
  (func (export "_start") (local $left i64)
    (local.set $left (i64.const {ROUNDS}))
    (loop $again
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $again (i64.ne (local.get $left) (i64.const 0))))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"""
LONG = ("--wall", "10m")  # enough for SLOW on any machine
FOREVER = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
GREEDY = """(module (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.eq (memory.grow (i32.const 163840)) (i32.const -1)) (then unreachable))))"""
GREEDY_FROM_THE_START = '(module (memory (export "memory") 65536) (func (export "_start")))'
EXITS_WITH_7 = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 7))))"""


def module(folder: Path, text: str, name: str = "module.wasm") -> Path:
    path = folder / name
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


def expected_count(top: int) -> str:
    """The word count in plain Python, which the module's output equals byte for byte."""
    data = TEXT.read_bytes()
    found = re.findall(rb"[a-z0-9\x80-\xff][a-z0-9\x80-\xff']*", data.lower())
    words = [word.rstrip(b"'") for word in found]
    counts = Counter(words)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]
    lines = [f"{count:8d} {word.decode()}" for word, count in ranked]
    newlines = data.count(b"\n")
    lines.append(
        f"{len(words)} words, {len(counts)} different, {newlines} lines, {len(data)} bytes"
    )
    return "\n".join(lines) + "\n"


def only_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture(scope="module")
def fog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFog]:
    home = tmp_path_factory.mktemp("fog") / "home"
    home.mkdir()
    home.chmod(0o755)
    with running_fog(home, environment={"FOG_KINDS": "wasm,python"}) as made:
        yield made


@pytest.mark.parametrize("level", PrivacyLevel)
def test_wordcount_runs_at_every_level(fog: RunningFog, level: PrivacyLevel) -> None:
    flags = ("--stdin", TEXT, "--privacy", level.value, "--json")
    done = fog.run("run", WORDCOUNT, *flags, "--", "-n", "5")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["stdout"] == expected_count(5)
    assert report["hops"] == level.hops
    assert report["state"] == "accepted"


def test_input_files_reach_the_module(fog: RunningFog) -> None:
    done = fog.run(
        "run", WORDCOUNT, "--input", f"{TEXT}=books/a.txt", "--", "-n", "5", "books/a.txt"
    )

    assert done.stdout == expected_count(5), done.stderr


def test_a_script_runs_with_the_file_that_its_argument_names(fog: RunningFog) -> None:
    table = EXAMPLES / "python" / "co2.csv"
    (fog.strangers / table.name).write_bytes(table.read_bytes())
    done = fog.run("run", EXAMPLES / "python" / "co2.py", table.name, "--json")

    assert done.returncode == 0, done.stderr
    assert "co2.csv (33.2 KiB) goes with the script" in done.stderr
    assert "42 whole years" in json.loads(done.stdout)["stdout"]


def test_files_come_back_into_a_folder_now_and_later(fog: RunningFog, tmp_path: Path) -> None:
    """INV-TASK-93: larger than what small limits would let through."""
    numbers = [number * 7919 % 300_007 for number in range(300_000)]
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "numbers").write_text("".join(f"{number}\n" for number in numbers))
    done = fog.run(
        *("run", PROGRAMS / "sort.wasm", "--input", tmp_path / "n"),
        *("--output-dir", tmp_path / "now", "--privacy", "public", "--json"),
        *("--", "n/numbers", "out/sorted"),
    )
    assert done.returncode == 0, done.stderr
    task_id = json.loads(done.stdout)["id"]
    later = fog.run("task", "get", task_id, "--output-dir", tmp_path / "later")

    assert later.stdout == "1 of 1 file written\n", later.stderr
    for folder in ("now", "later"):
        text = (tmp_path / folder / "sorted").read_text()
        assert [int(line) for line in text.split()] == sorted(numbers)


def test_no_module_of_the_current_folder_is_executed(fog: RunningFog) -> None:
    assert fog.run("run", WORDCOUNT, "--stdin", TEXT).returncode == 0

    assert (fog.strangers / "random.py").exists()
    assert not fog.executed.exists()


def test_output_goes_to_standard_output_alone(fog: RunningFog) -> None:
    done = fog.run("run", WORDCOUNT, "--stdin", TEXT, "--", "-n", "1")

    assert done.stdout == expected_count(1)
    assert done.returncode == 0


def test_exit_code_of_the_module_is_given_on(fog: RunningFog, tmp_path: Path) -> None:
    done = fog.run("run", module(tmp_path, EXITS_WITH_7))

    assert done.returncode == 7
    assert done.stderr.splitlines()[-1] == "fog: the module exited with 7"


def test_nothing_that_it_writes_is_open_to_others(fog: RunningFog) -> None:
    fog.run("run", WORDCOUNT, "--stdin", TEXT)

    modes: dict[Path, int] = {}
    for folder, _, names in os.walk(fog.home):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # replaced or removed meanwhile
                modes[Path(folder, name)] = Path(folder, name).lstat().st_mode

    assert any(path.name == "attempts.db" for path in modes)
    assert [path for path, mode in modes.items() if mode & 0o077] == []


def running_task(fog: RunningFog, folder: Path) -> str:
    """A task that runs: one that was over before it was seen to run says nothing."""
    for times in (1, 4, 16):
        text = SLOW.replace(str(ROUNDS), str(times * ROUNDS))
        task_id = str(fog.json("run", module(folder, text), *LONG, "--detach")["id"])
        if fog.await_state(task_id, "running", "accepted") == "running":
            return task_id
    raise AssertionError("each task was over before it was seen to run")


KILLED: dict[str, Callable[[RunningFog], int]] = {
    "backend": lambda fog: fog.pid("backend"),
    "worker": lambda fog: fog.pid("worker-0"),
    "runner": lambda fog: fog.runner_pid(),
    "middle node": lambda fog: fog.node_pid("middle-0"),
    "edge": lambda fog: fog.node_pid("exit-0"),
    "local net": lambda fog: fog.pid("net"),
}


@pytest.mark.parametrize("victim", KILLED)
def test_running_task_survives_kill_of(fog: RunningFog, tmp_path: Path, victim: str) -> None:
    task_id = running_task(fog, tmp_path)

    os.kill(KILLED[victim](fog), signal.SIGKILL)
    done = fog.run("task", "show", task_id, "--wait", "--json", "--timeout", f"{TASK_S}s")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["state"] == "accepted"
    assert report["stdout"] == "done\n"
    assert [attempt["state"] for attempt in report["attempts"]].count("settled") == 1
    assert [event["state"] for event in report["history"]].count("accepted") == 1


def test_killed_owner_leaves_nothing_and_the_next_start_resumes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_fog(home) as first:
        task_id = running_task(first, tmp_path)
        first.kill()
        first.await_gone()

        assert first.run("status").returncode == 3
    with running_fog(home) as second:
        done = second.run("task", "show", task_id, "--wait", "--timeout", f"{TASK_S}s")

        assert done.stdout == "done\n", done.stderr
        assert done.returncode == 0


def test_status_says_what_the_network_does_not_hide(fog: RunningFog) -> None:
    text = fog.run("status").stdout

    assert "10 nodes (2 entry, 6 middle, 2 exit)" in text
    assert "no anonymity" in text
    assert "no cover traffic yet" in text


def test_placement_explains_itself(fog: RunningFog) -> None:
    fog.run("run", WORDCOUNT, "--stdin", TEXT)
    task_id = fog.json("task", "ls", "--limit", "1")[0]["id"]

    text = fog.run("task", "show", task_id).stdout

    assert re.search(r"placed: worker-\S+ by affinity among 1", text)


@pytest.mark.parametrize(
    ("text", "flags", "reason"),
    [
        (
            FOREVER,
            ("--wall", "1s"),
            "limit of 1 s to compile and run: --wall allows more",
        ),
        (FOREVER, ("--fuel", "1000000"), "fuel"),
        (GREEDY, (), "memory|trapped"),
    ],
)
def test_module_beyond_its_limits_fails_with_one_line(
    fog: RunningFog, tmp_path: Path, text: str, flags: tuple[str, ...], reason: str
) -> None:
    done = fog.run("run", module(tmp_path, text), *flags, "--json")

    assert done.returncode == 1
    line = only_line(done.stderr)
    assert re.search(reason, line)
    assert json.loads(done.stdout)["tries"] == 1  # the second said the same


def test_a_map_brings_each_result_once_in_the_order_of_its_inputs(
    fog: RunningFog, tmp_path: Path
) -> None:
    inputs = [tmp_path / f"{number:02}.txt" for number in range(17)]
    for number, path in enumerate(inputs):
        path.write_text(f"word{number % 7}\n")
    before = len(fog.json("task", "ls", "--limit", "1000"))

    done = fog.run("map", WORDCOUNT, *inputs, "--strategy", "round_robin", "--json", "--", "{}")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [line["input"] for line in lines] == [path.name for path in inputs]
    for number, line in enumerate(lines):
        assert f"word{number % 7}" in line["stdout"]
    assert len(fog.json("task", "ls", "--limit", "1000")) == before + len(inputs)


def test_what_no_worker_can_run_is_refused_before_it_is_sent(
    fog: RunningFog, tmp_path: Path
) -> None:
    greedy = module(tmp_path, GREEDY_FROM_THE_START)
    for file, words in ((TEXT, "is not WebAssembly"), (greedy, "give more with --memory")):
        done = fog.run("run", file, "--json")

        assert done.returncode == 2
        assert words in only_line(done.stderr)
        assert "nothing was sent" in done.stderr


def test_waiting_ends_with_the_timeout_and_the_task_goes_on(
    fog: RunningFog, tmp_path: Path
) -> None:
    done = fog.run("run", module(tmp_path, FOREVER), "--timeout", "10s", "--json")

    assert done.returncode == 124
    task_id = re.search(r"task (\w+) is not over", only_line(done.stderr))
    assert task_id is not None
    assert fog.json("task", "cancel", task_id[1])["state"] == "cancelled"


def test_interrupted_wait_says_how_to_go_on(fog: RunningFog, tmp_path: Path) -> None:
    waiting = fog.start("run", module(tmp_path, FOREVER))
    assert waiting.stderr is not None
    first = waiting.stderr.readline()

    waiting.send_signal(signal.SIGINT)
    _, rest = waiting.communicate(timeout=STOP_S)

    assert waiting.returncode == 130
    task_id = re.search(r"task (\w+)", first)
    assert task_id is not None
    assert f"fog task cancel {task_id[1]}" in rest
    assert "Traceback" not in rest
    fog.run("task", "cancel", task_id[1])


def test_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    with running_fog(tmp_path / "home") as fog:
        task_id = fog.json("run", module(tmp_path, FOREVER), "--detach")["id"]
        fog.await_state(task_id, "running")
        runner = fog.runner_pid()
        assert runner in {process.pid for process in fog.processes()}

        fog.process.send_signal(signal.SIGINT)
        until(lambda: "stopping" in fog.log.read_text(), STOP_S, lambda: "it does not stop")
        fog.process.send_signal(signal.SIGINT)

        assert fog.process.wait(STOP_S) == 0
        fog.await_gone()


def test_second_start_is_refused(fog: RunningFog) -> None:
    for flags in ((), ("--detach",)):
        done = fog.run("up", *flags)

        assert done.returncode == 1
        assert "is running in" in only_line(done.stderr)


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [FOG, "up", "--port", str(port)],
            capture_output=True,
            check=False,
            env={**os.environ, "FOG_HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=STOP_S,
        )

    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in only_line(done.stderr)


# The Python face, its examples and the pages, on the same fog


@pytest.fixture
def place(fog: RunningFog, tmp_path: Path) -> Path:
    """A folder with the examples, in which a page's lines can be run."""

    def runs_scripts() -> bool:
        return any("python" in worker["kinds"] for worker in fog.json("worker", "ls"))

    until(runs_scripts, 2 * TASK_S, lambda: "no worker has compiled its interpreter")
    (tmp_path / "examples").symlink_to(EXAMPLES)
    return tmp_path


@pytest.mark.parametrize("page", ["python-api.md", "integrate.md"])
def test_python_of_a_guide_runs_as_it_stands(fog: RunningFog, place: Path, page: str) -> None:
    done = run_python(EXAMPLES.parent / "docs" / "guides" / page, place, fog.environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_notebook_runs_as_it_stands(fog: RunningFog, place: Path) -> None:
    notebook = EXAMPLES / "notebook" / "fog.ipynb"
    done = run_python(notebook, notebook.parent, fog.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42 whole years" in done.stdout
    assert "ZeroDivisionError" in done.stdout


@pytest.mark.parametrize("name", ["quickstart.md", "integrate.md"])
def test_commands_of_a_guide_run_as_they_stand(fog: RunningFog, place: Path, name: str) -> None:
    page = EXAMPLES.parent / "docs" / "guides" / name
    apart = ("make ", "cd ", ". ", "export ", "fog up", "fog down")  # this fog is here already
    lines = [line for line in commands(page) if not line.startswith(apart)]
    assert len(lines) > 5
    (place / "job.py").write_text(blocks(page, "python")[0])
    done = run_commands(lines, place, fog.environment)
    assert done.returncode == 0, done.stdout + done.stderr


HERE_ALREADY = ("make ", ". ", "export ", "fog up", "fog down")
NOT_INSTALLED = ("rustc ", "fog run longest.wasm", "clang ")  # compilers for WebAssembly


@pytest.mark.parametrize(
    "name",
    [
        "docs/guides/getting-started.md",
        "docs/guides/writing-a-task.md",
        "docs/guides/python-tasks.md",
        "examples/wordcount/README.md",
    ],
)
def test_commands_and_python_of_a_page_run_as_the_page_goes(
    fog: RunningFog, place: Path, name: str
) -> None:
    """INV-WORDS-08: on the port that this fog has."""
    page = EXAMPLES.parent / name
    url = fog.json("status")["fog"]["url"]

    def scripts_run() -> bool:
        return all("python" in worker["kinds"] for worker in fog.json("worker", "ls"))

    until(scripts_run, TASK_S, lambda: "no worker has an interpreter yet")
    lines = [
        line.replace("http://127.0.0.1:8000", url)
        for line in commands(page)
        if not line.startswith((*HERE_ALREADY, *NOT_INSTALLED))
    ]
    assert len(lines) > 4
    done = run_commands(lines, place, fog.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    if blocks(page, "python"):
        done = run_python(page, place, fog.environment)
        assert done.returncode == 0, done.stdout + done.stderr


def test_examples_of_maps_put_their_results_together(
    fog: RunningFog, place: Path, tmp_path: Path
) -> None:
    lines = (
        f"python {EXAMPLES}/wordcount/parts.py {TEXT} 3",
        f"python {EXAMPLES}/tiles/picture.py p.png",
        f"python {EXAMPLES}/tiles/tile.py 5 4 64 >tile",  # at home
    )
    done = run_commands(lines, tmp_path, fog.environment)
    assert done.returncode == 0, done.stderr
    counted = [line.split() for line in expected_count(5).splitlines()[:5]]
    assert [line.split() for line in done.stdout.splitlines()] == counted
    assert "16 of 16 tiles" in done.stderr
    picture = (tmp_path / "p.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    rows = zlib.decompress(picture[41:-16])
    line = 1 + 4 * 64 * 3
    tile = [rows[y * line + 1 + 64 * 3 :][: 64 * 3] for y in range(64, 128)]
    assert b"".join(tile) == (tmp_path / "tile").read_bytes()


def test_a_fog_elsewhere_is_asked_with_a_key(fog: RunningFog, tmp_path: Path) -> None:
    """INV-API-01: by commands and from Python; a key does what its scopes say."""
    url = fog.json("status")["fog"]["url"]

    def key(name: str, *scopes: str) -> str:
        flags = [word for scope in scopes for word in ("--scope", scope)]
        return fog.run("key", "create", name, *flags).stdout.strip()

    away = {**fog.environment, "FOG_HOME": str(tmp_path / "home"), "FOG_URL": url}
    with fog_compute.connect_blocking(url=url, key=key("one", "read", "submit")) as there:
        result = there.run(WORDCOUNT, stdin=TEXT, args=["-n", 5], privacy="public")
        assert result.text == expected_count(5)
        assert there.task(result.id).status().state == "accepted"
    able = {**away, "FOG_KEY": key("two", "read", "submit")}
    lines = (
        f"fog run {WORDCOUNT} --stdin {TEXT} --privacy public -- -n 5",
        f"fog map {WORDCOUNT} {TEXT} --privacy public -- -n 5",
        "fog status >status",
    )
    done = run_commands(lines, tmp_path, able)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 2 * expected_count(5)
    with fog_compute.connect_blocking(url=url, key=key("three", "read")) as there:
        assert result.id in there.tasks(limit=1000)
        with pytest.raises(fog_compute.Unauthorised, match="needs the scope submit"):
            there.run(WORDCOUNT)


def test_processes_export_what_the_reference_lists(fog: RunningFog) -> None:
    """INV-MON-03: no more, no less, with the values of labels that are listed."""
    assert fog.run("run", WORDCOUNT, "--stdin", TEXT).returncode == 0
    url, token = fog.json("status")["fog"]["url"], (fog.home / "daemon" / "token").read_text()
    worker = json.loads((fog.home / "worker-0" / "worker.json").read_text())
    net = subprocess.run(
        [FOG.with_name("betanet"), "localnet", "status", "--dir", fog.home / "net", "--json"],
        capture_output=True,
        check=True,
    )
    pages = [("Backend", Exported(url, token)), ("Worker", Exported(worker["http"]))]
    for one in json.loads(net.stdout)["nodes"]:
        kind = "Directory authority" if one["role"] == "authority" else "Mix node"
        pages.append((kind, Exported(f"http://{one['http']}")))

    listed = sections()
    assert {kind for kind, _ in pages} == listed.keys() - {"Control panel"}
    for kind, page in pages:
        assert page.differs(listed[kind]) == [], kind
        assert page.kind.startswith("text/plain; version=0.0.4"), kind
    backend = pages[0][1]
    assert backend.total("fog_messages_total", outcome="acknowledged") > 0
    assert backend.total("fog_circuit_sends_total", privacy="private", outcome="acknowledged") > 0
    assert backend.total("fog_circuit_packets_total", privacy="private") > 0
    assert backend.total("fog_net_packets_total", privacy="private", outcome="acknowledged") > 0
    assert backend.total("fog_circuit_round_trip_seconds", privacy="private") > 0
    assert backend.total("fog_store_commit_seconds_count") > 0
    assert backend.total("fog_metrics_refresh_failures_total") == 0
