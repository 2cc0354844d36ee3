"""Every type of problem that a command can tell of is written down once."""

from __future__ import annotations

import re
from pathlib import Path

from fog_compute import cli, errors
from fog_compute.cli.common import _BY_CODE
from fog_compute.cli.problems import OWN_PROBLEMS
from fog_compute.errors import PROBLEM, BackendError, FogError
from fog_compute.server.problem_types import PROBLEMS

OF_THE_BACKEND = {kind.name for kind in PROBLEMS}
INSIDE = {"circuit-error", "session-error", "channel-down", "fog-error"}
"""Errors that no command meets: the backend tells of them as something else."""


def test_every_type_that_commands_name_is_described() -> None:
    named = set(_BY_CODE.values())
    for file in Path(str(cli.__file__)).parent.rglob("*.py"):
        text = file.read_text("utf-8")
        named |= set(re.findall(r'\bkind="([a-z-]+)"', text))
        named |= set(re.findall(r'\{PROBLEM\}([a-z-]+)"', text))
    assert {"usage", "timed-out", "unmet-needs", "not-written"} <= named
    assert named - OF_THE_BACKEND - set(OWN_PROBLEMS) == set()


def test_every_error_of_the_package_is_of_a_described_type() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    made = [kind.__new__(kind, "") for kind in kinds if issubclass(kind, FogError)]
    # One that a backend's answer became has the type that the answer named.
    named = {one.problem.removeprefix(PROBLEM) for one in made if not isinstance(one, BackendError)}
    assert named - INSIDE - OF_THE_BACKEND - set(OWN_PROBLEMS) == set()


def test_no_type_is_described_twice() -> None:
    assert OF_THE_BACKEND.isdisjoint(OWN_PROBLEMS)
    assert list(OWN_PROBLEMS) == sorted(OWN_PROBLEMS)
