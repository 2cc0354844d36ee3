"""What is wrong with a task is said in the words of whoever described it."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, Final

import pytest
from pydantic import BaseModel

from fog_compute.cli.run import run
from fog_compute.errors import InvalidTask
from fog_compute.face.failures import StillRunning, TaskFailed
from fog_compute.face.records import (
    Attempt,
    EdgeUse,
    ExcludedNode,
    FogStatus,
    Node,
    OutputFile,
    TaskStatus,
    Worker,
)
from fog_compute.face.results import Outcome
from fog_compute.faces import FIELDS, TOLD, Face, in_words_of
from fog_compute.levels import PrivacyLevel
from fog_compute.server import network_schemas, status_schemas, task_schemas
from fog_compute.server.task_schemas import LimitsIn, TaskIn
from fog_compute.strategies import Strategy
from fog_compute.tasks import Limits, TaskSpec
from fog_compute.tasks.folder import check_room
from fog_compute.worker.folders import Excess
from fog_compute.worker.overruns import of_memory, of_out, of_output, of_scratch, of_time

MODULE = "a" * 64

DESCRIBED = [
    ({"limits": {"memory_bytes": 64}}, "--memory is 64", "`memory` is 64"),
    ({"limits": {"fuel": 0}}, "--fuel is 0", "`fuel` is 0"),
    ({"limits": {"wall_s": 0.0}}, "--wall is 0.0", "`wall` is 0.0"),
    ({"limits": {"output_bytes": -1}}, "--output is -1", "`output` is -1"),
    ({"limits": {"scratch_bytes": -1}}, "--scratch is -1", "`scratch` is -1"),
    ({"max_attempts": 0}, "--attempts is 0", "`attempts` is 0"),
    ({"argv": ["x"] * 5000}, "ARGS has 5000 arguments: at most 4096", "`args` has 5000"),
    (
        {"argv": ["x" * 70_000]},
        "pass large data with --stdin or --input",
        "with `stdin` or `inputs`",
    ),
    ({"env": {"": "x"}}, "--env has a variable named ''", "`env` has a variable"),
    ({"seed": "5"}, "--seed is no SHA-256", "`seed` is no"),
    ({"strategy": "affinity", "privacy": "secret"}, "the --strategy affinity is off", "`strategy`"),
]
"""What is given, and what the command line and Python say of it."""

LIMITS = Limits(memory_bytes=7 * 2**20, wall_s=9.0, output_bytes=5 * 2**20, scratch_bytes=3 * 2**20)

EXCEEDED = {
    "memory": (of_memory(LIMITS), "its limit of 7.0 MiB", "--memory allows more"),
    "wall": (of_time(LIMITS), "its limit of 9 s", "--wall allows more"),
    "standard output": (of_output(LIMITS, "standard output"), "5.0 MiB", "--output allows more"),
    "out": (of_out(LIMITS, Excess.BYTES), "below out/ than its limit of 5.0 MiB", "--output"),
    "scratch": (of_scratch(LIMITS, Excess.BYTES), "3.0 MiB in its working", "--scratch allows"),
    "files": (of_scratch(LIMITS, Excess.FILES), "more than 4096 files and folders", "fewer"),
    "depth": (of_out(LIMITS, Excess.DEPTH), "folders more than 64 deep", "nest them less"),
}


def spec_of(given: dict[str, Any]) -> TaskSpec:
    fields = {**given, "module": MODULE}
    if "limits" in given:
        fields["limits"] = Limits(**given["limits"])
    if "strategy" in given:
        fields |= {"strategy": Strategy.AFFINITY, "privacy": PrivacyLevel.SECRET}
    return TaskSpec(**fields)


@pytest.mark.parametrize(("given", "command", "python"), DESCRIBED)
def test_a_wrong_value_is_named_as_each_face_names_it(
    given: dict[str, Any], command: str, python: str
) -> None:
    """INV-WORDS-03."""
    with pytest.raises(InvalidTask) as found:
        spec_of(given)
    said = str(found.value)

    (field,) = [f"limits.{name}" for name in given.get("limits", ())] or [next(iter(given))]
    assert f"`{field}`" in in_words_of(Face.HTTP, said)
    assert command in in_words_of(Face.COMMAND, said)
    assert python in in_words_of(Face.PYTHON, said)


@pytest.mark.parametrize("limit", EXCEEDED)
def test_a_limit_that_a_module_went_over_is_named_with_what_allows_more(limit: str) -> None:
    """INV-WORDS-03: and the one thing that it went over, with nothing beside it."""
    over, words, helps = EXCEEDED[limit]

    said = in_words_of(Face.COMMAND, over.detail)
    assert words in said
    assert helps in said
    assert "`" not in said


def test_inputs_that_do_not_fit_are_said_in_sizes_that_one_reads() -> None:
    """INV-WORDS-03."""
    with pytest.raises(InvalidTask) as found:
        check_room({"a": 9_000_000}, 5_000_000)
    assert in_words_of(Face.COMMAND, str(found.value)) == (
        "the inputs take 8.6 MiB on a disk, and the task may have 4.8 MiB there: --scratch allows"
        " more"
    )


def test_every_field_of_a_task_has_a_name_on_each_face() -> None:
    """INV-WORDS-03: the table is as long as the JSON, and its flags are those of `fog run`."""
    fields = set(TaskIn.model_fields) - {"limits"}
    fields |= {f"limits.{name}" for name in LimitsIn.model_fields}
    flags = {f"--{name.replace('_', '-')}" for name in inspect.signature(run).parameters}

    assert fields == {field.http for field in FIELDS}
    assert {one.command for one in FIELDS if one.command.startswith("--")} <= flags


RECORDS: Final[dict[type, tuple[type[BaseModel], ...]]] = {
    Outcome: (task_schemas.TaskDetailOut, task_schemas.ResultOut),
    TaskStatus: (task_schemas.TaskDetailOut, task_schemas.StageOut),
    Attempt: (task_schemas.AttemptOut,),
    OutputFile: (task_schemas.OutputFileOut,),
    Worker: (network_schemas.WorkerOut,),
    Node: (network_schemas.NodeOut,),
    EdgeUse: (network_schemas.EdgeUseOut,),
    ExcludedNode: (network_schemas.ExcludedNodeOut,),
    FogStatus: (status_schemas.StatusOut, network_schemas.NetOut, network_schemas.NodeListOut),
}
"""Whose names each record of Python has: each stands for one thing, or for one and its parts."""


def told_by(face: Face) -> set[str]:
    return {one.name for one in TOLD if face in one.faces}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_of_python_has_the_names_of_http(record: type[Outcome]) -> None:
    """INV-WORDS-11."""
    http = {name for schema in RECORDS[record] for name in schema.model_fields}
    own = {field.name for field in fields(record)}

    assert own - http <= told_by(Face.PYTHON)


def test_an_exception_tells_of_a_task_under_the_names_of_http() -> None:
    """INV-WORDS-11."""
    http = {*task_schemas.TaskDetailOut.model_fields, *task_schemas.ResultOut.model_fields}
    for error in (TaskFailed("t", "failed", fault="timeout"), StillRunning("t", 1.0)):
        assert set(vars(error)) - {"__notes__"} - http <= told_by(Face.PYTHON)


def test_what_is_told_beside_http_has_a_name_that_http_gives_nothing_of_a_task() -> None:
    """INV-WORDS-11."""
    http = {name for schema in RECORDS[Outcome] for name in schema.model_fields}
    names = [one.name for one in TOLD]

    assert len(names) == len(set(names))
    assert not http & set(names)


def test_words_that_only_look_like_a_field_stay_as_they_are() -> None:
    text = "the import env::memory, `argv.more`, limits.fuel and `fuel`"

    assert in_words_of(Face.COMMAND, text) == in_words_of(Face.PYTHON, text) == text
