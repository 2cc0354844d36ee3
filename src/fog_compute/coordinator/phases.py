"""What is being said about an open attempt: one table of phases, events and deeds.

The rows have their own table (`fog_compute.tasks.model`): it says what a worker was heard to say,
and survives a restart. A phase is what this process is in the middle of; a restart begins in the
first one. The two meet in :meth:`~fog_compute.coordinator.attempts.OpenAttempt.due`: only a row
that is *offered* is submitted, and what ends a row ends its phase.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from fog_compute.errors import FogError

__all__ = ["PHASES", "Deed", "Phase", "PhaseEvent", "Step", "UnexpectedEvent", "step"]


class UnexpectedEvent(FogError):
    """An event that cannot happen to an attempt in its phase."""


class Phase(enum.StrEnum):
    """What is going on between the coordinator and an attempt's worker."""

    RESTING = "resting"  # nothing; it is submitted, or its lease runs out, when its time comes
    SUBMITTING = "submitting"
    CHECKING = "checking"  # silent for a lease: can its worker be asked at all?
    RELIEVED = "relieved"  # heard while that is being found out
    WARNED = "warned"  # as resting, but silent once already: it is asked once more
    RESUBMITTING = "resubmitting"  # as submitting, warned
    CONDEMNING = "condemning"  # as checking, warned
    OVER = "over"  # its row has ended; what still comes changes nothing


class PhaseEvent(enum.StrEnum):
    """What can happen to an open attempt."""

    SUBMIT_DUE = "submit_due"  # the time to submit it has come
    LEASE_OUT = "lease_out"  # nothing was heard for a lease
    ANSWERLESS = "answerless"  # it was submitted as often as may be, without an answer to the point
    SPOKEN = "spoken"  # what was under way about it is over
    REACHED = "reached"  # the network takes messages for its worker
    UNREACHED = "unreached"  # it takes none
    HEARD = "heard"  # a sign of life, or its silence was none of its own
    SPARED = "spared"  # it takes time to send to it, or nothing was: no silence, nor a word of it
    ENDED = "ended"  # its row has ended


class Deed(enum.StrEnum):
    """What follows at once."""

    SUBMIT = "submit"
    CHECK = "check"  # find out whether its worker can be asked
    PAUSE = "pause"  # the next submission waits, longer each time
    RENEW = "renew"  # a whole lease from now on
    WARN = "warn"  # as long as any answer may take; it is asked at once
    EXPIRE = "expire"  # give the task to another; that used up a try
    RETURN = "return"  # the same without a try: nobody could ask


Step: TypeAlias = tuple[Phase, tuple[Deed, ...]]

_LATE: Final[Mapping[PhaseEvent, Step]] = MappingProxyType(
    {
        event: (Phase.OVER, ())
        for event in PhaseEvent
        if event not in (PhaseEvent.SUBMIT_DUE, PhaseEvent.LEASE_OUT)
    }
)

PHASES: Final[Mapping[Phase, Mapping[PhaseEvent, Step]]] = MappingProxyType(
    {
        Phase.RESTING: {
            PhaseEvent.SUBMIT_DUE: (Phase.SUBMITTING, (Deed.SUBMIT,)),
            PhaseEvent.LEASE_OUT: (Phase.CHECKING, (Deed.CHECK,)),
            PhaseEvent.HEARD: (Phase.RESTING, (Deed.RENEW,)),
            PhaseEvent.SPARED: (Phase.RESTING, (Deed.RENEW,)),
            PhaseEvent.ENDED: (Phase.OVER, ()),
        },
        Phase.SUBMITTING: {
            PhaseEvent.ANSWERLESS: (Phase.CHECKING, (Deed.PAUSE, Deed.CHECK)),
            PhaseEvent.SPOKEN: (Phase.RESTING, (Deed.PAUSE,)),
            PhaseEvent.HEARD: (Phase.SUBMITTING, (Deed.RENEW,)),
            PhaseEvent.SPARED: (Phase.SUBMITTING, (Deed.RENEW,)),
            PhaseEvent.ENDED: (Phase.OVER, ()),
        },
        Phase.CHECKING: {
            PhaseEvent.REACHED: (Phase.WARNED, (Deed.WARN,)),
            PhaseEvent.UNREACHED: (Phase.RESTING, (Deed.RETURN,)),
            PhaseEvent.SPOKEN: (Phase.RESTING, ()),
            PhaseEvent.HEARD: (Phase.RELIEVED, (Deed.RENEW,)),
            PhaseEvent.SPARED: (Phase.CHECKING, ()),
            PhaseEvent.ENDED: (Phase.OVER, ()),
        },
        Phase.RELIEVED: {
            PhaseEvent.REACHED: (Phase.RESTING, ()),
            PhaseEvent.UNREACHED: (Phase.RESTING, ()),
            PhaseEvent.SPOKEN: (Phase.RESTING, ()),
            PhaseEvent.HEARD: (Phase.RELIEVED, (Deed.RENEW,)),
            PhaseEvent.SPARED: (Phase.RELIEVED, ()),
            PhaseEvent.ENDED: (Phase.OVER, ()),
        },
        Phase.WARNED: {
            PhaseEvent.SUBMIT_DUE: (Phase.RESUBMITTING, (Deed.SUBMIT,)),
            PhaseEvent.LEASE_OUT: (Phase.CONDEMNING, (Deed.CHECK,)),
            PhaseEvent.HEARD: (Phase.RESTING, (Deed.RENEW,)),
            PhaseEvent.SPARED: (Phase.WARNED, (Deed.RENEW,)),
            PhaseEvent.ENDED: (Phase.OVER, ()),
        },
        Phase.RESUBMITTING: {
            PhaseEvent.ANSWERLESS: (Phase.CONDEMNING, (Deed.PAUSE, Deed.CHECK)),
            PhaseEvent.SPOKEN: (Phase.WARNED, (Deed.PAUSE,)),
            PhaseEvent.HEARD: (Phase.SUBMITTING, (Deed.RENEW,)),
            PhaseEvent.SPARED: (Phase.RESUBMITTING, (Deed.RENEW,)),
            PhaseEvent.ENDED: (Phase.OVER, ()),
        },
        Phase.CONDEMNING: {
            PhaseEvent.REACHED: (Phase.WARNED, (Deed.EXPIRE,)),
            PhaseEvent.UNREACHED: (Phase.WARNED, (Deed.RETURN,)),
            PhaseEvent.SPOKEN: (Phase.WARNED, ()),
            PhaseEvent.HEARD: (Phase.RELIEVED, (Deed.RENEW,)),
            PhaseEvent.SPARED: (Phase.CONDEMNING, ()),
            PhaseEvent.ENDED: (Phase.OVER, ()),
        },
        Phase.OVER: _LATE,
    }
)


def step(phase: Phase, event: PhaseEvent) -> Step:
    """Return the phase that follows, and what is to be done at once.

    Raises:
        UnexpectedEvent: the table has no such line.
    """
    try:
        return PHASES[phase][event]
    except KeyError:
        raise UnexpectedEvent(f"an attempt that is {phase} does not allow {event}") from None
