"""One module over many inputs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import fog_compute
from fog_compute import Fog, Progress
from fog_compute.server.app import BATCH_BYTES

from .fakes import FakeFog, Made

SCRIPT = b"print(input())"


def echo(fake: FakeFog) -> None:
    """Let each task print its standard input, or else its arguments."""

    def program(task: Made) -> None:
        stdin = task.body.get("stdin")
        task.stdout = fake.blobs[stdin] if stdin else " ".join(task.body["argv"]).encode()

    fake.program = program


@pytest.mark.asyncio
async def test_results_come_in_the_order_of_their_inputs(
    fog: Fog, fake: FakeFog, tmp_path: Path
) -> None:
    echo(fake)
    (tmp_path / "a.txt").write_bytes(b"from a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_bytes(b"from b")
    inputs = (tmp_path / "a.txt", b"bytes", str(tmp_path / "b" / "a.txt"))
    found = [(one.input, one.text) async for one in fog.map(SCRIPT, inputs)]
    assert found == [("0-a.txt", "from a"), ("1", "bytes"), ("2-a.txt", "from b")]
    assert fake.asked.count("POST /api/v1/tasks/batch") == 1


@pytest.mark.asyncio
async def test_results_that_end_out_of_order_are_given_in_order(fog: Fog, fake: FakeFog) -> None:
    echo(fake)
    fake.waits = True
    got: list[str] = []

    async def take() -> None:
        async for result in fog.map(SCRIPT, [b"0", b"1", b"2"]):
            got.append(result.text)  # noqa: PERF401  # it is looked at meanwhile

    taking = asyncio.ensure_future(take())
    while len(fake.tasks) < 3:
        await asyncio.sleep(0)
    tasks = list(fake.tasks.values())
    fake.finish(tasks[2])
    for _ in range(20):
        await asyncio.sleep(0)
    assert got == []
    fake.finish(tasks[0])
    fake.finish(tasks[1])
    await taking
    assert got == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("as_", "args", "argv", "with_stdin", "names"),
    [
        (None, [], [], True, {"script.py"}),
        (None, ["-x", "{}"], ["-x", "n"], False, {"script.py", "n"}),
        ("stdin", ["{}"], ["n"], True, {"script.py"}),
        ("file", [], [], False, {"script.py", "n"}),
        ("argument", ["i={}", 3], ["i=n", "3"], False, {"script.py"}),
    ],
)
@pytest.mark.asyncio
async def test_each_input_is_given_as_was_asked(
    fog: Fog,
    fake: FakeFog,
    as_: str | None,
    args: list[Any],
    argv: list[str],
    *,
    with_stdin: bool,
    names: set[str],
) -> None:
    async for _ in fog.map(SCRIPT, {"n": b"data"}, as_=as_, args=args):
        pass
    (task,) = fake.tasks.values()
    assert task.body["argv"] == argv
    assert (task.body.get("stdin") is not None) == with_stdin
    assert set(task.body["inputs"]) == names


@pytest.mark.asyncio
async def test_no_more_tasks_are_open_than_was_asked(fog: Fog, fake: FakeFog) -> None:
    echo(fake)
    fake.waits = True
    seen: list[Progress] = []

    async def work() -> None:
        while fake.waits:
            if len(fake.open_tasks) > 6 or len(fake.tasks) == 25:
                for task in fake.open_tasks[:3]:
                    fake.come_to(task, "running")
                    fake.finish(task)
            await asyncio.sleep(0)

    working = asyncio.ensure_future(work())
    results = fog.map(
        SCRIPT, range(25), as_="argument", args=["{}"], concurrency=8, progress=seen.append
    )
    assert [one.text async for one in results] == [str(at) for at in range(25)]
    fake.waits = False
    await working
    assert fake.most_open == 8
    assert seen[-1] == Progress(total=25, queued=25, running=0, done=25, failed=0)
    assert [one.done for one in seen] == sorted(one.done for one in seen)


@pytest.mark.asyncio
async def test_the_same_call_with_a_key_goes_on_where_it_was_left(fog: Fog, fake: FakeFog) -> None:
    echo(fake)
    fake.waits = True
    inputs = [str(at).encode() for at in range(250)]  # more than one block
    first = fog.map(SCRIPT, inputs, key="my map")
    taking = asyncio.ensure_future(anext(first))
    while len(fake.tasks) < 250:
        await asyncio.sleep(0)
    fake.finish(fake.tasks[min(fake.tasks)])
    assert (await taking).text == "0"
    await first.aclose()
    assert len(fake.open_tasks) == 249, "with a key they go on"

    for task in fake.open_tasks:
        fake.finish(task)
    texts = [one.stdout async for one in fog.map(SCRIPT, inputs, key="my map")]
    assert texts == inputs
    assert len(fake.tasks) == 250, "none was made twice"
    with pytest.raises(fog_compute.InvalidTask, match="`key` is that of another map"):
        async for _ in fog.map(SCRIPT, inputs[::-1], key="my map"):
            pass


@pytest.mark.asyncio
async def test_who_leaves_a_map_without_a_key_cancels_what_is_left(fog: Fog, fake: FakeFog) -> None:
    fake.waits = True
    results = fog.map(SCRIPT, [b"0", b"1", b"2"])
    taking = asyncio.ensure_future(anext(results))
    while len(fake.tasks) < 3:
        await asyncio.sleep(0)
    fake.finish(fake.tasks[min(fake.tasks)])
    await taking
    await results.aclose()
    assert [task.state for task in fake.tasks.values()] == ["accepted", "cancelled", "cancelled"]


@pytest.mark.asyncio
async def test_no_request_is_larger_than_a_backend_takes(fog: Fog, fake: FakeFog) -> None:
    args, env = ("{}", "x" * 60_000), {"LARGE": "y" * 60_000}
    results = fog.map(SCRIPT, range(90), as_="argument", args=args, env=env)
    assert [int(one.input) async for one in results] == list(range(90))
    assert len(fake.bodies) > 1
    assert max(fake.bodies) < BATCH_BYTES


@pytest.mark.parametrize("key", [None, "my map"])
@pytest.mark.asyncio
async def test_who_leaves_a_map_while_it_queues_cancels_that_too(
    fog: Fog, fake: FakeFog, key: str | None
) -> None:
    fake.waits = True
    fake.held = asyncio.Event()
    taking = asyncio.ensure_future(anext(fog.map(SCRIPT, [b"0", b"1", b"2"], key=key)))
    while len(fake.tasks) < 3:
        await asyncio.sleep(0)
    taking.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    fake.held.set()
    with pytest.raises(asyncio.CancelledError):
        await taking
    state = "cancelled" if key is None else "queued"
    assert [task.state for task in fake.tasks.values()] == [state] * 3


@pytest.mark.asyncio
async def test_the_end_of_a_fog_is_the_end_of_its_maps(fake: FakeFog) -> None:
    fake.waits = True
    async with Fog(fake.place) as fog:
        results = fog.map(SCRIPT, [b"0", b"1"])
        taking = asyncio.ensure_future(anext(results))
        while len(fake.tasks) < 2:
            await asyncio.sleep(0)
        fake.finish(fake.tasks[min(fake.tasks)])
        await taking
    assert [task.state for task in fake.tasks.values()] == ["accepted", "cancelled"]


@pytest.mark.asyncio
async def test_a_failure_ends_a_map_unless_it_is_not_to(fog: Fog, fake: FakeFog) -> None:
    def program(task: Made) -> None:
        if task.body["argv"] == ["1"]:
            task.result = {"exit_code": 7}

    fake.program = program
    seen: list[Progress] = []
    results = fog.map(SCRIPT, range(3), as_="argument", args=["{}"])
    assert (await anext(results)).input == "0"
    with pytest.raises(fog_compute.TaskFailed, match="exit code 7"):
        await anext(results)
    results = fog.map(
        SCRIPT, range(3), as_="argument", args=["{}"], check=False, progress=seen.append
    )
    assert [one.exit_code async for one in results] == [0, 7, 0]
    assert seen[-1].failed == 1


@pytest.mark.asyncio
async def test_a_file_that_is_missing_ends_a_map(fog: Fog, fake: FakeFog, tmp_path: Path) -> None:
    with pytest.raises(fog_compute.Unreadable, match=r"none\.txt does not exist"):
        async for _ in fog.map(SCRIPT, [b"1", tmp_path / "none.txt"]):
            pass
    assert not fake.open_tasks


@pytest.mark.asyncio
async def test_equal_bytes_are_sent_once(fog: Fog, fake: FakeFog, tmp_path: Path) -> None:
    """INV-TASK-147."""
    echo(fake)
    (tmp_path / "a").write_bytes(b"one")
    inputs: list[bytes | Path] = [b"one", tmp_path / "a", b"two", SCRIPT, b"one"]
    texts = [one.stdout async for one in fog.map(SCRIPT, inputs)]
    assert texts == [b"one", b"one", b"two", SCRIPT, b"one"]
    assert fake.asked.count("POST /api/v1/blobs") == 3


@pytest.mark.asyncio
async def test_each_task_is_looked_at_before_anything_is_sent(fog: Fog, fake: FakeFog) -> None:
    """INV-TASK-147: also one whose name is short, and wrong."""
    with pytest.raises(fog_compute.InvalidTask, match=r"'a/\.\./b' is not allowed"):
        async for _ in fog.map(SCRIPT, {"a long and good name": b"", "a/../b": b""}, as_="file"):
            pass
    assert fake.asked == []


@pytest.mark.asyncio
async def test_other_tasks_than_were_asked_for_give_no_results(fog: Fog, fake: FakeFog) -> None:
    """INV-TASK-147: they would be those of other inputs."""
    fake.lost = 1
    with pytest.raises(fog_compute.BackendError, match="other tasks than it was given"):
        await anext(fog.map(SCRIPT, [b"0", b"1", b"2"]))


@pytest.mark.asyncio
async def test_no_inputs_are_no_results(fog: Fog) -> None:
    assert [one async for one in fog.map(SCRIPT, [])] == []


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"as_": "x"}, fog_compute.InvalidTask, "`as_` is 'x'"),
        ({"concurrency": 0}, fog_compute.InvalidTask, "`concurrency` is 0"),
        ({"stdin": b""}, TypeError, "takes no argument 'stdin'"),
        ({"inputs": "one"}, TypeError, "inputs is one thing"),
        ({"inputs": [1]}, TypeError, 'give as_="argument"'),
        ({"inputs": [b"x"], "as_": "argument"}, TypeError, "inputs holds bytes"),
    ],
)
def test_a_map_that_cannot_be_is_refused_at_once(
    fake: FakeFog, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Fog(fake.place).map(SCRIPT, **{"inputs": [], **given})


@pytest.mark.asyncio
async def test_a_map_that_ends_early_sends_no_more_inputs(
    fog: Fog, fake: FakeFog, tmp_path: Path
) -> None:
    """INV-TASK-147."""
    inputs: list[bytes | Path] = [b"%d" % number for number in range(60)]
    with pytest.raises(fog_compute.Unreadable):
        async for _ in fog.map(SCRIPT, [tmp_path / "none.txt", *inputs]):
            pass
    async with asyncio.timeout(30):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
    assert len(fake.blobs) < len(inputs)
