"""What to do next, as a pure function of what is known.

The planner compares the tasks that are open with what has been seen of them, and answers with
actions and the time to look again. It touches no network, store, clock or global randomness; the
:class:`~fog_compute.coordinator.dispatcher.Dispatcher` carries the actions out, one place for all.

Rules:

1. A queued or waiting task whose ``not_before`` has passed is leased if a worker fits.
2. An offered attempt is submitted, and submitted again, until the worker answers.
3. A session with attempts at its worker is polled when its time has come; never twice at once.
4. An open attempt whose lease has run out expires, but not while a submission is under way: each
   message of it has a deadline, and it may wait while others of its session upload; and not while
   the requester itself cannot hear.
5. What a worker may forget is said to it, until it has heard.
6. A task that no listed worker could take, even an idle one, for a good while is given up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

from fog_compute.coordinator.placement import Decision, Requirements
from fog_compute.tasks import Attempt, AttemptState, Task, TaskState

__all__ = [
    "Action",
    "Ask",
    "Assign",
    "AttemptView",
    "Expire",
    "GiveUp",
    "Placer",
    "Plan",
    "Send",
    "SessionView",
    "Tell",
    "View",
    "plan",
    "requirements_of",
]

HOPELESS: Final = timedelta(hours=1)
"""How long a task waits for a worker that could take it, while there are others."""

LEASED_AT_ONCE: Final = 64
"""Leases in one plan. The workers are looked at once for each, and once for each kind of need that
none of them meets; the rest of a long queue costs a look-up a task.
"""


class Placer(Protocol):
    """Chooses a worker; a pure function of its state, which no plan changes."""

    def __call__(self, requirements: Requirements, leased: Mapping[str, int]) -> Decision:
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
        tasks: open tasks by id, oldest first.
        attempts: open attempts by handle.
        sessions: sessions with attempts or with something to tell.
        lost_by: workers that lost a task before, by its id.
        refused_by: until when workers that refused a task are not asked again, by its id.
        hopeless_since: since when no listed worker could take a task, by its id.
    """

    now: datetime
    tasks: Mapping[str, Task]
    attempts: Mapping[str, AttemptView]
    sessions: Sequence[SessionView] = ()
    lost_by: Mapping[str, frozenset[str]] = field(default_factory=dict)
    refused_by: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    hopeless_since: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the task to the worker of the decision."""

    task_id: str
    decision: Decision


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


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No worker of the network could take the task for a good while: end it."""

    task_id: str
    reason: str


Action: TypeAlias = Assign | Send | Ask | Tell | Expire | GiveUp


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        actions: in the order to do them.
        wake_at: when time alone gives reason for a new plan; None if only events do.
        waiting: why each task that could run now is not leased.
        hopeless: those of them that no listed worker could take.
    """

    actions: tuple[Action, ...]
    wake_at: datetime | None
    waiting: Mapping[str, str] = field(default_factory=dict)
    hopeless: frozenset[str] = frozenset()


def plan(view: View, place: Placer) -> Plan:
    """Decide what to do now; equal arguments give equal plans."""
    draft = _Draft(view.now)
    for seen in view.attempts.values():
        _plan_attempt(draft, seen)
    for session in view.sessions:
        _plan_session(draft, session)
    _plan_leases(draft, view, place)
    return Plan(tuple(draft.actions), draft.wake_at, draft.waiting, frozenset(draft.hopeless))


def requirements_of(
    task: Task,
    *,
    avoid: frozenset[str] = frozenset(),
    refused_by: frozenset[str] = frozenset(),
) -> Requirements:
    """What a task needs of a worker."""
    spec = task.spec
    return Requirements(
        kind=spec.kind.value,
        memory_bytes=spec.limits.memory_bytes,
        privacy=spec.privacy,
        strategy=spec.strategy,
        module=spec.module,
        avoid=avoid,
        refused_by=refused_by,
    )


class _Draft:
    """A plan in the making."""

    __slots__ = ("actions", "hopeless", "now", "waiting", "wake_at")

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.actions: list[Action] = []
        self.wake_at: datetime | None = None
        self.waiting: dict[str, str] = {}
        self.hopeless: set[str] = set()

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


def _plan_leases(draft: _Draft, view: View, place: Placer) -> None:
    leased: Counter[str] = Counter()
    ready = [
        task
        for task in view.tasks.values()
        if task.state in (TaskState.QUEUED, TaskState.RETRY)
        and (task.not_before is None or draft.due(task.not_before))
    ]
    unmet: dict[Requirements, Decision] = {}
    for task in ready:
        if leased.total() == LEASED_AT_ONCE:
            draft.waiting[task.id] = "others are before it in the queue"
            continue
        lost_by = view.lost_by.get(task.id, frozenset())
        refused_by = frozenset(
            name for name, until in view.refused_by.get(task.id, {}).items() if not draft.due(until)
        )
        requirements = requirements_of(task, avoid=lost_by, refused_by=refused_by)
        need = requirements.need
        if need not in unmet:
            decision = place(requirements, leased)
            if decision.worker is not None:
                leased[decision.worker.name] += 1
                draft.actions.append(Assign(task.id, decision))
                continue
            # Leases only fill the workers up, so this plan finds no place for the like any more.
            unmet[need] = decision
        _plan_to_wait(draft, task, unmet[need], view.hopeless_since.get(task.id))


def _plan_to_wait(draft: _Draft, task: Task, decision: Decision, since: datetime | None) -> None:
    draft.waiting[task.id] = decision.explain()
    if not decision.hopeless:
        return
    draft.hopeless.add(task.id)
    if draft.due((since or draft.now) + HOPELESS):
        draft.actions.append(GiveUp(task.id, decision.explain()))
