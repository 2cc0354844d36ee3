"""The table of what is said about an open attempt."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.coordinator.phases import (
    PHASES,
    Deed,
    Phase,
    PhaseEvent,
    UnexpectedEvent,
    step,
)

UNDER_WAY = {
    Phase.SUBMITTING: Deed.SUBMIT,
    Phase.RESUBMITTING: Deed.SUBMIT,
    Phase.CHECKING: Deed.CHECK,
    Phase.CONDEMNING: Deed.CHECK,
}
TIMED = {PhaseEvent.SUBMIT_DUE, PhaseEvent.LEASE_OUT}


@pytest.mark.parametrize(("phase", "event"), [*itertools.product(Phase, PhaseEvent)])
def test_every_pair_is_in_the_table_or_refused_by_name(phase: Phase, event: PhaseEvent) -> None:
    """INV-TASK-122."""
    if event in PHASES[phase]:
        after, deeds = step(phase, event)
        assert (after is Phase.OVER) == (phase is Phase.OVER or event is PhaseEvent.ENDED)
        assert after is not Phase.OVER or not deeds
    else:
        with pytest.raises(UnexpectedEvent, match=f"{phase} does not allow {event}"):
            step(phase, event)


def test_every_phase_hears_and_ends_and_time_comes_only_where_nothing_is_under_way() -> None:
    """INV-TASK-122."""
    for phase, lines in PHASES.items():
        assert {PhaseEvent.HEARD, PhaseEvent.ENDED} <= lines.keys()
        resting = phase in (Phase.RESTING, Phase.WARNED)
        assert lines.keys() >= TIMED if resting else not TIMED & lines.keys()
        assert (PhaseEvent.SPOKEN in lines) == (not resting)


@given(st.lists(st.sampled_from(sorted(PhaseEvent)), max_size=60))
def test_no_try_is_taken_from_who_was_heard_and_one_thing_is_under_way(
    events: list[PhaseEvent],
) -> None:
    """INV-TASK-122: two silences with nothing heard between them, the network there at both."""
    phase, silences, under_way = Phase.RESTING, 0, False
    for event in events:
        try:
            after, deeds = step(phase, event)
        except UnexpectedEvent:
            continue
        begun = [deed for deed in deeds if deed in (Deed.SUBMIT, Deed.CHECK)]
        assert begun == ([UNDER_WAY[after]] if begun else [])
        if event in TIMED:
            assert not under_way
            under_way = True
        if event in (PhaseEvent.SPOKEN, PhaseEvent.REACHED, PhaseEvent.UNREACHED):
            under_way = False
        if event is PhaseEvent.HEARD:
            silences = 0
            assert phase is Phase.OVER or deeds == (Deed.RENEW,)
        if event is PhaseEvent.REACHED and phase in (Phase.CHECKING, Phase.CONDEMNING):
            silences += 1
        if Deed.EXPIRE in deeds:
            assert silences >= 2
        phase = after
