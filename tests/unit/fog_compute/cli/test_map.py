"""`fog map`: tasks queued once, results in order, and what an interruption leaves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fog_compute.cli import batches
from fog_compute.cli.main import run
from fog_compute.cli.progress import Counts
from fog_compute.client.answers import Batch
from fog_compute.client.lock import HomeLock
from fog_compute.client.maps import MapState, Progress
from fog_compute.errors import PROBLEM, StoreAway
from fog_compute.layout import HomeLayout
from tests.unit.fog_compute.cli.backends import RESULT, TASK, announced
from tests.unit.fog_compute.modules import COMMAND

Outcome = tuple[str, int, bytes]  # state, exit code, standard output


class Fog:
    """A backend that ends tasks as it is told, in an order that is not theirs.

    Attributes:
        outcome: how a task ends, by its description and its input; None leaves it open.
        left: what tasks leave below out/, by their ids.
        swept: whether all tasks have outlived their time.
    """

    def __init__(self) -> None:
        self.outcome: Callable[[dict[str, Any], bytes], Outcome | None] = lambda _, data: (
            "accepted",
            0,
            data.upper(),
        )
        self.left: dict[str, dict[str, bytes]] = {}
        self.swept = False
        self.warning = ""
        self.uploads: list[bytes] = []
        self.tasks: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, list[str]] = {}
        self.batches: dict[str, list[str]] = {}
        self.events: list[dict[str, Any]] = []
        self.cancelled: list[str] = []

    def blob(self, sha256: str) -> bytes:
        return next(one for one in self.uploads if hashlib.sha256(one).hexdigest() == sha256)

    def queue(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        if key not in self.keys:
            self.keys[key] = []
            for task in body["tasks"]:
                name = f"t{len(self.tasks):03}"
                self.tasks[name] = task
                self.keys[key].append(name)
                self.batches.setdefault(body["batch"], []).append(name)
            for name in reversed(self.keys[key]):
                self.end(name)
        return {"batch": body["batch"], "tasks": self.keys[key], "warning": self.warning}

    def end(self, name: str) -> None:
        task = self.tasks[name]
        blob = task.get("stdin") or next(iter(task["inputs"].values()))
        outcome = self.outcome(task, self.blob(blob))
        state = "running" if outcome is None else outcome[0]
        self.events.append({"seq": len(self.events) + 1, "task": name, "state": state})

    def get(self, parts: list[str], query: dict[str, str]) -> bytes:
        match parts:
            case ["events"]:
                since = int(query["since"])
                wanted = [] if self.swept else self.batches[query["batch"]]
                some = [one for one in self.events[since:] if one["task"] in wanted][:7]
                answer = {"events": some, "next": some[-1]["seq"] if some else since}
                return json.dumps(answer).encode()
            case ["tasks", name]:
                return json.dumps(self.detail(name)).encode()
            case ["tasks", name, "stdout"]:
                return self.stdout(name)
            case ["tasks", name, "files", *path]:
                return self.left[name]["/".join(path)]
            case _:
                return b""

    def detail(self, name: str) -> dict[str, Any]:
        state, code, _ = self._outcome(name)
        left = [{"path": p, "size": len(d)} for p, d in self.left.get(name, {}).items()]
        result = {**RESULT, "exit_code": code, "files": left} if state == "accepted" else None
        return {**TASK, "id": name, "state": state, "result": result, "reason": "why"}

    def stdout(self, name: str) -> bytes:
        return self._outcome(name)[2]

    def _outcome(self, name: str) -> Outcome:
        task = self.tasks[name]
        outcome = self.outcome(
            task, self.blob(task.get("stdin") or next(iter(task["inputs"].values())))
        )
        assert outcome is not None
        return outcome


@contextlib.contextmanager
def serving(home: Path, fog: Fog) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            parts = url.path.removeprefix("/api/v1/").split("/")
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if fog.swept and parts[0] == "tasks":
                self.give_bytes(b'{"detail": "there is no such task"}', 404)
            else:
                self.give_bytes(fog.get(parts, query))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            match self.path.removeprefix("/api/v1/").split("/"):
                case ["blobs"]:
                    fog.uploads.append(body)
                    self.give({"sha256": hashlib.sha256(body).hexdigest()})
                case ["tasks", "batch"]:
                    self.give(fog.queue(self.headers["idempotency-key"], json.loads(body)))
                case ["tasks", name, "cancel"]:
                    fog.cancelled.append(name)
                    self.give({"id": name, "state": "cancelled"})

        def give(self, value: object) -> None:
            self.give_bytes(json.dumps(value).encode())

        def give_bytes(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    lock = HomeLock(HomeLayout(home))
    assert lock.take()
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        announced(home, f"http://127.0.0.1:{server.server_port}"),
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            lock.give_back()


@pytest.fixture
def fog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fog]:
    made = Fog()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("FOG_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.wasm").write_bytes(COMMAND)
    with serving(home, made):
        yield made


def inputs(tmp_path: Path, count: int) -> list[str]:
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{number:03}.txt" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_text(f"text {number % 5}\n")
    return [str(path) for path in paths]


def test_results_come_in_the_order_of_the_inputs_and_the_same_bytes_leave_once(
    fog: Fog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = inputs(tmp_path, 23)
    fog.warning = "nobody lends so much"

    assert run(["map", "m.wasm", *paths, "--privacy", "secret", "--", "-x", "a{}b"]) == 0

    printed = capsys.readouterr()
    assert printed.out == "".join(f"TEXT {number % 5}\n" for number in range(23))
    assert printed.err.startswith("fog: nobody lends so much: tasks wait for one\n")
    assert printed.err.count("23 of 23 done, 0 running, 0 failed") == 1
    assert len(fog.uploads) == 1 + 5
    first = fog.tasks["t000"]
    assert first["argv"] == ["-x", "a000.txtb"]
    assert list(first["inputs"]) == ["000.txt"]
    assert first["privacy"] == "secret"
    assert "stdin" not in first


def test_limits_and_group_go_with_each_task(fog: Fog, tmp_path: Path) -> None:
    flags = ["--group", "lab", "--wall", "7s", "--memory", "3MiB", "--fuel", "5000000"]
    flags += ["--output", "9KiB", "--scratch", "11MiB"]

    assert run(["map", "m.wasm", *inputs(tmp_path, 3), *flags]) == 0

    assert [task["group"] for task in fog.tasks.values()] == ["lab"] * 3
    assert fog.tasks["t002"]["limits"] == {
        "wall_s": 7,
        "memory_bytes": 3 * 2**20,
        "fuel": 5_000_000,
        "output_bytes": 9 * 2**10,
        "scratch_bytes": 11 * 2**20,
    }


def test_a_script_stands_beside_each_input_under_its_own_name(
    fog: Fog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = inputs(tmp_path, 3)
    (tmp_path / "job.py").write_text("print(input())")

    assert run(["map", str(tmp_path / "job.py"), *paths]) == 0
    assert run(["map", str(tmp_path / "job.py"), *paths, "--", "{}"]) == 0

    tasks = [fog.tasks[f"t{number:03}"] for number in range(6)]
    assert {task["kind"] for task in tasks} == {"python"}
    assert [list(task["inputs"]) for task in tasks[:3]] == [["job.py"]] * 3
    assert [list(task["inputs"]) for task in tasks[3:]] == [
        ["job.py", f"{number:03}.txt"] for number in range(3)
    ]
    assert {task["inputs"]["job.py"] for task in tasks} == {tasks[0]["module"]}
    assert capsys.readouterr().out.count("TEXT") == 3


def test_a_folder_takes_the_results_and_alike_names_are_told_apart(
    fog: Fog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text(folder)
    (tmp_path / "a" / "y").write_text("y")

    fog.left = {"t001": {"d/plot.txt": b"o o"}}
    command = ["map", "m.wasm", "a/x", "a/y", "b/x", "--output-dir", "results"]
    assert run(command) == 0

    results = tmp_path / "results"
    found = {str(at.relative_to(results)): at for at in results.rglob("*") if at.is_file()}
    assert {name: path.read_text() for name, path in found.items()} == {
        "0-x.out": "A",
        "y.out": "Y",
        "y.files/d/plot.txt": "o o",
        "2-x.out": "B",
    }
    capsys.readouterr()
    assert run([*command, "--json"]) == 1
    told, said = capsys.readouterr()
    *lines, error = map(json.loads, told.splitlines())
    assert "not written: y.out: there is one already: --force" in said
    assert [line["stdout"] for line in lines] == ["A", "Y", "B"]
    assert error["error"]["type"] == f"{PROBLEM}not-written"
    assert "results of 3 tasks were not written whole" in error["error"]["message"]
    assert error["map"]
    assert run([*command, "--force"]) == 0
    assert "not written" not in capsys.readouterr().err
    assert fog.tasks["t000"]["stdin"] == hashlib.sha256(b"a").hexdigest()


def test_failures_are_told_and_count_and_the_rest_goes_on(
    fog: Fog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {
        b"0": ("failed", 0, b""),
        b"1": ("accepted", 3, b"three"),
        b"2": ("accepted", 0, b""),
    }
    fog.outcome = lambda _, data: outcomes.get(data[5:6], ("accepted", 0, b"\xff"))

    assert run(["map", "m.wasm", *inputs(tmp_path, 5), "--json"]) == 1

    printed = capsys.readouterr()
    *lines, last = [json.loads(line) for line in printed.out.splitlines()]
    assert last["error"]["message"] == "2 of 5 tasks did not end well"
    assert [line["input"] for line in lines] == [f"00{number}.txt" for number in range(5)]
    assert [line["exit_code"] for line in lines] == [None, 3, 0, 0, 0]
    assert lines[1]["stdout"] == "three"
    assert lines[0]["reason"] == "why"
    assert printed.err == f"fog: {last['error']['message']}\n"


def test_too_many_failures_cancel_the_rest(
    fog: Fog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fog.outcome = lambda _, data: None if data[5:6] == b"0" else ("failed", 0, b"")

    assert run(["map", "m.wasm", *inputs(tmp_path, 10), "--max-failures", "2"]) == 1

    assert "more than 2 failed: the others are cancelled" in capsys.readouterr().err
    assert {"t000", "t005"} <= set(fog.cancelled)


@pytest.mark.parametrize("cancel", [False, True])
def test_interrupted_the_tasks_go_on_or_are_cancelled(
    fog: Fog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cancel: bool,
) -> None:
    paths = inputs(tmp_path, 9)
    flags = ["--cancel-on-interrupt"] if cancel else []
    with monkeypatch.context() as patched:
        patched.setattr(batches.Run, "_hand_on", interrupted)
        assert run(["map", "m.wasm", *paths, *flags]) == 130
    said = capsys.readouterr().err

    assert len(fog.tasks) == 9
    if cancel:
        assert len(fog.cancelled) == 2  # seven were over
        assert "what was not over is cancelled: 2 tasks" in said
        return
    assert fog.cancelled == []
    found = re.search(r"fog map --resume (\w+)", said)
    assert found is not None
    assert run(["map", "--resume", found[1]]) == 0
    assert capsys.readouterr().out == "".join(f"TEXT {number % 5}\n" for number in range(9))
    assert len(fog.tasks) == 9
    assert len(fog.uploads) == 1 + 5
    assert run(["map", "--resume", found[1], "--cancel"]) == 0
    assert len(fog.cancelled) == 9


def interrupted(_: batches.Run) -> None:
    raise KeyboardInterrupt


def test_interrupted_between_two_of_an_answer_all_are_cancelled_and_made_once(
    fog: Fog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-147."""
    fog.outcome = lambda *_: None
    known = MapState.known

    def interrupted_once(state: MapState, ids: Iterable[str]) -> None:
        if some := list(ids):
            monkeypatch.setattr(MapState, "known", known)
            known(state, some[:2])
            raise KeyboardInterrupt

    monkeypatch.setattr(MapState, "known", interrupted_once)
    assert run(["map", "m.wasm", *inputs(tmp_path, 5), "--cancel-on-interrupt"]) == 130
    assert list(fog.tasks) == sorted(fog.cancelled)
    assert len(fog.tasks) == 5


@pytest.mark.timeout(30)
def test_a_map_whose_tasks_are_swept_is_not_waited_for(
    fog: Fog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(batches.Run, "_hand_on", interrupted)
        assert run(["map", "m.wasm", *inputs(tmp_path, 3)]) == 130
    capsys.readouterr()
    fog.swept = True

    assert run(["map", "--resume", "@last"]) == 1
    assert re.search(r"keeps the tasks of map \w+ no longer: run it", capsys.readouterr().err)


def test_what_was_being_queued_when_it_was_interrupted_is_cancelled_too(
    fog: Fog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-147."""
    monkeypatch.setattr(batches, "TASKS_AT_ONCE", 4)
    fog.outcome = lambda *_: None
    real, calls = MapState.queued, 0

    def queued(self: MapState, answer: Batch, count: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        real(self, answer, count)

    monkeypatch.setattr(MapState, "queued", queued)
    assert run(["map", "m.wasm", *inputs(tmp_path, 11), "--cancel-on-interrupt"]) == 130
    assert len(fog.tasks) == 8
    assert sorted(fog.cancelled) == sorted(fog.tasks)


def test_a_map_that_broke_while_it_was_queued_is_queued_once(
    fog: Fog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batches, "TASKS_AT_ONCE", 4)
    real, calls = Fog.queue, 0

    def breaking(self: Fog, key: str, body: dict[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        answer = real(self, key, body)
        return {**answer, "tasks": []} if calls == 2 else answer

    monkeypatch.setattr(Fog, "queue", breaking)
    assert run(["map", "m.wasm", *inputs(tmp_path, 11)]) == 1
    assert "other tasks than it was given" in capsys.readouterr().err
    (kept,) = (tmp_path / "home" / "maps").iterdir()

    assert run(["map", "--resume", kept.stem]) == 0
    assert len(fog.tasks) == 11
    assert capsys.readouterr().out == "".join(f"TEXT {number % 5}\n" for number in range(11))


def test_a_map_of_which_nothing_is_heard_is_named_and_gone_on_with(
    fog: Fog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(_: batches.Run) -> None:
        raise StoreAway("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(batches.Run, "follow", away)
        assert run(["map", "m.wasm", *inputs(tmp_path, 3), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert f"`fog map --resume {told['map']}`" in told["error"]["message"]
    assert told["error"]["type"] == f"{PROBLEM}store-away"

    assert run(["map", "--resume", told["map"]]) == 0
    assert len(fog.tasks) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a module and inputs, or --resume"),
        (("m.wasm",), "there is no input"),
        (("m.wasm", "absent"), "input file absent does not exist"),
        (("m.wasm", "m.wasm", "--resume", "01"), "give a module and inputs, or --resume"),
        (("m.wasm", "m.wasm", "--cancel"), "--cancel needs --resume"),
        (("in.txt", "in.txt"), "the module is not WebAssembly"),
        (("m.wasm", "tmp", "--as", "file"), "tmp"),
    ],
)
def test_wrong_usage_is_one_line_and_nothing_is_queued(
    fog: Fog,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    for name in ("in.txt", "tmp"):
        (tmp_path / name).write_text("x")

    assert run(["map", *arguments]) == 2

    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert fog.tasks == {}


@pytest.mark.parametrize("name", ["../x", "01k"])
def test_a_map_that_is_not_kept_is_not_found(
    fog: Fog, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(["map", "--resume", name, "--json"]) == 1

    out, said = capsys.readouterr()
    assert json.loads(out)["error"]["type"] == f"{PROBLEM}not-found"
    assert said.startswith(f"fog: '{name}' is no map, nor how an id of one")
    assert fog.tasks == {}


def test_counts_are_said_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = 0.0
    with Counts(quiet=False, clock=lambda: seconds) as bar:
        for done in range(101):
            seconds = done * 0.2
            bar.show(Progress(100, 100, running=min(3, 100 - done), done=done, failed=done // 50))
        seconds += 1
        bar.show(Progress(100, 100, running=0, done=100, failed=2))

    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[0] == "fog: 25 of 100 done, 3 running, 0 failed, 5.0/s, 15.0 s left"
    assert lines[-1] == "fog: 100 of 100 done, 0 running, 2 failed, 5.0/s"


def test_a_map_is_kept_also_where_no_fog_has_been(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path / "none" / "home")
    plan = batches.Plan("01k", ["a"], [{"argv": []}])
    batches.keep(layout, plan)
    assert batches.kept(layout, "01k") == plan
    assert layout.root.stat().st_mode & 0o777 == 0o700
