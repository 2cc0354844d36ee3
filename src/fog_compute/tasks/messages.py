"""The messages between a coordinator and a worker, as records.

``Request`` goes to the worker, ``Reply`` comes back.  What each may hold is in `bounds`.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from fog_compute.tasks.environment import MAX_ENV
from fog_compute.tasks.folder import MAX_INPUTS
from fog_compute.tasks.model import MAX_ARGUMENTS

__all__ = [
    "FINISHED",
    "LOST",
    "MAX_ATTACHED",
    "MAX_ATTEMPTS",
    "MAX_ORDERS",
    "MAX_REFS",
    "QUEUED",
    "RETURNED",
    "RUNNING",
    "STATES",
    "UNKNOWN",
    "Accepted",
    "Ack",
    "Answer",
    "Answers",
    "AttemptStatus",
    "Busy",
    "Cancel",
    "Done",
    "Module",
    "NeedModule",
    "Order",
    "Poll",
    "PollItem",
    "Rejected",
    "Reply",
    "Request",
    "Status",
    "Submit",
    "WireLimits",
]


MAX_ATTEMPTS: Final = 512
"""Attempts that one message names, of each list in it."""

MAX_ORDERS: Final = 64
MAX_REFS: Final = MAX_INPUTS + 2
"""Blobs of one task: its inputs, its module and its standard input."""

MAX_ATTACHED: Final = 1024

Handles: TypeAlias = Annotated[tuple[bytes, ...], Meta(max_length=MAX_ATTEMPTS)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=False):
    """Arrays on the wire; a later version may append fields with defaults.

    How many elements a list may have is looked at before any of them is made.
    """


class WireLimits(_Message, frozen=True):
    """`Limits` on the wire."""

    memory_bytes: int
    fuel: int
    wall_ms: int
    output_bytes: int
    scratch_bytes: int


class Order(_Message, frozen=True):
    """Run this once under this handle.  A repeat gets the answer of the first."""

    handle: bytes  # 16 random bytes
    kind: str
    module: bytes  # SHA-256 of the module's ciphertext
    argv: Annotated[tuple[str, ...], Meta(max_length=MAX_ARGUMENTS)]
    stdin: bytes | None  # SHA-256 of a ciphertext, as for the module
    inputs: Annotated[dict[str, bytes], Meta(max_length=MAX_INPUTS)]
    limits: WireLimits
    seed: bytes  # 32 bytes for the module's randomness, equal for all attempts of a task
    blob_bytes: int = 0  # all ciphertexts together, so that too many are refused before they leave
    # All that the module finds in its environment.
    env: Annotated[dict[str, str], Meta(max_length=MAX_ENV)] = {}


class Submit(_Message, frozen=True, tag="submit"):
    """Orders of one session.  Each is judged by itself, and answered by itself in `Answers`."""

    key: bytes  # opens the modules and all inputs of this session
    orders: Annotated[tuple[Order, ...], Meta(max_length=MAX_ORDERS)]
    # Ciphertexts by their hash, where small enough to come along.
    attached: Annotated[dict[bytes, bytes], Meta(max_length=MAX_ATTACHED)] = {}
    acks: Handles = ()  # as `Ack`, to save a message
    hold_ms: int = 0  # answer only when one has finished, or after this long


class Module(_Message, frozen=True, tag="module"):
    """A blob (module, standard input or input file) for the worker's cache."""

    ref: bytes  # SHA-256 of data
    data: bytes  # ciphertext
    session: bytes = b""  # `session_of` its key, to whose share it is charged


class PollItem(_Message, frozen=True):
    """One attempt to report on, and how many bytes of its result are here already."""

    handle: bytes
    offset: int = 0


class Poll(_Message, frozen=True, tag="poll"):
    """Report on these attempts, at once.  Unknown handles are answered as ``unknown``."""

    items: Annotated[tuple[PollItem, ...], Meta(max_length=MAX_ATTEMPTS)]
    acks: Handles = ()  # as `Ack`, to save a message


class Ack(_Message, frozen=True, tag="ack"):
    """These results are stored with the requester; the worker forgets them."""

    handles: Handles


class Cancel(_Message, frozen=True, tag="cancel"):
    """Stop and forget these attempts."""

    handles: Handles


Request: TypeAlias = Submit | Module | Poll | Ack | Cancel

QUEUED: Final = "queued"
RUNNING: Final = "running"
FINISHED: Final = "finished"
LOST: Final = "lost"  # the runner died for no fault of the module
UNKNOWN: Final = "unknown"  # never seen, acknowledged, cancelled, or gone with a restart
RETURNED: Final = "returned"  # given back unfinished, because the worker was asked to stop
STATES: Final = frozenset((QUEUED, RUNNING, FINISHED, LOST, UNKNOWN, RETURNED))


class AttemptStatus(_Message, frozen=True):
    """Where one attempt stands, and as much of its result as fits."""

    handle: bytes
    state: str  # one of STATES
    log_tail: bytes = b""  # the last bytes of standard error, or output, while it runs
    result_id: bytes = b""  # changes if the attempt ran again and the result differs
    result_total: int = 0
    offset: int = 0
    chunk: bytes = b""
    receipt: bytes = b""  # of a finished attempt: key and signature of its worker
    compiling: bool = False  # it runs, but its module is still being compiled


class Accepted(_Message, frozen=True, tag="accepted"):
    """The attempt is held here, now or already before."""

    status: AttemptStatus


class Busy(_Message, frozen=True, tag="busy"):
    """No room: nothing was kept.  Try another worker, or this one later."""

    held: int
    capacity: int


class NeedModule(_Message, frozen=True, tag="need"):
    """Nothing was kept: send these blobs, then submit again."""

    refs: Annotated[tuple[bytes, ...], Meta(max_length=MAX_REFS)]


class Rejected(_Message, frozen=True, tag="rejected"):
    """This can never be accepted here; ``reason`` is one line."""

    reason: str


class Status(_Message, frozen=True, tag="status"):
    """Answer to a poll.  Items that did not fit are left out: ask again."""

    items: Annotated[tuple[AttemptStatus, ...], Meta(max_length=MAX_ATTEMPTS)]


class Done(_Message, frozen=True, tag="done"):
    """A blob was stored, or handles were forgotten."""


Answer: TypeAlias = Accepted | Busy | NeedModule | Rejected


class Answers(_Message, frozen=True, tag="answers"):
    """Answer to a submission, one for each order, in their order.

    Those of the last orders are left out where they do not fit: submit these again.
    """

    items: Annotated[tuple[Answer, ...], Meta(max_length=MAX_ORDERS)]


Reply: TypeAlias = Answer | Answers | Status | Done
