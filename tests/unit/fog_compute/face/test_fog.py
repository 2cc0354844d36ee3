"""Tasks of a fog from an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import fog_compute
from fog_compute import Fog
from fog_compute.errors import StoreAway
from fog_compute.face.fog import place_of

from .fakes import FakeFog, Made, problem

pytestmark = pytest.mark.asyncio

SCRIPT = b"print('hello')"


async def until_made(fake: FakeFog, count: int = 1) -> None:
    """Wait until so many tasks are queued."""
    while len(fake.tasks) < count:
        await asyncio.sleep(0)


async def test_a_script_runs_with_all_that_it_was_given(
    fog: Fog, fake: FakeFog, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_bytes(SCRIPT)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_bytes(b"1,2")

    def program(task: Made) -> None:
        task.stdout, task.stderr = b"out\xff", b"err"
        task.files = {"a/b.txt": b"left"}

    fake.program = program
    result = await fog.run(
        tmp_path / "job.py",
        args=["a", 2, 1.5, Path("p")],
        inputs=[tmp_path / "data"],
        stdin=b"in",
        env={"A": "B"},
        memory="300MiB",
        wall=7,
        fuel=10**6,
        output=999,
        seed="again",
        privacy="secret",
        attempts=2,
    )

    body = fake.tasks[result.id].body
    given = {name: fake.blobs[sha256] for name, sha256 in body["inputs"].items()}
    assert given == {"job.py": SCRIPT, "data/a.csv": b"1,2"}
    assert fake.blobs[body["module"]] == SCRIPT
    assert fake.blobs[body["stdin"]] == b"in"
    assert body["argv"] == ["a", "2", "1.5", "p"]
    assert body["env"] == {"A": "B"}
    assert body["kind"] == "python"
    assert body["privacy"] == "secret"
    assert body["max_attempts"] == 2
    assert len(body["seed"]) == 64
    assert body["limits"] == {
        "memory_bytes": 300 * 2**20,
        "wall_s": 7,
        "fuel": 10**6,
        "output_bytes": 999,
    }
    assert result.ok
    assert (result.stdout, result.stderr, result.text) == (b"out\xff", b"err", "out\ufffd")
    assert (result.exit_code, result.wall_ms, result.fuel_used) == (0, 250, 5)
    assert result.files == (fog_compute.OutputFile("a/b.txt", 4),)
    assert await result.file("a/b.txt") == b"left"
    assert "out" not in repr(result), "a large output is not printed by chance"
    # Each file is sent once, and there is nothing more to ask than the task, its end and output.
    assert sorted(fake.asked) == sorted(
        [
            *["POST /api/v1/blobs"] * 3,
            "POST /api/v1/tasks",
            f"GET /api/v1/tasks/{result.id}",
            f"GET /api/v1/tasks/{result.id}/stdout",
            f"GET /api/v1/tasks/{result.id}/stderr",
            f"GET /api/v1/tasks/{result.id}/files/a/b.txt",
        ]
    )


async def test_files_are_saved_whole_and_over_nothing(
    fog: Fog, fake: FakeFog, tmp_path: Path
) -> None:
    fake.program = lambda task: task.files.update({"a/b.txt": b"left", "c": b""})
    result = await fog.run(SCRIPT)

    saved = await result.save(tmp_path / "new" / "folder")
    assert saved == (tmp_path / "new" / "folder" / "a" / "b.txt", tmp_path / "new" / "folder" / "c")
    assert saved[0].read_bytes() == b"left"

    saved[0].write_bytes(b"mine")
    with pytest.raises(fog_compute.FolderUnusable, match="already: overwrite=True replaces it"):
        await result.save(tmp_path / "new" / "folder")
    assert saved[0].read_bytes() == b"mine"
    await result.save(tmp_path / "new" / "folder", overwrite=True)
    assert saved[0].read_bytes() == b"left"
    with pytest.raises(fog_compute.NotFound, match=r"no file d, but a/b\.txt, c"):
        await result.file("d")


async def test_a_program_that_fails_raises_with_the_end_of_its_output(
    fog: Fog, fake: FakeFog
) -> None:
    def program(task: Made) -> None:
        task.result = {"exit_code": 3}
        task.stderr = b"x" * 5000 + b"\nValueError: no\x1b[2J data\n"

    fake.program = program
    with pytest.raises(fog_compute.TaskFailed, match="ended with exit code 3") as caught:
        await fog.run(SCRIPT)

    error = caught.value
    assert (error.exit_code, error.fault) == (3, None)
    assert error.task_id in fake.tasks
    assert "ValueError: no" in error.log_tail
    assert "\x1b" not in error.log_tail, "a stranger's bytes reach no terminal"
    assert len(error.log_tail) <= 2000
    assert error.__notes__ == [f"the end of what it wrote:\n{error.log_tail}"]
    result = await fog.run(SCRIPT, check=False)
    assert not result.ok
    assert result.exit_code == 3


async def test_a_fault_is_told_by_name_and_in_the_words_of_a_call(fog: Fog, fake: FakeFog) -> None:
    def program(task: Made) -> None:
        task.result = {"exit_code": None, "fault": "timeout"}
        task.state, task.reason = "failed", "it ran longer than `limits.wall_s` allows"

    fake.program = program
    with pytest.raises(fog_compute.TaskFailed, match="failed: it ran longer than `wall`") as caught:
        await fog.run(SCRIPT)
    assert (caught.value.fault, caught.value.exit_code) == ("timeout", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": 1}, r"`memory` is 1: give"),
        ({"memory": "7 apples"}, r"`memory`: size '7 apples'"),
        ({"wall": "soon"}, r"`wall`: "),
        ({"attempts": 0}, r"`attempts` is 0"),
        ({"privacy": "high"}, r"`privacy` is 'high': give one of public, private"),
        ({"strategy": "x"}, r"`strategy` is 'x'"),
        ({"kind": "java"}, r"`kind` is 'java': give one of wasm, python"),
        ({"args": ["a\0b"]}, r"`args` holds a zero byte"),
        ({"inputs": {"../x": b""}}, r"\.\./x"),
    ],
)
async def test_what_no_fog_takes_is_refused_by_the_name_of_its_argument(
    fog: Fog, fake: FakeFog, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(fog_compute.InvalidTask, match=words):
        await fog.run(SCRIPT, **options)
    assert fake.asked == [], "nothing is sent before"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wal": 1}, r"unknown argument 'wal': there are args, attempts"),
        ({"args": "one two"}, "args is one text"),
        ({"args": [b"x"]}, "arguments are text, numbers or paths"),
        ({"inputs": "data.csv"}, "inputs is one thing"),
        ({"inputs": [b"x"]}, "bytes without a name"),
        ({"stdin": 5}, "stdin is a int: give bytes or a path"),
    ],
)
async def test_arguments_of_wrong_types_are_told_as_python_does(
    fog: Fog, fake: FakeFog, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        await fog.run(SCRIPT, **options)
    assert fake.asked == []


async def test_files_that_are_not_there_are_named(fog: Fog, tmp_path: Path) -> None:
    with pytest.raises(fog_compute.Unreadable, match=r"module file .*none\.py does not exist"):
        await fog.run(tmp_path / "none.py")
    with pytest.raises(fog_compute.Unreadable, match=r"input file .*none\.csv does not exist"):
        await fog.run(SCRIPT, inputs=[tmp_path / "none.csv"])


async def test_a_script_that_needs_what_no_worker_has_is_warned_of(fog: Fog) -> None:
    with pytest.warns(fog_compute.FogWarning, match="imports numpy"):
        await fog.run(b"import numpy")


async def test_one_key_makes_one_task(fog: Fog, fake: FakeFog) -> None:
    first = await fog.submit(SCRIPT, key="k")
    second = await fog.submit(SCRIPT, key="k")
    assert first.id == second.id
    assert len(fake.tasks) == 1
    assert (await fog.tasks(limit=1)) == (first.id,)
    assert (await fog.task(first.id)).ok


async def test_who_no_longer_awaits_a_task_leaves_it_alone(fog: Fog, fake: FakeFog) -> None:
    fake.waits = True
    task = await fog.submit(SCRIPT)
    waiting = asyncio.ensure_future(task.result())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await task.status()).state == "queued"
    fake.finish(fake.tasks[task.id])
    assert (await task).ok


async def test_a_run_that_is_cancelled_cancels_its_task(fog: Fog, fake: FakeFog) -> None:
    fake.waits = True
    running = asyncio.ensure_future(fog.run(SCRIPT))
    await until_made(fake)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [task.state for task in fake.tasks.values()] == ["cancelled"]


async def test_a_task_of_which_nothing_is_heard_is_named(fog: Fog, fake: FakeFog) -> None:
    fake.refuses = [problem(503, "store-away", "the database is away")]
    with pytest.raises(StoreAway) as caught:
        await fog.run(SCRIPT)
    (task,) = fake.tasks
    assert str(caught.value) == f"the database is away; task {task} goes on"
    assert (await fog.task(task)).exit_code == 0


async def test_a_task_that_is_not_over_in_time_goes_on(fog: Fog, fake: FakeFog) -> None:
    fake.waits = True
    with pytest.raises(fog_compute.StillRunning, match="not over after 0 s") as caught:
        await fog.run(SCRIPT, timeout=0)
    assert isinstance(caught.value, TimeoutError)
    task = fog.task(caught.value.task_id)
    assert not (await task.status()).final
    assert await task.cancel()
    assert not await task.cancel(), "it was over already"
    with pytest.raises(fog_compute.TaskCancelled):
        await task


async def test_logs_come_as_they_grow_until_the_end(
    fog: Fog, fake: FakeFog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fog_compute.face.fog.LOGS_POLL_S", 0)
    fake.waits = True
    task = await fog.submit(SCRIPT)
    made = fake.tasks[task.id]
    made.stderr = b"one "
    seen = []
    async for piece in task.logs():
        seen.append(piece)
        if len(seen) == 1:
            made.stderr += b"two "
        elif len(seen) == 2:
            made.stderr += b"three"
            fake.finish(made)
    assert seen == ["one ", "two ", "three"]


async def test_what_is_not_there_is_told(fog: Fog) -> None:
    name = "01k" + "0" * 23
    with pytest.raises(fog_compute.NotFound, match=f"no task {name}"):
        await fog.task(name).status()


@pytest.mark.parametrize("name", ["../keys", "", "@last", "01k", "../services/a/restart?x=12"])
async def test_what_is_no_id_of_a_task_names_no_other_route(fog: Fog, name: str) -> None:
    with pytest.raises(fog_compute.NotFound, match="is no id of a task"):
        fog.task(name)


async def test_text_that_cannot_be_sent_is_refused(fog: Fog) -> None:
    with pytest.raises(fog_compute.InvalidTask, match="cannot be sent"):
        await fog.submit(b"print()", key="\xfc")
    with pytest.raises(fog_compute.InvalidTask, match="UTF-8"):
        fog.map(b"print()", [1], as_="argument", key="\udcff")


async def test_files_of_a_task_are_listed(fog: Fog, fake: FakeFog) -> None:
    fake.program = lambda task: task.files.update({"a": b"12"})
    task = await fog.submit(SCRIPT)
    assert await task.files() == (fog_compute.OutputFile("a", 2),)


async def test_nodes_of_all_pages_are_listed(fog: Fog, fake: FakeFog) -> None:
    said = {"operator": "ann", "prefix": "10.1.0.0/16", "link_address": "10.1.2.3:9"}
    lost = {"id": "0b", "tries": 9, "lost": 8, "expected": 1, "seconds_left": 7.5}
    plain = {**said, "key_epochs": [3], "expires_at": "", "edge": None, "excluded": None}
    gone: dict[str, Any] = dict.fromkeys(plain) | {"role": None, "key_epochs": []}
    edge = {"current": True, "attached": True, "reason": None}
    fake.nodes = [
        {**plain, "id": "0a", "role": "middle"},
        {**plain, "id": "0b", "role": "middle", "excluded": lost},
        {**gone, "id": "0c", "edge": edge},
    ]
    nodes = await fog.nodes()
    assert nodes[0] == fog_compute.Node(
        "0a", "middle", **said, key_epochs=(3,), edge=None, excluded=None
    )
    assert [(node.role, node.edge, node.excluded) for node in nodes[1:]] == [
        ("middle", None, fog_compute.ExcludedNode("0b", 9, 8, 1, 7.5)),
        (None, fog_compute.EdgeUse(True, True, None), None),
    ]
    assert [node.id for node in await fog.nodes(role="middle")] == ["0a", "0b"]


async def test_no_fog_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(fog_compute.NotRunning, match="start one with `fog up`"):
        async with fog_compute.connect(tmp_path):
            pass


async def test_a_home_and_a_url_are_two_places() -> None:
    with pytest.raises(TypeError, match="a home or a url"):
        fog_compute.connect("/x", url="https://fog")


@pytest.mark.parametrize("given", [{"key": "fogk_1"}, {"ca": "fog.pem"}])
@pytest.mark.parametrize("home", [None, "/x"])
async def test_a_key_is_never_left_unused(
    given: dict[str, str], home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOG_URL", raising=False)
    with pytest.raises(TypeError, match="with a url"):
        fog_compute.connect(home, **given)


async def test_a_key_goes_with_the_url_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setenv("FOG_URL", "https://fog.example.org:8000")
    monkeypatch.setenv("FOG_KEY", "fogk_other")
    place = place_of(None, None, "fogk_given", None)
    with contextlib.closing(place.find()) as address:
        assert address.token == "fogk_given"


async def test_a_function_is_no_module(fog: Fog) -> None:
    wrong: Any = print
    with pytest.raises(TypeError, match=r"^module is a .*function.*: give the path of a file"):
        await fog.submit(wrong)


async def test_arguments_of_another_type_are_named(fog: Fog) -> None:
    wrong: list[dict[str, Any]] = [{"args": 5}, {"env": 5}, {"env": ["a=b"]}, {"seed": 7}]
    for given in [*wrong, {"env": {"A": 5}}]:
        with pytest.raises(TypeError, match=f"^{next(iter(given))} (is a|holds) "):
            await fog.submit(SCRIPT, **given)


async def test_a_fog_that_is_left_leaves_its_tasks(fake: FakeFog) -> None:
    fake.waits = True
    async with Fog(fake.place) as fog:
        await fog.submit(SCRIPT)
    assert [task.state for task in fake.tasks.values()] == ["queued"]
    with contextlib.suppress(fog_compute.FogError):
        await fog.tasks()


CALLS: dict[str, Callable[[Fog], Awaitable[object]]] = {
    "submit": lambda fog: fog.submit(SCRIPT),
    "map": lambda fog: anext(fog.map(SCRIPT, [b""])),
    "tasks": lambda fog: fog.tasks(),
    "status": lambda fog: fog.status(),
    "workers": lambda fog: fog.workers(),
    "nodes": lambda fog: fog.nodes(),
    "Task.result": lambda fog: fog.task("0" * 26).result(),
    "Task.status": lambda fog: fog.task("0" * 26).status(),
    "Task.logs": lambda fog: anext(fog.task("0" * 26).logs()),
    "Task.cancel": lambda fog: fog.task("0" * 26).cancel(),
    "Task.files": lambda fog: fog.task("0" * 26).files(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_whatever_a_backend_refuses_names_the_arguments_of_a_call(
    fog: Fog, fake: FakeFog, call: str
) -> None:
    """INV-WORDS-03."""
    fake.refused = {"GET", "POST"}
    fake.refuses = [problem(422, "invalid-task", "`limits.memory_bytes` is 7")] * 3
    with pytest.raises(fog_compute.InvalidTask, match="`memory` is 7"):
        await CALLS[call](fog)


async def test_what_a_backend_says_of_a_task_names_the_arguments_of_a_call(
    fog: Fog, fake: FakeFog
) -> None:
    """INV-WORDS-03: and what a task itself wrote stays as it is."""
    fake.waits = True
    task = await fog.submit(SCRIPT, args=["`argv`"])
    fake.tasks[task.id].reason = "`limits.wall_s` is over"
    fake.tasks[task.id].stderr = b"`limits.wall_s`"
    assert (await task.status()).reason == "`wall` is over"
    fake.finish(fake.tasks[task.id])
    result = await task
    assert (result.reason, result.stderr) == ("`wall` is over", b"`limits.wall_s`")
    assert "".join([piece async for piece in task.logs()]) == "`limits.wall_s`"
