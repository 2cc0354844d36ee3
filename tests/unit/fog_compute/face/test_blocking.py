"""The face for whoever may wait: in threads, in notebooks, under Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import fog_compute
from fog_compute import BlockingFog, Fog

from .fakes import FakeFog, Made

SCRIPT = b"print('hello')"


@pytest.fixture
def fog(fake: FakeFog) -> Iterator[BlockingFog]:
    """The blocking face, connected."""
    with BlockingFog(Fog(fake.place)) as connected:
        yield connected


def test_all_that_the_face_does_can_be_waited_for(
    fog: BlockingFog, fake: FakeFog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(task: Made) -> None:
        task.stdout = b"out"
        task.files = {"a": b"left"}

    fake.program = program
    result = fog.run(SCRIPT)
    assert (result.text, result.ok, result.file("a")) == ("out", True, b"left")
    assert result.save(tmp_path / "saved") == (tmp_path / "saved" / "a",)

    task = fog.submit(SCRIPT, key="k")
    assert task.id == fog.submit(SCRIPT, key="k").id == fog.tasks(limit=1)[0]
    assert fog.task(task.id).result().text == "out"
    assert list(task.logs()) == ["out"]
    assert task.status().state == "accepted"
    assert task.files() == (fog_compute.OutputFile("a", 4),)
    assert not task.cancel()

    seen: list[fog_compute.Progress] = []
    results = list(fog.map(SCRIPT, [b"1", b"2"], progress=seen.append))
    assert [one.text for one in results] == ["out", "out"]
    assert seen[-1].done == 2


def test_errors_are_those_of_the_other_face(fog: BlockingFog, fake: FakeFog) -> None:
    fake.waits = True
    with pytest.raises(fog_compute.StillRunning) as caught:
        fog.run(SCRIPT, timeout=0)
    task = fog.task(caught.value.task_id)
    assert task.cancel()
    with pytest.raises(fog_compute.TaskCancelled):
        task.result()
    with pytest.raises(fog_compute.InvalidTask, match="`attempts` is 0"):
        fog.run(SCRIPT, attempts=0)
    with pytest.raises(TypeError, match="unknown argument"):
        fog.run(SCRIPT, wal=1)  # type: ignore[call-arg]


@pytest.mark.asyncio
async def test_it_works_where_a_loop_runs_already(fake: FakeFog) -> None:
    assert asyncio.get_running_loop().is_running()
    with BlockingFog(Fog(fake.place)) as fog:
        assert fog.run(SCRIPT).ok


def test_an_interrupted_run_cancels_its_task(
    fog: BlockingFog, fake: FakeFog, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.waits = True
    come_to = fake.come_to
    waiting = threading.get_ident()

    def interrupt(task: Made, state: str) -> None:
        """As Ctrl-C breaks into a wait, once the task is there."""
        come_to(task, state)
        if state == "queued":
            signal.pthread_kill(waiting, signal.SIGINT)

    monkeypatch.setattr(fake, "come_to", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fog.run(SCRIPT)
    assert [task.state for task in fake.tasks.values()] == ["cancelled"]


def test_who_leaves_a_map_cancels_what_is_left(fog: BlockingFog, fake: FakeFog) -> None:
    def program(task: Made) -> None:
        if task.body["argv"] == ["1"]:
            task.state = "failed"

    fake.program = program
    for result in fog.map(SCRIPT, range(3), as_="argument", args=["{}"]):
        assert result.input == "0"
        break
    assert not [task for task in fake.open_tasks if task.state != "cancelled"]


def test_a_closed_fog_says_so(fake: FakeFog) -> None:
    fog = BlockingFog(Fog(fake.place))
    fog.close()
    fog.close()
    with pytest.raises(RuntimeError, match="this fog is closed: connect again"):
        fog.run(SCRIPT)


def test_a_fog_that_is_not_there_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(fog_compute.NotRunning):
        fog_compute.connect_blocking(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "fog"]


def test_a_callback_that_would_wait_for_itself_is_told(fog: BlockingFog) -> None:
    told: list[str] = []

    def ask(_: object) -> None:
        with pytest.raises(RuntimeError) as caught:
            fog.status()
        told.append(str(caught.value))

    assert len(list(fog.map(SCRIPT, range(2), as_="argument", progress=ask))) == 2
    assert set(told) == {"a callback cannot wait for its own fog: ask another thread"}


def test_many_may_close_at_once_and_nobody_waits_for_ever(fake: FakeFog) -> None:
    for _ in range(20):
        fog = BlockingFog(Fog(fake.place))
        closing = [threading.Thread(target=fog.close, daemon=True) for _ in range(4)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(30)
        assert not any(thread.is_alive() for thread in closing)
