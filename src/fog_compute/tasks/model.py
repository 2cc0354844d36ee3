"""Tasks and attempts: their records and the tables of their states.

Rules, in one place:

1. A task is one unit of work; an attempt is one try of it on one worker, in a record of its own.
2. A task has at most one open attempt, named by its handle in ``Task.attempt``.
3. Only `transition` and `transition_attempt` compute a next state, and only from the tables below.
4. Final states have no way out, so nothing is accepted, failed or cancelled twice.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from fog_compute.errors import FogError, InvalidTask
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.tasks.environment import check_env
from fog_compute.tasks.folder import check_guest_path, check_tree
from fog_compute.tasks.ids import seed_of
from fog_compute.tasks.runtimes import script_name
from fog_compute.text import one_line
from fog_compute.units import KIB, MIB, format_bytes

MAX_ARGV_BYTES: Final = 64 * KIB
MAX_ARGUMENTS: Final = 4096
MAX_OUTPUT_BYTES: Final = 256 * MIB
"""Bytes at most of standard output, of standard error, and of all files that come back."""

DETAIL_LENGTH: Final = 400
"""Characters of the one line that says what a module did wrong."""

REASON_LENGTH: Final = 1000
"""Characters of the one line that says why a task or an attempt is as it is."""

INPUT_BYTES: Final = 256 * MIB
"""What module, standard input and input files of a task may have together, sealed."""

_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class InvalidTransition(FogError):
    """An event that the present state does not allow."""


class TaskKind(enum.StrEnum):
    """What a module is."""

    WASM = "wasm"  # a WASI command
    PYTHON = "python"  # a script


class TaskState(enum.StrEnum):
    """Where a task stands, from the requester's side."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    REPORTED = "reported"
    ACCEPTED = "accepted"
    RETRY = "retry"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when no event can change this state."""
        return not TRANSITIONS[self]

    @property
    def said(self) -> str:
        """What is so in this state, as a sentence about the task."""
        return _SAID[self]


_SAID: Final[Mapping[TaskState, str]] = MappingProxyType(
    {
        TaskState.QUEUED: "it waits for a worker",
        TaskState.LEASED: "a worker has it",
        TaskState.RUNNING: "it runs",
        TaskState.REPORTED: "its result has just come",
        TaskState.ACCEPTED: "it is done",
        TaskState.RETRY: "it waits for another try",
        TaskState.FAILED: "it failed",
        TaskState.CANCELLED: "it was cancelled",
    }
)


class TaskEvent(enum.StrEnum):
    """What can happen to a task."""

    LEASE = "lease"  # an attempt was drawn and given to a worker
    START = "start"  # the worker says that it runs
    REPORT = "report"  # the whole result was pulled from the worker
    ACCEPT = "accept"  # the result was believed
    RELEASE = "release"  # the worker declined, or gave it back: that is no try
    RETRY = "retry"  # the attempt came to nothing: lost or expired
    FAIL = "fail"  # the module is at fault, or tries ran out
    CANCEL = "cancel"  # the requester no longer wants it


TRANSITIONS: Final[Mapping[TaskState, Mapping[TaskEvent, TaskState]]] = MappingProxyType(
    {
        TaskState.QUEUED: {
            TaskEvent.LEASE: TaskState.LEASED,
            TaskEvent.FAIL: TaskState.FAILED,
            TaskEvent.CANCEL: TaskState.CANCELLED,
        },
        TaskState.LEASED: {
            TaskEvent.START: TaskState.RUNNING,
            TaskEvent.REPORT: TaskState.REPORTED,
            TaskEvent.RELEASE: TaskState.QUEUED,
            TaskEvent.RETRY: TaskState.RETRY,
            TaskEvent.FAIL: TaskState.FAILED,
            TaskEvent.CANCEL: TaskState.CANCELLED,
        },
        TaskState.RUNNING: {
            TaskEvent.REPORT: TaskState.REPORTED,
            TaskEvent.RELEASE: TaskState.QUEUED,
            TaskEvent.RETRY: TaskState.RETRY,
            TaskEvent.FAIL: TaskState.FAILED,
            TaskEvent.CANCEL: TaskState.CANCELLED,
        },
        TaskState.REPORTED: {
            TaskEvent.ACCEPT: TaskState.ACCEPTED,
            TaskEvent.RETRY: TaskState.RETRY,
            TaskEvent.FAIL: TaskState.FAILED,
            TaskEvent.CANCEL: TaskState.CANCELLED,
        },
        TaskState.RETRY: {
            TaskEvent.LEASE: TaskState.LEASED,
            TaskEvent.FAIL: TaskState.FAILED,
            TaskEvent.CANCEL: TaskState.CANCELLED,
        },
        TaskState.ACCEPTED: {},
        TaskState.FAILED: {},
        TaskState.CANCELLED: {},
    }
)


class AttemptState(enum.StrEnum):
    """Where one try stands, as far as the coordinator knows."""

    OFFERED = "offered"  # the handle is drawn; the worker has not confirmed it
    HELD = "held"  # the worker has it and waits for a slot
    RUNNING = "running"
    REPORTED = "reported"
    SETTLED = "settled"  # its result is the task's result
    FAILED = "failed"
    LOST = "lost"  # the worker or its runner lost it
    EXPIRED = "expired"  # silence for longer than the lease
    DECLINED = "declined"  # the worker would not take it, or gave it back
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when no event can change this state."""
        return not ATTEMPT_TRANSITIONS[self]


class AttemptEvent(enum.StrEnum):
    """What can happen to an attempt."""

    HOLD = "hold"
    START = "start"
    REPORT = "report"
    SETTLE = "settle"
    FAIL = "fail"
    LOSE = "lose"
    EXPIRE = "expire"
    DECLINE = "decline"
    CANCEL = "cancel"


_ATTEMPT_ENDS: Final = MappingProxyType(
    {
        AttemptEvent.FAIL: AttemptState.FAILED,
        AttemptEvent.LOSE: AttemptState.LOST,
        AttemptEvent.EXPIRE: AttemptState.EXPIRED,
        AttemptEvent.CANCEL: AttemptState.CANCELLED,
    }
)

ATTEMPT_TRANSITIONS: Final[Mapping[AttemptState, Mapping[AttemptEvent, AttemptState]]] = (
    MappingProxyType(
        {
            AttemptState.OFFERED: {
                AttemptEvent.HOLD: AttemptState.HELD,
                AttemptEvent.START: AttemptState.RUNNING,
                AttemptEvent.REPORT: AttemptState.REPORTED,
                AttemptEvent.DECLINE: AttemptState.DECLINED,
                **_ATTEMPT_ENDS,
            },
            AttemptState.HELD: {
                AttemptEvent.START: AttemptState.RUNNING,
                AttemptEvent.REPORT: AttemptState.REPORTED,
                AttemptEvent.DECLINE: AttemptState.DECLINED,
                **_ATTEMPT_ENDS,
            },
            AttemptState.RUNNING: {
                AttemptEvent.REPORT: AttemptState.REPORTED,
                AttemptEvent.DECLINE: AttemptState.DECLINED,
                **_ATTEMPT_ENDS,
            },
            AttemptState.REPORTED: {
                AttemptEvent.SETTLE: AttemptState.SETTLED,
                **_ATTEMPT_ENDS,
            },
            AttemptState.SETTLED: {},
            AttemptState.FAILED: {},
            AttemptState.LOST: {},
            AttemptState.EXPIRED: {},
            AttemptState.DECLINED: {},
            AttemptState.CANCELLED: {},
        }
    )
)

WAITING_TASK_STATES: Final = frozenset(
    s for s, out in TRANSITIONS.items() if TaskEvent.LEASE in out
)
"""States in which a task waits for a worker: no attempt of it is open."""

HELD_TASK_STATES: Final = frozenset(s for s, out in TRANSITIONS.items() if out) - (
    WAITING_TASK_STATES
)
"""States in which a task has an open attempt."""

OPEN_ATTEMPT_STATES: Final = frozenset(s for s, out in ATTEMPT_TRANSITIONS.items() if out)


def transition(state: TaskState, event: TaskEvent) -> TaskState:
    """Return the state that follows, or raise `InvalidTransition`."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise InvalidTransition(f"a task that is {state} does not allow {event}") from None


def transition_attempt(state: AttemptState, event: AttemptEvent) -> AttemptState:
    """Return the state that follows, or raise `InvalidTransition`."""
    try:
        return ATTEMPT_TRANSITIONS[state][event]
    except KeyError:
        raise InvalidTransition(f"an attempt that is {state} does not allow {event}") from None


class Fault(enum.StrEnum):
    """What a module did wrong.  A non-zero exit code is a result and no fault."""

    NOT_WASM = "not_wasm"
    MISSING_IMPORT = "missing_import"
    NO_START = "no_start"  # WebAssembly, but no command
    TRAP = "trap"
    OUT_OF_FUEL = "out_of_fuel"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    OUTPUT_LIMIT = "output_limit"
    SCRATCH_LIMIT = "scratch_limit"
    BAD_INPUT = "bad_input"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one attempt may use.  Fuel is counted by wasmtime: a tight loop burns 7·10⁹ a second."""

    memory_bytes: int = 256 * MIB
    fuel: int = 500_000_000_000
    wall_s: float = 60.0
    output_bytes: int = (
        64 * MIB
    )  # standard output, standard error, files in out/: each of the three
    scratch_bytes: int = 256 * MIB  # the working directory, with the inputs' copies and out/

    def __post_init__(self) -> None:
        """Refuse values that no worker could honour."""
        for name, low, high in (
            ("memory_bytes", 64 * KIB, 4096 * MIB),
            ("fuel", 1, 2**62),
            ("output_bytes", 0, MAX_OUTPUT_BYTES),
            ("scratch_bytes", 0, 4096 * MIB),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                said = f"`limits.{name}` is {value}: give {low} to {high}"
                if name != "fuel":
                    said += f" ({format_bytes(low)} to {format_bytes(high)})"
                raise InvalidTask(said)
        if not 0.001 <= self.wall_s <= 7 * 86400:
            raise InvalidTask(f"`limits.wall_s` is {self.wall_s}: give 0.001 to 604800 seconds")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What to run.  Blobs (module, standard input, inputs) are named by their SHA-256, in hex."""

    module: str
    kind: TaskKind = TaskKind.WASM
    argv: tuple[str, ...] = ()  # without the program's own name
    env: Mapping[str, str] = field(default_factory=dict)  # all that the program finds
    stdin: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)  # guest path, relative -> blob
    limits: Limits = field(default_factory=Limits)
    privacy: PrivacyLevel = PrivacyLevel.PRIVATE
    max_attempts: int = 3
    seed: str | None = None  # SHA-256 in hex; None: from the task's id
    strategy: Strategy | None = None  # None: by the coordinator's setting, then the level
    group: str = ""  # whose workers may run it; "": those of the fog's first group

    def __post_init__(self) -> None:
        """Refuse what cannot be run, naming the field."""
        check_sha256("`module`", self.module)
        if self.stdin is not None:
            check_sha256("`stdin`", self.stdin)
        for path, digest in self.inputs.items():
            check_guest_path(path)
            check_sha256(f"`inputs` at {one_line(repr(path), 80)}", digest)
        check_tree(self.inputs)
        if self.kind is TaskKind.PYTHON:
            script_name(self.module, self.inputs)
        check_argv(self.argv)
        check_env(self.env)
        if self.seed is not None:
            check_sha256("`seed`", self.seed)
        if self.strategy is Strategy.AFFINITY and self.privacy is PrivacyLevel.SECRET:
            raise InvalidTask(
                "the `strategy` affinity is off at secret, where a warm cache would tie two tasks"
                " together: choose another, or none"
            )
        if not 1 <= self.max_attempts <= 100:
            raise InvalidTask(f"`max_attempts` is {self.max_attempts}: give 1 to 100")

    @property
    def blobs(self) -> frozenset[str]:
        """Every blob that this task needs."""
        stdin = () if self.stdin is None else (self.stdin,)
        return frozenset((self.module, *stdin, *self.inputs.values()))


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work as the store holds it.  ``version`` grows by one with each change."""

    id: str
    spec: TaskSpec
    state: TaskState
    version: int
    created_at: datetime
    updated_at: datetime
    attempt: str | None = None  # handle of the open attempt, or of the one that settled
    leases: int = 0  # attempts ever made
    tries: int = 0  # attempts that count against max_attempts
    not_before: datetime | None = None  # a retry waits until then
    reason: str = ""  # one line: why it is in retry, failed or cancelled
    finished_at: datetime | None = None
    hopeless_since: datetime | None = None  # since when every worker that there is has refused it
    batch: str | None = None  # with which it was made, if with others

    def after(self, event: TaskEvent, now: datetime, *, reason: str = "") -> Task:
        """Return this task after ``event``, or raise `InvalidTransition`."""
        state = transition(self.state, event)
        return dataclasses.replace(
            self,
            state=state,
            version=self.version + 1,
            updated_at=now,
            reason=one_line(reason, REASON_LENGTH),
            finished_at=now if state.final else None,
        )

    @property
    def seed(self) -> str:
        """What the module's randomness starts from, equal for all attempts: 64 hex digits."""
        return seed_of(self.id) if self.spec.seed is None else self.spec.seed


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one task on one worker.  The handle is all that the worker ever sees of it."""

    handle: str  # 128 random bits in hex
    task_id: str
    number: int  # 1 for the first
    worker: str  # name in the worker list
    address: str  # where to poll it
    state: AttemptState
    lease_until: datetime
    created_at: datetime
    updated_at: datetime
    reason: str = ""
    refused: bool = False  # declined for good: the worker will never take this task as it is
    owner: str | None = None  # the backend that acts on it; None where there is only one

    def after(
        self,
        event: AttemptEvent,
        now: datetime,
        *,
        reason: str = "",
        lease_until: datetime | None = None,
    ) -> Attempt:
        """Return this attempt after ``event``, or raise `InvalidTransition`."""
        return dataclasses.replace(
            self,
            state=transition_attempt(self.state, event),
            updated_at=now,
            reason=one_line(reason, REASON_LENGTH),
            lease_until=self.lease_until if lease_until is None else lease_until,
        )


def check_sha256(name: str, value: str) -> None:
    """Raise `InvalidTask` unless ``value`` is a SHA-256 in lower-case hex."""
    if _SHA256.fullmatch(value) is None:
        raise InvalidTask(f"{name} is no SHA-256: give 64 lower-case hex digits")


def argv_bytes(argv: Sequence[str]) -> int:
    """Return how much room arguments take, each with the zero byte behind it."""
    return sum(len(argument.encode("utf-8", "surrogatepass")) + 1 for argument in argv)


def check_argv(argv: Sequence[str]) -> None:
    """Raise `InvalidTask` unless these can be arguments: Unicode without zero bytes, not long."""
    if len(argv) > MAX_ARGUMENTS:
        raise InvalidTask(f"`argv` has {len(argv)} arguments: at most {MAX_ARGUMENTS} are allowed")
    if argv_bytes(argv) > MAX_ARGV_BYTES:
        raise InvalidTask("`argv` is longer than 64 KiB: pass large data with `stdin` or `inputs`")
    for argument in argv:
        if "\0" in argument:
            raise InvalidTask("`argv` holds a zero byte: arguments are text without zero bytes")
        if _HALF_CHARACTER.search(argument):
            raise InvalidTask("`argv` holds half a character: arguments are Unicode text")
