"""Every kind of problem that the HTTP interface answers with: one table, of which the page is made.

A kind has one status and one title. The detail of an answer says what happened to what; the kind
is what a program decides by.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fog_compute.errors import (
    PROBLEM,
    STOPPING,
    ChannelError,
    ChannelTimeout,
    CircuitError,
    ConfigError,
    FogError,
    InvalidTask,
    NotFound,
    NoWorker,
    PrivacyUnavailable,
    QuotaExceeded,
    ServiceUnavailable,
    SessionError,
    StoreAway,
    StoreError,
)
from fog_compute.p2p.core.cards import CardInvalid
from fog_compute.p2p.core.contacts import BookFull, KeyChanged, NameTaken, WordsDiffer
from fog_compute.p2p.core.groups import NotMaker
from fog_compute.p2p.core.messages import InvalidMessage
from fog_compute.p2p.core.outbox import OutboxFull
from fog_compute.store import Conflict

__all__ = ["PROBLEMS", "Kind", "kind_of_error", "kind_of_status"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem.

    Attributes:
        name: the end of its ``type``.
        status: the status of each answer of this kind.
        title: what all of them have in common.
        meaning: when it comes, and what to do.
        members: what an answer has beside the five members of every problem.
    """

    name: str
    status: HTTPStatus
    title: str
    meaning: str
    members: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """Its ``type`` in an answer."""
        return PROBLEM + self.name


MALFORMED: Final = Kind(
    "malformed",
    HTTPStatus.BAD_REQUEST,
    "The request is malformed",
    "The body is cut off or cannot be parsed, or the request names a host that is not served here."
    " Send it again, whole.",
)
UNAUTHORISED: Final = Kind(
    "unauthorised",
    HTTPStatus.UNAUTHORIZED,
    "A key is needed",
    "No key came with the request, or none that is good now. Every route but `/health` answers a"
    " stranger so, also one that does not exist.",
)
FORBIDDEN: Final = Kind(
    "forbidden",
    HTTPStatus.FORBIDDEN,
    "The key does not allow this",
    "The key is good and lacks the scope of the route, which the detail names; or a request with a"
    " cookie came from a page of another origin, or without its `x-csrf-token`.",
)
NOT_FOUND: Final = Kind(
    "not-found",
    HTTPStatus.NOT_FOUND,
    "There is no such thing",
    "The task, blob, file, worker, session or route does not exist, or no longer: results have a"
    " time to live.",
)
METHOD_NOT_ALLOWED: Final = Kind(
    "method-not-allowed",
    HTTPStatus.METHOD_NOT_ALLOWED,
    "The route has no such method",
    "The header `allow` lists the methods of the route.",
)
TOO_SLOW: Final = Kind(
    "too-slow",
    HTTPStatus.REQUEST_TIMEOUT,
    "The body comes too slowly",
    "Nothing of it came for 30 s, or less than 1 KiB a second after the first 20 s. Only time in"
    " which the backend waited for it counts. Nothing of it was kept, and the connection is closed:"
    " send it again, over a better connection.",
)
CONFLICT: Final = Kind(
    "conflict",
    HTTPStatus.CONFLICT,
    "The present state does not allow this",
    "The task is over already, or its idempotency key was used for something else. Look at the"
    " object and decide anew.",
)
PRIVACY_UNAVAILABLE: Final = Kind(
    "privacy-unavailable",
    HTTPStatus.CONFLICT,
    "The network cannot give the privacy level",
    "It has too few nodes of one kind. Wait for more, or choose a lower level.",
    ("needed", "available"),
)
NO_WORKER: Final = Kind(
    "no-worker",
    HTTPStatus.CONFLICT,
    "No worker can take the task now",
    "None of those that are listed serves its level and group, runs its kind and lends what its"
    " limits allow; the detail says which. Nothing was queued. Ask for less, or let it wait with"
    " `wait_for_worker`.",
)
TOO_LARGE: Final = Kind(
    "too-large",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "The body is too large",
    "It is larger than what its route takes: `limit_bytes`. The detail says which setting raises"
    " that, where one does, and where the body came as a type that the route does not take. Nothing"
    " of it was kept, and the connection is closed.",
    ("limit_bytes", "content_type"),
)
INVALID_REQUEST: Final = Kind(
    "invalid-request",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The request does not fit its description",
    "A parameter, a header or a field of the body is missing, unknown, or of another type. The"
    " detail begins with its place.",
)
INVALID_TASK: Final = Kind(
    "invalid-task",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The task can never run",
    "A limit, a name or the module itself is such that no worker could run it. Nothing was queued.",
)
CONFIG_ERROR: Final = Kind(
    "config-error",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "A setting is in the way",
    "What was asked needs a setting, a file or a group that this backend does not have.",
)
INVALID_MESSAGE: Final = Kind(
    "invalid-message",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The message or card is none that can be used",
    "A field of a message is out of bounds, or a contact card is damaged, one's own, or from the"
    " future. Nothing was sent or kept.",
)
PEER_REFUSED: Final = Kind(
    "peer-refused",
    HTTPStatus.CONFLICT,
    "Somebody's keys or words are other ones",
    "The words that were read are not theirs, or a card shows another signing key than before."
    " Somebody may be in between: do not trust what comes from there.",
)
OUTBOX_FULL: Final = Kind(
    "outbox-full",
    HTTPStatus.CONFLICT,
    "Too much waits already",
    "Messages that wait for somebody, or people who are known, are as many as there may be. The"
    " detail says which. Nothing was kept.",
)
RATE_LIMITED: Final = Kind(
    "rate-limited",
    HTTPStatus.TOO_MANY_REQUESTS,
    "Too many requests",
    "The key, or the address of who has none, used up its rate. The header `retry-after` says how"
    " many seconds to wait.",
)
INTERNAL: Final = Kind(
    "internal",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "The backend has a fault",
    "It met an error that it did not expect. Its log has the rest; please report it.",
)
CHANNEL_ERROR: Final = Kind(
    "channel-error",
    HTTPStatus.BAD_GATEWAY,
    "The mixnet gave an error",
    "A message could not be handed over or answered. Try again later; `GET /api/v1/status` shows"
    " the network.",
)
SERVICE_UNAVAILABLE: Final = Kind(
    "service-unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "A service does not run",
    "A part of the backend is starting, has failed, or has no room; the detail says which and why."
    " Try again later.",
)
STORE_ERROR: Final = Kind(
    "store-error",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The database refuses",
    "It is full, locked or damaged, as the detail says. What was asked was not done.",
)
STORE_AWAY: Final = Kind(
    "store-away",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The database is away",
    "Its server does not run, is starting, or ended the connection. What was asked may be done or"
    " not: ask again after the seconds of the header `retry-after`, and for what makes something"
    " with an idempotency key.",
)
EXHAUSTED: Final = Kind(
    "exhausted",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The machine gives no more",
    "The backend's machine gives it no more threads or memory. Try again later, or raise its"
    " limits.",
)
ENDING: Final = Kind(
    STOPPING.removeprefix(PROBLEM),
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The fog is stopping",
    "What was asked may be done or not. A request with an idempotency key can be sent again to the"
    " next backend.",
)
CHANNEL_TIMEOUT: Final = Kind(
    "channel-timeout",
    HTTPStatus.GATEWAY_TIMEOUT,
    "No answer from the mixnet in time",
    "The other side may or may not have acted.",
)

QUOTA_EXCEEDED: Final = Kind(
    "quota-exceeded",
    HTTPStatus.INSUFFICIENT_STORAGE,
    "There is no room for the upload",
    "Modules, inputs and large results have as many bytes together as they may: `limit_bytes`."
    " They go with their tasks. Nothing of the upload was kept, and the connection is closed.",
    ("limit_bytes", "used_bytes"),
)

PROBLEMS: Final = (
    MALFORMED,
    UNAUTHORISED,
    FORBIDDEN,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    TOO_SLOW,
    CONFLICT,
    PRIVACY_UNAVAILABLE,
    NO_WORKER,
    PEER_REFUSED,
    OUTBOX_FULL,
    TOO_LARGE,
    INVALID_REQUEST,
    INVALID_TASK,
    CONFIG_ERROR,
    INVALID_MESSAGE,
    RATE_LIMITED,
    INTERNAL,
    CHANNEL_ERROR,
    SERVICE_UNAVAILABLE,
    STORE_ERROR,
    STORE_AWAY,
    EXHAUSTED,
    ENDING,
    CHANNEL_TIMEOUT,
    QUOTA_EXCEEDED,
)
"""All kinds, by status."""

# The first class that matches decides.
_OF_ERRORS: Final[tuple[tuple[type[FogError], Kind], ...]] = (
    (NotFound, NOT_FOUND),
    (InvalidTask, INVALID_TASK),
    (ConfigError, CONFIG_ERROR),
    (Conflict, CONFLICT),
    (PrivacyUnavailable, PRIVACY_UNAVAILABLE),
    (NoWorker, NO_WORKER),
    (CardInvalid, INVALID_MESSAGE),
    (InvalidMessage, INVALID_MESSAGE),
    (KeyChanged, PEER_REFUSED),
    (WordsDiffer, PEER_REFUSED),
    (NotMaker, CONFLICT),
    (NameTaken, CONFLICT),
    (BookFull, OUTBOX_FULL),
    (OutboxFull, OUTBOX_FULL),
    (SessionError, NOT_FOUND),
    (CircuitError, NOT_FOUND),
    (ServiceUnavailable, SERVICE_UNAVAILABLE),
    (ChannelTimeout, CHANNEL_TIMEOUT),
    (ChannelError, CHANNEL_ERROR),
    (QuotaExceeded, QUOTA_EXCEEDED),
    (StoreAway, STORE_AWAY),
    (StoreError, STORE_ERROR),
)


def kind_of_error(error: FogError) -> Kind:
    """As what an error of the product is answered."""
    return next((kind for known, kind in _OF_ERRORS if isinstance(error, known)), INTERNAL)


def kind_of_status(status: int) -> Kind:
    """As what a refusal is answered of which only a status is known: the first kind that has it.

    One that no kind has is the request's fault, or the backend's.
    """
    other = INTERNAL if status >= HTTPStatus.INTERNAL_SERVER_ERROR else MALFORMED
    return next((kind for kind in PROBLEMS if kind.status == status), other)
