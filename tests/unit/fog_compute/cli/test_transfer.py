"""How far a transfer is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.cli.transfer import Meter
from fog_compute.units import MIB


def test_bytes_rate_and_time_left_are_told() -> None:
    meter = Meter()
    total = 20 * MIB
    assert meter.line({"doing": "receiving", "done": 0, "total": total}, 5.0) == (
        "receiving 0 B of 20.0 MiB"
    )
    assert meter.line({"doing": "receiving", "done": 5 * MIB, "total": total}, 7.0) == (
        "receiving 5.0 MiB of 20.0 MiB, 2.5 MiB/s, 6.0 s left"
    )
    # What was long ago says nothing of now.
    lines = [
        meter.line({"doing": "receiving", "done": 5 * MIB + second, "total": total}, second)
        for second in range(8, 40)
    ]
    assert ", 1 B/s" in lines[-1]


@pytest.mark.parametrize("doing", ["compiling", "running"])
def test_what_moves_no_bytes_is_named_alone(doing: str) -> None:
    assert Meter().line({"doing": doing, "done": 0, "total": 0}, 1.0) == doing


def test_another_stage_is_measured_for_itself() -> None:
    meter = Meter()
    meter.line({"doing": "sending", "done": 0, "total": 10}, 0.0)
    meter.line({"doing": "sending", "done": 9, "total": 10}, 1.0)
    assert meter.line({"doing": "receiving", "done": 1, "total": 4}, 2.0) == "receiving 1 B of 4 B"


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), st.floats(0, 1e6))))
def test_whatever_a_backend_says_is_one_line(stages: list[tuple[int, int, float]]) -> None:
    meter = Meter()
    for done, total, now in stages:
        assert meter.line({"doing": "sending", "done": done, "total": total}, now).isprintable()
