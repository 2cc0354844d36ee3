"""What to do next, as a pure function of what is known.

The planner compares the tasks that are open with what has been seen of them, and answers with
actions and the time to look again. It touches no network, store, clock or global randomness; the
:class:`~fog_compute.coordinator.dispatcher.Dispatcher` carries the actions out, one place for all.

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

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.coordinator.placement import Decision, Requirements, WorkerView
from fog_compute.store import Waiting
from fog_compute.tasks import Attempt, AttemptState, Task

__all__ = [
    "Action",
    "Ask",
    "Assign",
    "AttemptView",
    "Expire",
    "GiveUp",
    "Park",
    "Placement",
    "Placer",
    "Plan",
    "Send",
    "SessionView",
    "Tell",
    "View",
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


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An open attempt as the coordinator sees it.

    Attributes:
        attempt: its record.
        busy: whether it is being submitted, or given up.
        submit_at: when to submit next; only looked at while the worker has not confirmed.
        deaf: whether nobody could be heard now, through the requester's own trouble.
    """

    attempt: Attempt
    busy: bool
    submit_at: datetime
    deaf: bool = False


@dataclass(frozen=True, slots=True)
class SessionView:
    """All attempts that share one worker and one key.

    Attributes:
        key: names the session inside this process.
        handles: confirmed attempts, the ones to poll for.
        polling: whether a poll is under way.
        poll_at: when to poll next.
        forget: handles of which the worker has not yet heard that it may forget them.
        telling: whether such a message is under way.
        tell_at: when to send it next.
    """

    key: str
    handles: tuple[str, ...]
    polling: bool
    poll_at: datetime
    forget: tuple[str, ...] = ()
    telling: bool = False
    tell_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a plan depends on, except the placer.

    Attributes:
        now: the time.
        attempts: open attempts by handle.
        sessions: sessions with attempts or with something to tell.
    """

    now: datetime
    attempts: Mapping[str, AttemptView]
    sessions: Sequence[SessionView] = ()


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the task to a worker, for this reason."""

    task_id: str
    worker: WorkerView
    reason: str


@dataclass(frozen=True, slots=True)
class Park:
    """Look at the task again at a later time: nobody can take it now."""

    task_id: str
    until: datetime
    hopeless_since: datetime | None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No worker of the network could take the task for a good while: end it."""

    task_id: str
    reason: str


Placement: TypeAlias = Assign | Park | GiveUp


@dataclass(frozen=True, slots=True)
class Send:
    """Send the attempt to its worker."""

    handle: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the session's worker for news of all its attempts."""

    session: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the session's worker what it may forget."""

    session: str


@dataclass(frozen=True, slots=True)
class Expire:
    """The worker was silent for longer than the lease: try elsewhere."""

    handle: str


Action: TypeAlias = Send | Ask | Tell | Expire


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        actions: in the order to do them.
        wake_at: when time alone gives reason for a new plan; None if only events do.
    """

    actions: tuple[Action, ...]
    wake_at: datetime | None


def plan(view: View) -> Plan:
    """Decide what to do now; equal arguments give equal plans."""
    draft = _Draft(view.now)
    for seen in view.attempts.values():
        _plan_attempt(draft, seen)
    for session in view.sessions:
        _plan_session(draft, session)
    return Plan(tuple(draft.actions), draft.wake_at)


class _Draft:
    """A plan in the making."""

    __slots__ = ("actions", "now", "wake_at")

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.actions: list[Action] = []
        self.wake_at: datetime | None = None

    def due(self, at: datetime) -> bool:
        """Whether the time has come; if not, the plan asks to be made again then."""
        if at <= self.now:
            return True
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at
        return False


def _plan_attempt(draft: _Draft, seen: AttemptView) -> None:
    attempt = seen.attempt
    if not seen.deaf and draft.due(attempt.lease_until):
        if not seen.busy:
            draft.actions.append(Expire(attempt.handle))
        return
    if attempt.state is AttemptState.OFFERED and not seen.busy and draft.due(seen.submit_at):
        draft.actions.append(Send(attempt.handle))


def _plan_session(draft: _Draft, session: SessionView) -> None:
    if session.handles and not session.polling and draft.due(session.poll_at):
        draft.actions.append(Ask(session.key))
    if (
        session.forget
        and not session.telling
        and (session.tell_at is None or draft.due(session.tell_at))
    ):
        draft.actions.append(Tell(session.key))


def place_waiting(now: datetime, waiting: Sequence[Waiting], place: Placer) -> list[Placement]:
    """Decide for tasks that wait; those that found the places taken by others are left out."""
    placed: list[Placement] = []
    leased: Counter[str] = Counter()
    for one in waiting:
        task, refusals = one.task, refusals_of(one.attempts)
        needed = requirements_of(task, one.attempts, now)
        decision = place(needed, leased=leased)
        if decision.worker is not None:
            leased[decision.worker.name] += 1
            placed.append(Assign(task.id, decision.worker, decision.explain()))
        elif not decision.hopeless:
            if not leased or needed.refused_by:
                placed.append(Park(task.id, now + PARKED, None))
        elif now >= (task.hopeless_since or now) + HOPELESS:
            placed.append(GiveUp(task.id, reason_to_give_up(task, decision)))
        else:
            since = task.hopeless_since or now
            again = now + min(max(now - since, PARKED), PARKED_MAX)
            asked_again = (until for until in refusals.values() if until > now)
            until = min(again, since + HOPELESS, *asked_again)
            placed.append(Park(task.id, until, since))
    return placed


def requirements_of(task: Task, attempts: Sequence[Attempt], now: datetime) -> Requirements:
    """What a task needs of a worker, after what became of its attempts so far."""
    spec = task.spec
    refusals = refusals_of(attempts)
    ended = (one for one in attempts if one.state in _AVOIDED)
    return Requirements(
        kind=spec.kind.value,
        memory_bytes=spec.limits.memory_bytes,
        privacy=spec.privacy,
        strategy=spec.strategy,
        module=spec.module,
        groups=frozenset((spec.group,)),
        avoid=frozenset(one.worker for one in ended if one.worker not in refusals),
        refused_by=frozenset(name for name, until in refusals.items() if until > now),
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
