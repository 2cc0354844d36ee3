"""The messages between a coordinator and a worker, as records.

``Request`` goes to the worker, ``Reply`` comes back.  What each may hold is in `bounds`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

__all__ = [
    "FINISHED",
    "LOST",
    "QUEUED",
    "RETURNED",
    "RUNNING",
    "STATES",
    "UNKNOWN",
    "Accepted",
    "Ack",
    "AttemptStatus",
    "Busy",
    "Cancel",
    "Done",
    "Module",
    "NeedModule",
    "Poll",
    "PollItem",
    "Rejected",
    "Reply",
    "Request",
    "Status",
    "Submit",
    "WireLimits",
]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=False):
    """Arrays on the wire; a later version may append fields with defaults."""


class WireLimits(_Message, frozen=True):
    """`Limits` on the wire."""

    memory_bytes: int
    fuel: int
    wall_ms: int
    output_bytes: int
    scratch_bytes: int


class Submit(_Message, frozen=True, tag="submit"):
    """Run this once under this handle.  A repeat gets the answer of the first."""

    handle: bytes  # 16 random bytes
    kind: str
    module: bytes  # SHA-256 of the module's ciphertext
    key: bytes  # opens the module and all inputs of this session
    argv: tuple[str, ...]
    stdin: bytes | None  # SHA-256 of a ciphertext, as for the module
    inputs: dict[str, bytes]
    limits: WireLimits
    seed: bytes  # 32 bytes for the module's randomness, equal for all attempts of a task
    attached: dict[bytes, bytes] = {}  # ciphertexts by their hash, where small enough to come along
    hold_ms: int = 0  # answer only when it has finished, or after this long
    blob_bytes: int = 0  # all ciphertexts together, so that too many are refused before they leave
    env: dict[str, str] = {}  # all that the module finds in its environment


class Module(_Message, frozen=True, tag="module"):
    """A blob (module, standard input or input file) for the worker's cache."""

    ref: bytes  # SHA-256 of data
    data: bytes  # ciphertext


class PollItem(_Message, frozen=True):
    """One attempt to report on, and how many bytes of its result are here already."""

    handle: bytes
    offset: int = 0


class Poll(_Message, frozen=True, tag="poll"):
    """Report on these attempts.  Unknown handles are answered as ``unknown``."""

    items: tuple[PollItem, ...]
    acks: tuple[bytes, ...] = ()  # as `Ack`, to save a message
    hold_ms: int = 0  # answer at the first news, or after this long


class Ack(_Message, frozen=True, tag="ack"):
    """These results are stored with the requester; the worker forgets them."""

    handles: tuple[bytes, ...]


class Cancel(_Message, frozen=True, tag="cancel"):
    """Stop and forget these attempts."""

    handles: tuple[bytes, ...]


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


class Accepted(_Message, frozen=True, tag="accepted"):
    """The attempt is held here, now or already before."""

    status: AttemptStatus


class Busy(_Message, frozen=True, tag="busy"):
    """No room: nothing was kept.  Try another worker, or this one later."""

    held: int
    capacity: int


class NeedModule(_Message, frozen=True, tag="need"):
    """Nothing was kept: send these blobs, then submit again."""

    refs: tuple[bytes, ...]


class Rejected(_Message, frozen=True, tag="rejected"):
    """This can never be accepted here; ``reason`` is one line."""

    reason: str


class Status(_Message, frozen=True, tag="status"):
    """Answer to a poll.  Items that did not fit are left out: ask again."""

    items: tuple[AttemptStatus, ...]


class Done(_Message, frozen=True, tag="done"):
    """A blob was stored, or handles were forgotten."""


Reply: TypeAlias = Accepted | Busy | NeedModule | Rejected | Status | Done
