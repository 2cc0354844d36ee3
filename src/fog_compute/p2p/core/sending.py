"""How messages of ours go out: over which transport, again, over another, or not any more.

A message is offered to one transport at a time. What was accepted and for which no receipt comes in
time goes out again, over another transport where there is one; so does what was under way when its
transport went. What is stored is waited for longer, unless its recipient turns up nearby.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.p2p.core.actions import Action, Answered, Keep, Offer, Progress
from fog_compute.p2p.core.book import BookChange, Delivery, Settled
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryEvent, DeliveryState, after
from fog_compute.p2p.core.outbox import Entry, Key, Outbox
from fog_compute.p2p.core.reaches import Reaches
from fog_compute.p2p.core.routing import candidates, why_none
from fog_compute.p2p.core.transport import (
    EVERYBODY,
    Outcome,
    OutcomeState,
    PartLeft,
    Reach,
    TransportCapabilities,
    TransportType,
)

__all__ = ["Sending", "SendingPolicy"]

REMEMBERED: Final = 10_000
"""Deliveries that are over whose state is still known here, for receipts that come late."""

UNANSWERED: Final = "their program gives no receipts in a group"
"""Why *accepted* is the last that is heard of a delivery."""

CANCELLED: Final = "it was cancelled"
OUT: Final = "one of you is in the group no more"

_WRITTEN: Final = frozenset(
    {
        DeliveryState.STORED,
        DeliveryState.DELIVERED,
        DeliveryState.READ,
        DeliveryState.FAILED,
        DeliveryState.EXPIRED,
    }
)
"""States that are written down. After a crash, all others are offered again."""


@dataclass(frozen=True, slots=True)
class SendingPolicy:
    """How long to wait for what, in seconds, and how much at once.

    Attributes:
        answer_s: for a transport to answer an offer, by its latency class.
        bytes_s: bytes a second that are allowed for beside that.
        receipt_s: for a receipt, once a transport accepted, by its latency class; doubled with
            each failure, up to ``receipt_most_s``.
        receipt_most_s: see there.
        stored: pauses before what is stored and brought no receipt goes out again.
        nearby_s: for a receipt of what is stored, once the recipient turned up nearby.
        pauses: before what failed is offered again.
        at_once: offers that one transport has at a time.
    """

    answer_s: tuple[float, float, float] = (15.0, 60.0, 120.0)
    bytes_s: float = 20_000.0
    receipt_s: tuple[float, float, float] = (5.0, 15.0, 60.0)
    receipt_most_s: float = 900.0
    stored: Backoff = field(default_factory=lambda: Backoff(900.0, 21_600.0))
    nearby_s: float = 10.0
    pauses: Backoff = field(default_factory=lambda: Backoff(1.0, 120.0))
    at_once: int = 64

    def answer_by(self, can: TransportCapabilities, size: int) -> float:
        """Seconds for an answer to an offer of so many bytes."""
        return self.answer_s[_CLASS[can.latency_class]] + size / self.bytes_s

    def receipt_by(self, can: TransportCapabilities, size: int, failures: int) -> float:
        """Seconds for a receipt."""
        first = self.receipt_s[_CLASS[can.latency_class]] + size / self.bytes_s
        return Backoff(first, max(first, self.receipt_most_s)).after(failures)


_CLASS: Final = {"low": 0, "medium": 1, "high": 2}


class Sending:
    """Carries the outbox's deliveries on. Each method gives the actions that follow, in order.

    Attributes:
        given_up: messages that will not be sent any more; whoever reads them takes them out.
    """

    def __init__(
        self, outbox: Outbox, reaches: Reaches, policy: SendingPolicy, numbers: Iterator[int]
    ) -> None:
        """Send what ``outbox`` has, as ``reaches`` allows; ``numbers`` are those of offers."""
        self._numbers: Final = numbers
        self._outbox: Final = outbox
        self._reaches: Final = reaches
        self._policy: Final = policy
        self._offered: Final[Counter[TransportType]] = Counter()
        self._over: Final[OrderedDict[Key, DeliveryState]] = OrderedDict()
        self.given_up: Final[list[DecentralizedMessage]] = []

    def take_up(self, deliveries: Iterable[Delivery], now: float) -> None:
        """Go on with what was written down."""
        for one in deliveries:
            entry = Entry(one.message, one.size, one.receiver, 0, one.state, one.transport)
            entry.attempts = one.attempts
            if one.state is DeliveryState.STORED:
                entry.due = now + self._policy.stored.after(0)
            self._outbox.add(entry)

    def offer(self, now: float) -> list[Action]:
        """Offer what can go out now."""
        actions: list[Action] = []
        for entry in self._outbox.ready(now):
            if entry.expires <= now:
                actions += self._step(entry, DeliveryEvent.EXPIRE, now, "its time is over")
                continue
            transport, full = self._choose(entry)
            if transport is None:
                if not entry.message.offline_capable and not full:
                    actions += self._step(entry, DeliveryEvent.FAIL, now, self._why(entry))
                continue
            can = self._reaches.capabilities[transport]
            entry.transport = transport
            entry.offer = next(self._numbers)
            self._outbox.move(entry, DeliveryState.SENDING)
            self._offered[transport] += 1
            self._outbox.due(entry, now + self._policy.answer_by(can, entry.size))
            actions.append(Offer(transport, entry.key, entry.attempts, entry.offer))
        return actions

    def answered(self, answer: Answered, now: float) -> list[Action]:
        """A transport answered an offer; an answer to an older offer says nothing any more."""
        offer = answer.offer
        entry = self._outbox.get(offer.key)
        if entry is None or entry.offer != offer.number or entry.state is not DeliveryState.SENDING:
            return []
        return self._outcome(entry, answer.outcome, now)

    def told(self, transport: TransportType, outcome: Outcome, now: float) -> list[Action]:
        """A transport says more of what it accepted; of what another has now, that is too late."""
        entry = self._outbox.get(Key(outcome.message_id, outcome.receiver))
        if (
            entry is None
            or entry.transport is not transport
            or entry.state is not DeliveryState.ACCEPTED
        ):
            return []
        return self._outcome(entry, outcome, now)

    def left(self, part: PartLeft) -> list[Action]:
        """Some of a message has left: that is told while a transport has it, and not kept."""
        key = Key(part.message_id, part.receiver)
        entry = self._outbox.get(key)
        state = self._over.get(key) if entry is None else entry.state
        if state not in {DeliveryState.SENDING, DeliveryState.ACCEPTED}:
            return []
        return [Progress(*key, state, part.transport, "", part.sent, part.size)]

    def receipt(self, peer: str, ids: Iterable[str], event: DeliveryEvent, now: float) -> Told:
        """Somebody says that messages are with them; an id that was not sent to them is counted."""
        told = Told()
        for id_ in ids:
            key = Key(id_, peer)
            entry = self._outbox.get(key)
            before = self._over.get(key) if entry is None else entry.state
            if before is None:
                # It may be from a run before this one: the book knows whether there is such a one.
                told.unknown.append(id_)
                continue
            following = after(before, event)
            if following is None:
                continue
            if entry is not None:
                told.actions.extend(self._step(entry, event, now))
            else:
                self._over[key] = following
                told.actions.extend(_written(key, following, None, 0, "", now))
        return told

    def due(self, now: float) -> list[Action]:
        """Look at what has waited long enough."""
        actions: list[Action] = []
        for entry in self._outbox.take_due(now):
            if entry.expires <= now:
                actions += self._step(entry, DeliveryEvent.EXPIRE, now, "its time is over")
            elif entry.under_way:
                entry.failures += 1
                # Taken, and no receipt: the next try is another one, which may go otherwise.
                entry.attempts += entry.state is DeliveryState.ACCEPTED
                actions += self._back(entry, now)
            elif entry.state is DeliveryState.STORED:
                actions += self._step(entry, DeliveryEvent.RETURN, now)
                self._outbox.due(entry, entry.expires)
            else:
                self._outbox.due(entry, entry.expires)
        return actions

    def transport_gone(self, transport: TransportType, now: float) -> list[Action]:
        """What it had under way goes back to the outbox."""
        return [
            action for entry in self._outbox.over(transport) for action in self._back(entry, now)
        ]

    def transport_back(self) -> None:
        """A transport can be used again: what failed before is offered without a pause."""
        for entry in self._outbox.queued():
            entry.failures = 0

    def reached(
        self, transport: TransportType, peer: str, before: Reach, reach: Reach, now: float
    ) -> list[Action]:
        """Somebody is reached in another way over a transport."""
        actions: list[Action] = []
        for entry in self._outbox.of_peer(peer):
            if reach is Reach.NONE and entry.transport is transport and entry.under_way:
                actions += self._back(entry, now)
            elif reach > before:
                if entry.state is DeliveryState.QUEUED:
                    entry.failures = 0
                elif (
                    entry.state is DeliveryState.STORED
                    and entry.transport is not transport
                    and reach >= Reach.MESH
                ):
                    self._outbox.due(entry, min(entry.due, now + self._policy.nearby_s))
        return actions

    def cancel(self, ids: Collection[str], now: float) -> list[Action]:
        """Give messages up that are not delivered; a copy may still be on its way."""
        return [
            action
            for entry in self._outbox.of_messages(ids)
            for action in self._step(entry, DeliveryEvent.FAIL, now, CANCELLED)
        ]

    def put_out(self, room: str, members: Collection[str], now: float) -> list[Action]:
        """Give up what was said in a group to who is in it no more: they take nothing of it."""
        return [
            action
            for entry in self._outbox.of_conversation(None, room)
            if entry.receiver not in members
            for action in self._step(entry, DeliveryEvent.FAIL, now, OUT)
        ]

    def why(self, id: str, receiver: str) -> str:  # noqa: A002 - the word of the record
        """Why a delivery waits, in one line; "" where it does not, or only for its turn."""
        entry = self._outbox.get(Key(id, receiver))
        if entry is None or entry.state is not DeliveryState.QUEUED:
            return ""
        return entry.reason if self._able(entry) else self._why(entry)

    def state(self, id: str, receiver: str) -> DeliveryState | None:  # noqa: A002
        """Where a delivery stands; None if it is neither under way nor was a moment ago."""
        key = Key(id, receiver)
        entry = self._outbox.get(key)
        return self._over.get(key) if entry is None else entry.state

    def _choose(self, entry: Entry) -> tuple[TransportType | None, bool]:
        """The transport to ask next; or none, and whether that is because one has much to do."""
        able = self._able(entry)
        if len(able) > 1 and entry.failures and able[0] is entry.transport:
            able.append(able.pop(0))
        if able and self._offered[able[0]] < self._policy.at_once:
            return able[0], False
        return None, bool(able)

    def _outcome(self, entry: Entry, outcome: Outcome, now: float) -> list[Action]:
        transport = entry.transport
        can = None if transport is None else self._reaches.capabilities.get(transport)
        if outcome.state is OutcomeState.FAILED or can is None:
            if outcome.permanent and transport is not None:
                entry.refused |= {transport}
                if entry.refused >= self._reaches.capabilities.keys():
                    return self._step(entry, DeliveryEvent.FAIL, now, outcome.reason)
            entry.failures += 1
            entry.reason = outcome.reason
            return self._back(entry, now)
        entry.reason = ""
        if outcome.state is OutcomeState.STORED:
            entry.attempts += 1
            actions = self._step(entry, DeliveryEvent.STORE, now)
            self._outbox.due(entry, now + self._policy.stored.after(entry.attempts - 1))
            return actions
        last = outcome.unanswered and outcome.state is OutcomeState.ACCEPTED
        if entry.state is DeliveryState.ACCEPTED:
            return self._over_with(entry, entry.state, now, UNANSWERED) if last else []
        actions = self._step(entry, DeliveryEvent.ACCEPT, now)
        if last:
            return self._over_with(entry, DeliveryState.ACCEPTED, now, UNANSWERED)
        if entry.receiver != EVERYBODY:
            wait = self._policy.receipt_by(can, entry.size, entry.failures)
            self._outbox.due(entry, now + wait)
        return actions

    def _back(self, entry: Entry, now: float) -> list[Action]:
        """Return a delivery to the outbox, for a while where it failed."""
        actions = self._step(entry, DeliveryEvent.RETURN, now)
        alone = len(self._able(entry)) < 2
        pause = self._policy.pauses.after(entry.failures - 1) if entry.failures and alone else 0.0
        entry.not_before = now + pause
        self._outbox.due(entry, entry.not_before if pause else entry.expires)
        return actions

    def _able(self, entry: Entry) -> list[TransportType]:
        reaches = self._reaches
        able = candidates(
            entry.message, entry.size, reaches.of(entry.receiver), reaches.capabilities
        )
        return [one for one in able if one not in entry.refused]

    def _step(
        self, entry: Entry, event: DeliveryEvent, now: float, reason: str = ""
    ) -> list[Action]:
        """Let something happen to a delivery: its next state, written down where it has to be."""
        state = after(entry.state, event)
        if state is None:
            return []
        transport = entry.transport
        if entry.state is DeliveryState.SENDING and transport is not None:
            self._offered[transport] -= 1
        self._outbox.move(entry, state)
        if state in {DeliveryState.FAILED, DeliveryState.EXPIRED}:
            self.given_up.append(entry.message)
        if state.final or (entry.receiver == EVERYBODY and state is DeliveryState.ACCEPTED):
            return self._over_with(entry, state, now, reason)
        if state in _WRITTEN:
            return _written(entry.key, state, transport, entry.attempts, reason, now)
        return [Progress(*entry.key, state, transport, reason)]

    def _over_with(
        self, entry: Entry, state: DeliveryState, now: float, reason: str = ""
    ) -> list[Action]:
        """Forget a delivery, and write down where it stands for good."""
        self._outbox.remove(entry)
        self._over[entry.key] = state
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
        return _written(entry.key, state, entry.transport, entry.attempts, reason, now)

    def _why(self, entry: Entry) -> str:
        reaches, able = self._reaches, self._reaches.capabilities
        if entry.receiver == EVERYBODY:
            able = {kind: can for kind, can in able.items() if can.supports_broadcast}
        return why_none(entry.message, entry.size, reaches.of(entry.receiver), able)


class Told:
    """What receipts said.

    Attributes:
        actions: what follows.
        unknown: ids that nothing is known of here.
    """

    __slots__ = ("actions", "unknown")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.actions: Final[list[Action]] = []
        self.unknown: Final[list[str]] = []


def _written(
    key: Key,
    state: DeliveryState,
    transport: TransportType | None,
    attempts: int,
    reason: str,
    now: float,
) -> list[Action]:
    change: BookChange = Settled(*key, state, transport, attempts, reason, now)
    return [Keep((change,)), Progress(*key, state, transport, reason)]
