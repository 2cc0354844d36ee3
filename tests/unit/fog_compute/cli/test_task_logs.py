"""The ends of a text that grows, put together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fog_compute.client.tails import grown


@given(st.lists(st.integers(0, 50), max_size=30))
def test_what_is_new_is_shown_once(steps: list[int]) -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    shown = seen = ""
    at = 0
    for step in steps:
        at += step
        tail = text[:at][-60:]
        shown += grown(seen, tail)
        seen = tail or seen
    assert shown == text[:at]


def test_an_end_that_has_nothing_of_the_one_before_is_all_new() -> None:
    assert grown("", "abc") == "abc"
    assert grown("abc", "abc") == ""
    assert grown("abc", "bcd") == "d"
    assert grown("abc", "xyz") == "xyz"
    assert grown("abc", "") == ""
