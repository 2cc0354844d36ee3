"""What goes with a task: sent once, named by what it is used as."""

from __future__ import annotations

import hashlib

import pytest

from fog_compute.client.answers import Task
from fog_compute.client.sources import Source, TaskFiles
from fog_compute.client.tails import last_written
from tests.unit.fog_compute.cli.backends import RESULT, TASK


def test_a_source_goes_once_whatever_it_is_used_as() -> None:
    module, data = Source.of("m", b"module"), Source.of("d", b"data")
    alone = TaskFiles(module, None, {"job.py": module})
    assert alone.each() == [module]
    assert alone.named(["1"]) == {"module": "1", "stdin": None, "inputs": {"job.py": "1"}}

    both = TaskFiles(module, data, {"a": data, "job.py": module})
    assert both.each() == [module, data]
    named = {"module": "1", "stdin": "2", "inputs": {"a": "2", "job.py": "1"}}
    assert both.named(["1", "2"]) == named


def test_a_source_is_named_by_its_bytes() -> None:
    assert Source.of("d", b"data").sha256() == hashlib.sha256(b"data").hexdigest()


@pytest.mark.parametrize(
    ("stderr", "stdout", "where"),
    [(3, 5, "stderr"), (0, 5, "stdout"), (0, 0, None), (None, None, None)],
)
def test_what_a_task_wrote_last_is_in_its_errors_or_else_in_its_output(
    stderr: int | None, stdout: int | None, where: str | None
) -> None:
    result = {**RESULT, "stderr_bytes": stderr, "stdout_bytes": stdout}
    task: Task = {**TASK, "result": None if stderr is None else result}  # type: ignore[typeddict-item]
    assert last_written(task) == where
