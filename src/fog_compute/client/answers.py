"""What is used of the backend's answers, and a check that an answer has it.

The port may be another program's, whose JSON can be anything: an answer is checked once, where it
comes in. Fields that nobody picks are passed on by ``--json`` as they are.
"""

from __future__ import annotations

import json
from typing import Final, NoReturn, NotRequired, TypedDict, TypeVar, cast

import msgspec

from fog_compute.errors import BackendError
from fog_compute.text import one_line

__all__ = [
    "ANOTHER_PROGRAM",
    "Attempt",
    "Batch",
    "Blob",
    "Circuit",
    "CircuitCounts",
    "Client",
    "Event",
    "Events",
    "Key",
    "KeyPage",
    "LevelCircuits",
    "LevelDetail",
    "LevelList",
    "Made",
    "Named",
    "Net",
    "New",
    "NewKey",
    "Node",
    "NodeList",
    "OutputFile",
    "OutputFiles",
    "Problem",
    "Result",
    "Service",
    "Stage",
    "Status",
    "Task",
    "TaskPage",
    "TaskRow",
    "Worker",
    "parse",
]

T = TypeVar("T")

ANOTHER_PROGRAM: Final = "is it another program?"


class Batch(TypedDict):
    """Tasks that were queued with one request: the batch's id and theirs, in order.

    ``warning`` says what no listed worker offers one of them; or nothing.
    """

    batch: str
    tasks: list[str]
    warning: str


class Blob(TypedDict):
    """An uploaded file."""

    sha256: str


class Event(TypedDict):
    """A state that a task came to."""

    task: str
    state: str


class Events(TypedDict):
    """Events in their order, and where to go on."""

    events: list[Event]
    next: int


class Made(TypedDict):
    """A task that was made or changed."""

    id: str
    state: str


class Named(TypedDict):
    """The task that a name means."""

    id: str


class New(Made):
    """A task that was queued just now."""

    warning: str


class TaskRow(Made):
    """A task in a list."""

    privacy: str
    tries: int
    max_attempts: int
    created_at: str
    reason: str


class OutputFile(TypedDict):
    """A file that a task left."""

    path: str
    size: int


class OutputFiles(TypedDict):
    """All files that a task left."""

    files: list[OutputFile]


class Result(TypedDict):
    """How a task's last attempt ended."""

    exit_code: int | None
    fault: str | None
    stdout_bytes: int
    stderr_bytes: int
    fuel_used: int | None
    wall_ms: int
    compile_ms: int
    peak_memory: int | None
    receipt: str
    files: list[OutputFile]


class Attempt(TypedDict):
    """One try of a task."""

    number: int
    worker: str
    state: str
    reason: str
    placement: str


class Stage(TypedDict):
    """What is being done for a task that is with a worker."""

    doing: str
    done: int
    total: int


class Task(TaskRow):
    """A task as a whole."""

    final: bool
    version: int
    hops: int
    kind: str
    argv: list[str]
    seed: str
    log_tail: str
    result: Result | None
    stage: Stage | None
    attempts: list[Attempt]


class TaskPage(TypedDict):
    """Some tasks, newest first."""

    tasks: list[TaskRow]


class Worker(TypedDict):
    """A worker as this fog sees it."""

    name: str
    level: str | None
    state: str
    kinds: list[str]
    slots: int
    leased: int
    memory_bytes: int
    wall_s: NotRequired[float | None]
    scratch_bytes: NotRequired[int | None]
    output_bytes: NotRequired[int | None]
    groups: list[str]


class Key(TypedDict):
    """An API key, without what proves it."""

    id: str
    name: str
    scopes: list[str]
    created_at: str
    expires_at: str | None
    used_at: str | None
    revoked_at: str | None


class NewKey(Key):
    """An API key that was made just now, and the key itself."""

    key: str


class KeyPage(TypedDict):
    """All API keys."""

    keys: list[Key]


class PathFigures(TypedDict):
    """What became of this machine's own packets of one number of hops."""

    hops: int
    tries: int
    lost: int
    round_trip_ms: int | None


class ExcludedNode(TypedDict):
    """A middle that no packet passes for a while, and the evidence against it."""

    id: str
    tries: int
    lost: int
    expected: int
    seconds_left: float


class EdgeUse(TypedDict):
    """What an edge is to this fog."""

    current: bool
    attached: bool
    reason: str | None


class Node(TypedDict):
    """A node as the directory lists it, and what it is to this fog.

    Where the directory lists it no longer, all that it said is null.
    """

    id: str
    role: str | None
    operator: str | None
    prefix: str | None
    link_address: str | None
    key_epochs: list[int]
    expires_at: str | None
    edge: EdgeUse | None
    excluded: ExcludedNode | None


class NodeList(TypedDict):
    """The nodes of the network, or a page of them, and the consensus that lists them."""

    network: str
    epoch: int
    revision: int
    valid_until: str
    in_force: bool
    roles: dict[str, int]
    one_operator: bool
    nodes: list[Node]
    next: str | None


class Net(TypedDict):
    """The network as this machine sees it."""

    name: str
    epoch: int
    nodes: dict[str, int]
    mean_delay_ms: float
    paths: list[PathFigures]
    excluded: list[ExcludedNode]
    warnings: list[str]


class Service(TypedDict):
    """One service of the backend."""

    name: str
    state: str
    detail: str


class CircuitCounts(TypedDict):
    """The circuits of one level in numbers."""

    circuits: int
    sessions: int
    in_flight: int


class Edge(TypedDict):
    """An edge with mailboxes of a client."""

    id: str
    current: bool
    attached: bool
    reason: str | None


class Client(TypedDict):
    """How the packets of a level's client fare."""

    tries: int
    lost: int
    round_trip_ms: int | None
    loop_ms: int | None
    trouble: str | None
    edges: list[Edge]
    excluded: list[ExcludedNode]


class LevelCircuits(TypedDict):
    """The circuits of one level together."""

    level: str
    hops: int
    sessions: int
    by_token: int
    circuits: dict[str, int]
    in_flight: int
    made: int
    rotations: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    surbs_sent: int
    client: Client | None


class Circuit(TypedDict):
    """One circuit."""

    id: str
    state: str
    age_s: float
    idle_s: float
    in_flight: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int


class LevelDetail(LevelCircuits):
    """The circuits of one level, each by itself as well."""

    each: list[Circuit]


class LevelList(TypedDict):
    """The circuits of all levels."""

    levels: list[LevelCircuits]


class Damaged(TypedDict):
    """A row of the database that cannot be read."""

    table: str
    key: str
    reason: str


class Status(TypedDict):
    """Everything at a glance."""

    services: list[Service]
    net: Net | None
    workers: list[Worker]
    tasks: dict[str, int]
    circuits: dict[str, CircuitCounts]
    damaged: list[Damaged]


class Problem(TypedDict, total=False):
    """Why a request was refused (RFC 9457)."""

    type: str
    detail: str
    needed: int
    available: int | None


def parse(data: bytes, shape: type[T]) -> T:
    """Read an answer, all of it; what a command will pick is there and of its type.

    Raises:
        BackendError: it is no JSON, or not of this shape.
    """
    try:
        body = json.loads(data, parse_constant=_no_number)
        msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        raise BackendError(
            f"the backend's answer cannot be used ({one_line(str(error))}): {ANOTHER_PROGRAM}"
        ) from None
    except (ValueError, RecursionError):
        raise BackendError(f"the backend's answer cannot be read: {ANOTHER_PROGRAM}") from None
    return cast("T", body)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
