"""The one record of an open attempt: its rows, what is being said about it, and how far it came."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.coordinator.phases import Deed, Phase, PhaseEvent, step
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import Attempt, AttemptState, Task
from fog_compute.tasks.assembly import ResultAssembler

__all__ = ["Doing", "OpenAttempt", "Stage"]

RESUBMIT: Final = Backoff(0.25, 10)


class Doing(enum.StrEnum):
    """What is being done for a task that is with a worker."""

    SENDING = "sending"
    COMPILING = "compiling"
    RUNNING = "running"
    RECEIVING = "receiving"


@dataclass(frozen=True, slots=True)
class Stage:
    """What is being done, and of what is sent or received: bytes, of how many."""

    doing: Doing
    done: int = 0
    total: int = 0


@dataclass(slots=True, eq=False)
class OpenAttempt:
    """All that this process knows of an attempt that is open; it ends with it.

    Attributes:
        task: its task's row, as the store has it.
        row: its own.
        lease_until: when its worker was silent for too long; longer than the row's.
        phase: what is being said about it.
        submit_at: when to submit it next, while its row is offered; None for at once.
        sent: submissions since its worker was warned.
        failures: submissions without an answer to the point.
        trouble: what went wrong last, in one line.
        since: when its worker took it, or when listening for it began anew; None before.
        running_since: when its worker first said that it runs, or that it has finished.
        finished: whether its worker ever said that it has finished.
        compiling: whether its worker said at last that it compiles the module.
        assembler: what is here of its result.
        total: how long its result is.
        most: how much of a result was ever here.
        log_tail: the last bytes that the task wrote, as far as its worker told.
    """

    task: Task
    row: Attempt
    lease_until: datetime
    phase: Phase = Phase.RESTING
    submit_at: datetime | None = None
    sent: int = 0
    failures: int = 0
    trouble: str = ""
    since: datetime | None = None
    running_since: datetime | None = None
    finished: bool = False
    compiling: bool = False
    assembler: ResultAssembler = field(init=False)
    total: int = 0
    most: int = 0
    log_tail: bytes = b""

    def __post_init__(self) -> None:
        """Take no more of a result than its task may bring."""
        self.assembler = ResultAssembler(self.task.spec.limits)

    @property
    def handle(self) -> str:
        """What its worker knows it by."""
        return self.row.handle

    @property
    def level(self) -> PrivacyLevel:
        """Its task's level."""
        return self.task.spec.privacy

    @property
    def over(self) -> bool:
        """Whether its row has ended."""
        return self.phase is Phase.OVER

    def happen(
        self, event: PhaseEvent, now: datetime, lease: timedelta, last: timedelta
    ) -> tuple[Deed, ...]:
        """Follow an event; return what others have to do for it.

        Args:
            event: what happened.
            now: the time.
            lease: how long a whole lease is.
            last: how long a worker that is warned has to answer.

        Raises:
            UnexpectedEvent: that cannot happen to it now.
        """
        self.phase, deeds = step(self.phase, event)
        if Deed.RENEW in deeds:
            self.lease_until = now + lease
        if Deed.PAUSE in deeds:
            self.submit_at = now + RESUBMIT.delay(self.sent)
            self.sent += 1
        if Deed.WARN in deeds:
            self.lease_until = now + last
            self.submit_at, self.sent = None, 0
        return deeds

    def due(self, now: datetime, *, deaf: bool) -> PhaseEvent | datetime | None:
        """What its time has come for now, or when it comes; None if only an event can change that.

        While nobody could be heard (``deaf``), no lease runs out.
        """
        if self.phase not in (Phase.RESTING, Phase.WARNED):
            return None  # what is under way says when it is over
        times = []
        if not deaf:
            if self.lease_until <= now:
                return PhaseEvent.LEASE_OUT
            times.append(self.lease_until)
        if self.row.state is AttemptState.OFFERED:
            if self.submit_at is None or self.submit_at <= now:
                return PhaseEvent.SUBMIT_DUE
            times.append(self.submit_at)
        return min(times, default=None)

    def follow(self, now: datetime) -> bool:
        """Its worker confirmed it; return whether that is new."""
        new = self.since is None
        if new:
            self.since = now
        return new

    def count_anew(self, now: datetime) -> None:
        """Let it not answer for the time until now, in which nobody listened."""
        self.running_since = None
        if self.since is not None:
            self.since = now

    @property
    def missing(self) -> int:
        """Bytes of a finished result that are still at the worker."""
        return max(0, self.total - self.assembler.here)

    @property
    def stage(self) -> Stage | None:
        """What its worker was doing when it last told; None while it waits for a slot there."""
        if self.finished:
            return Stage(Doing.RECEIVING, self.assembler.here, self.total)
        if self.compiling:
            return Stage(Doing.COMPILING)
        return None if self.running_since is None else Stage(Doing.RUNNING)
