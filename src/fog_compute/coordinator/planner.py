"""What to do next, as a function of what is known and of the time.

The planner looks at the attempts and sessions that are due or that something happened to, and
answers with what to do and the time to look again. It touches no network, store, clock or global
randomness; the :class:`~fog_compute.coordinator.dispatcher.Dispatcher` carries it out, one place
for all.

Rules:

1. A task that waits and is due is given to a worker that fits and has a place.
2. One that a worker with a place could take, but refused, is not looked at again for a while; if
   every worker there is refuses it or offers too little, for a good while, it is given up.
3. An offered attempt is submitted, and submitted again, until the worker answers.
4. A session with attempts at its worker is polled when its time has come; never twice at once.
5. An open attempt whose lease has run out expires, but not while a submission is under way: each
   message of it has a deadline, and it may wait while others of its session upload; and not while
   the requester itself cannot hear.
6. What a worker may forget is said to it, until it has heard.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.coordinator.agenda import Agenda
from fog_compute.coordinator.attempts import OpenAttempt
from fog_compute.coordinator.phases import Deed, PhaseEvent
from fog_compute.coordinator.placement import Decision, Requirements, WorkerView
from fog_compute.coordinator.sessions import Errand, Planned, Session
from fog_compute.store import Failed, Leased, Parked
from fog_compute.tasks import Attempt, AttemptState, Task, TaskSpec
from fog_compute.vpn.directory import TaskLimits

__all__ = [
    "Placed",
    "Placer",
    "Plan",
    "place_waiting",
    "plan",
    "reason_to_give_up",
    "requirements_of",
]

HOPELESS: Final = timedelta(hours=1)
"""How long a task waits for a worker that could take it, while there are others."""

REFUSED: Final = Backoff(10, 600)

_AVOIDED: Final = (
    AttemptState.LOST,
    AttemptState.EXPIRED,
    AttemptState.DECLINED,
    AttemptState.FAILED,
)
"""Who ended a task's attempt so is asked again only if nobody else fits."""

PARKED: Final = timedelta(seconds=1)
PARKED_MAX: Final = timedelta(seconds=30)
"""Pause before a task is looked at again that nobody could take: as long as it was so till then."""


class Placer(Protocol):
    """Chooses a worker; a pure function of its state, which no plan changes."""

    def __call__(self, requirements: Requirements, *, leased: Mapping[str, int]) -> Decision:
        """Choose, with the leases of this plan counted on top of what the placer knows."""
        ...


Lease: TypeAlias = Callable[[Task, WorkerView, str], Leased]
"""Gives a task to a worker for a reason: draws the handle, sets the time."""

Placed: TypeAlias = Leased | Parked | Failed
"""What becomes of a task that waits: a worker has it, nobody can now, or nobody ever could."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in this order; the records know already that it is begun.

    Attributes:
        attempts: what to do for attempts.
        sessions: what to do for sessions.
        wake_at: when time alone gives reason for a new plan; None if only events do.
    """

    attempts: tuple[tuple[Deed, OpenAttempt], ...]
    sessions: tuple[tuple[Errand, Session], ...]
    wake_at: datetime | None

    def __bool__(self) -> bool:
        """Whether there is anything to do now."""
        return bool(self.attempts or self.sessions)


def plan(
    agenda: Agenda[Planned],
    now: datetime,
    deaf: Callable[[OpenAttempt], bool],
    happen: Callable[[OpenAttempt, PhaseEvent], Sequence[Deed]],
) -> Plan:
    """Look at what is due or was touched, and decide.

    Args:
        agenda: all that is open.
        now: the time.
        deaf: whether an attempt's worker could not be heard now, through the requester's own
            trouble. Whoever says so touches the attempt when that is over.
        happen: lets an attempt follow an event, and says what is to be done.
    """
    attempts: list[tuple[Deed, OpenAttempt]] = []
    sessions: list[tuple[Errand, Session]] = []

    def look(thing: Planned) -> datetime | None:
        if isinstance(thing, OpenAttempt):
            due = thing.due(now, deaf=deaf(thing))
            if not isinstance(due, PhaseEvent):
                return due
            attempts.extend((deed, thing) for deed in happen(thing, due))
            return None
        errands, due_at = thing.due(now)
        for errand in errands:
            thing.begin(errand)
            sessions.append((errand, thing))
        return due_at

    wake_at = agenda.round(now, look)
    return Plan(tuple(attempts), tuple(sessions), wake_at)


def place_waiting(
    now: datetime, waiting: Sequence[tuple[Task, Sequence[Attempt]]], place: Placer, lease: Lease
) -> list[Placed]:
    """Decide for tasks that wait; those that found the places taken by others are left out."""
    placed: list[Placed] = []
    leased: Counter[str] = Counter()
    for task, attempts in waiting:
        refusals = refusals_of(attempts)
        needed = requirements_of(task, attempts, now)
        decision = place(needed, leased=leased)
        if decision.worker is not None:
            leased[decision.worker.name] += 1
            placed.append(lease(task, decision.worker, decision.explain()))
        elif not decision.hopeless:
            if not leased or needed.refused_by:
                placed.append(Parked(task.id, now + PARKED, None))
        elif now >= (task.hopeless_since or now) + HOPELESS:
            placed.append(Failed(task.id, reason_to_give_up(task, decision)))
        else:
            since = task.hopeless_since or now
            again = now + min(max(now - since, PARKED), PARKED_MAX)
            asked_again = (until for until in refusals.values() if until > now)
            until = min(again, since + HOPELESS, *asked_again)
            placed.append(Parked(task.id, until, since))
    return placed


def requirements_of(task: Task, attempts: Sequence[Attempt], now: datetime) -> Requirements:
    """What a task needs of a worker, after what became of its attempts so far."""
    refusals = refusals_of(attempts)
    ended = (one for one in attempts if one.state in _AVOIDED)
    return dataclasses.replace(
        needs_of(task.spec),
        avoid=frozenset(one.worker for one in ended if one.worker not in refusals),
        refused_by=frozenset(name for name, until in refusals.items() if until > now),
    )


def needs_of(spec: TaskSpec) -> Requirements:
    """What a task needs of its first worker."""
    return Requirements(
        kind=spec.kind.value,
        memory_bytes=spec.limits.memory_bytes,
        privacy=spec.privacy,
        strategy=spec.strategy,
        module=spec.module,
        groups=frozenset((spec.group,)),
        limits=TaskLimits(spec.limits.wall_s, spec.limits.scratch_bytes, spec.limits.output_bytes),
    )


def refusals_of(attempts: Sequence[Attempt]) -> Mapping[str, datetime]:
    """Until when each worker that refused a task is not asked for it: longer with each refusal."""
    until: dict[str, datetime] = {}
    times: Counter[str] = Counter()
    for attempt in attempts:
        if attempt.refused:
            until[attempt.worker] = attempt.updated_at + REFUSED.delay(times[attempt.worker])
            times[attempt.worker] += 1
    return until


def reason_to_give_up(task: Task, decision: Decision) -> str:
    """Why a task ends that no worker could take."""
    last = f"; {task.reason}" if task.reason else ""
    return f"{decision.explain()}{last}; it waited for another worker for an hour"
