"""The router: everything that is decided about messages, above all transports.

It has no clock, no socket and no disk: `Router.handle` takes an event and the time, and gives back
what is to be done, in order (`actions`). `Router.submit` takes a message of ours. What a router
knew is in the book and nowhere else: another one that is made from it goes on where it ended.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

import msgspec

from fog_compute.p2p.core.actions import (
    Action,
    Answered,
    Confirm,
    Event,
    Keep,
    News,
    OutcomeTold,
    StandingChanged,
    TransportChanged,
    Wake,
    WakeAt,
)
from fog_compute.p2p.core.book import (
    Begun,
    BookChange,
    BookState,
    RosterKept,
    Settled,
)
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.inbox import Inbox, InboxLimits, Refusal, Standing
from fog_compute.p2p.core.judging import SHOWN, judge, outside, plain
from fog_compute.p2p.core.messages import (
    MAX_LIFE_MS,
    DecentralizedMessage,
    DeliveryEvent,
    DeliveryState,
    InvalidMessage,
    MessageKind,
    Receipt,
)
from fog_compute.p2p.core.out_streams import OutStreams
from fog_compute.p2p.core.outbox import Entry, Outbox, OutboxLimits
from fog_compute.p2p.core.reaches import Reaches
from fog_compute.p2p.core.rosters import Roster, is_roster
from fog_compute.p2p.core.sending import Sending, SendingPolicy
from fog_compute.p2p.core.standings import Standings
from fog_compute.p2p.core.telling import Telling
from fog_compute.p2p.core.transport import (
    EVERYBODY,
    Arrival,
    PartLeft,
    Reach,
    Reachability,
    TransportType,
)

__all__ = ["Router", "RouterPolicy"]

SWEEP_S: Final = 3600.0

_EVENTS: Final = {
    DeliveryState.DELIVERED: DeliveryEvent.DELIVER,
    DeliveryState.READ: DeliveryEvent.READ,
}


@dataclass(frozen=True, slots=True)
class RouterPolicy:
    """All bounds and times of a router.

    Attributes:
        life_ms: how long a message may be under way whose sender did not say.
        receipts: whether others are told that their messages are here.
        outbox: see there.
        inbox: see there.
        sending: see there.
    """

    life_ms: int = 24 * 3_600_000
    receipts: bool = True
    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    inbox: InboxLimits = field(default_factory=InboxLimits)
    sending: SendingPolicy = field(default_factory=SendingPolicy)


class Router:
    """One person's messages."""

    def __init__(
        self,
        own: str,
        state: BookState,
        now: float,
        rng: Random,
        policy: RouterPolicy | None = None,
        standings: Mapping[str, Standing] | None = None,
        groups: Groups | None = None,
    ) -> None:
        """Go on from ``state``.

        Args:
            own: our fingerprint.
            state: what the book has.
            now: seconds since 1970.
            rng: draws the names of streams; unpredictable outside of tests.
            policy: bounds and times.
            standings: who is known, and who is blocked; all others are strangers.
            groups: those that are known beside the book's; what changes there counts at once.
        """
        self._own: Final = own
        self._rng: Final = rng
        self._policy: Final = policy or RouterPolicy()
        self._groups: Final = Groups(own) if groups is None else groups
        self._standings: Final = Standings(standings or {}, self._groups)
        self._reaches: Final = Reaches()
        self._offers: Final = itertools.count(1)
        self._last_public = 0
        self._wake: float | None = None
        self.refused: Final[Counter[Refusal]] = Counter()
        self._take_up(state, now)

    def _take_up(self, state: BookState, now: float) -> None:
        policy = self._policy
        self._groups.load(state.rosters)
        self._outbox = Outbox(policy.outbox)
        self._sending = Sending(self._outbox, self._reaches, policy.sending, self._offers)
        self._sending.take_up(state.deliveries, now)
        self._inbox = Inbox(policy.inbox, state, self._standings.of)
        self._telling = Telling(
            self._own,
            state.receipts,
            now,
            self._reaches,
            self._rng,
            policy.sending,
            life_ms=policy.life_ms,
            on=policy.receipts,
        )
        self._streams = OutStreams(state.out_streams, self._rng)
        self._standings.take_up(one.receiver for one in state.out_streams)
        self._next_sweep = now + SWEEP_S

    def begin_again(self, state: BookState, now: float) -> None:
        """Go on from the book, which has less than was decided here: something was not written.

        How people are reached, and who they are, stays known. `Wake` goes on from there; answers to
        what was asked before say nothing any more.
        """
        self._wake = None
        self._groups.clear()
        self._take_up(state, now)

    @property
    def waiting(self) -> int:
        """Deliveries that are not over."""
        return len(self._outbox)

    def submit(
        self,
        message: DecentralizedMessage,
        now: float,
        audience: Iterable[str] = (),
        roster: Roster | None = None,
    ) -> tuple[str, list[Action]]:
        """Take a message of ours; it counts once the first action, a `Keep`, is carried out.

        Args:
            message: what is to be sent; ``id`` and ``sender`` are drawn and filled in here.
            now: seconds since 1970.
            audience: for a message to all who are near: who is to get it over the mixnet as well.
            roster: what the message brings to its group; it counts from here on.

        Returns:
            The message's id, and what is to be done.

        Raises:
            InvalidMessage: it cannot be sent as it is.
            OutboxFull: too much waits already.
        """
        created = int(now * 1000)
        if message.receiver_id is None and not message.room:
            # Its id follows from what it says and when: no two at the same moment.
            created = self._last_public = max(created, self._last_public + 1)
        expires = message.expires_ms or created + self._policy.life_ms
        if expires <= created:
            raise InvalidMessage("expires_ms is over already: give a later time, or 0")
        message = msgspec.structs.replace(
            message,
            id="",
            sender=self._own,
            created_ms=created,
            expires_ms=min(expires, created + MAX_LIFE_MS),
        ).check()
        if message.receiver_id is not None and message.room and message.kind in SHOWN:
            raise InvalidMessage("what goes to one person is in no room: give receiver_id or room")
        receivers = self._receivers(message, audience, roster)
        self._outbox.check(receivers, len(message.body))
        if roster is not None:
            self._groups.put(roster)
        stream = self._streams.next(message, receivers)
        message = msgspec.structs.replace(message, id=self._streams.name(message, stream))
        self._standings.wrote_to(receivers)
        for receiver in receivers:
            bare = msgspec.structs.replace(message, body=b"")
            self._outbox.add(Entry(bare, len(message.body), receiver, 0))
        changes: list[BookChange] = [Begun(message, receivers, self._inbox.place(), stream)]
        if roster is not None:
            # First, for it empties what was sent with the keys of before.
            changes.insert(0, RosterKept(roster.id, roster.encoded, now))
        out = [] if roster is None else self._give_up_in(roster.id, now)
        return message.id, [*_together(changes, out), *self._go_on(now)]

    def handle(self, event: Event, now: float) -> list[Action]:
        """Say what follows from an event, ``now``, in seconds since 1970."""
        return [*self._follow(event, now), *self._go_on(now)]

    def read(self, messages: Iterable[DecentralizedMessage], now: float) -> list[Action]:
        """Tell others that messages of theirs were read here."""
        owed: list[BookChange] = [
            change
            for one in messages
            if one.sender != self._own
            for change in self._telling.owe(one, DeliveryState.READ, now)
        ]
        return [*([Keep(tuple(owed))] if owed else []), *self._go_on(now)]

    def reached(self) -> dict[str, dict[TransportType, Reach]]:
        """Who can be reached now, and how."""
        return self._reaches.everybody()

    def cancel(self, ids: Collection[str], now: float) -> list[Action]:
        """Give messages of ours up, with all to whom they were not delivered yet."""
        return [*self._sending.cancel(ids, now), *self._go_on(now)]

    def waiting_for(self, to: str | None, room: str) -> set[str]:
        """The messages to a person, or to a room, that are not over; both empty: to all near."""
        return {one.message.id for one in self._outbox.of_conversation(to, room)}

    def why(self, id: str, receiver: str) -> str:  # noqa: A002 - the word of the record
        """Why a delivery of ours waits, in one line; "" where it does not, or only for its turn."""
        return self._sending.why(id, receiver)

    def deliveries(self) -> Counter[DeliveryState]:
        """How many deliveries that are not over are in each state."""
        return self._outbox.count_by_state()

    def leave(self, group: str, now: float) -> list[Action]:
        """Be in a group no more: forget its key, and give up what was not said in it yet."""
        self._groups.leave(group)
        kept = RosterKept(group, b"", now)
        return [*_together([kept], self._give_up_in(group, now)), *self._go_on(now)]

    def _give_up_in(self, group: str, now: float) -> list[Action]:
        """End what was said in a group to who is in it no more; everything, if we are not."""
        out = self._sending.put_out(group, self._groups.get(group, ()), now)
        return [*out, *self._end_streams()]

    def state(self, id: str, receiver: str) -> DeliveryState | None:  # noqa: A002
        """Where a message of ours stands; None if that is for the book to say."""
        return self._sending.state(id, receiver)

    def _follow(self, event: Event, now: float) -> list[Action]:
        match event:
            case Arrival():
                return self._arrived(event, now)
            case Answered():
                return self._sending.answered(event, now)
            case OutcomeTold(transport, outcome):
                told = self._telling.told(transport, outcome, now)
                return self._sending.told(transport, outcome, now) if told is None else told
            case PartLeft():
                return self._sending.left(event)
            case Reachability():
                return self._reached(event, now)
            case TransportChanged():
                return self._transport_changed(event, now)
            case StandingChanged():
                self._standings.change(event.peer, event.standing)
                return []
            case Wake():
                return self._woken(now)

    def _go_on(self, now: float) -> list[Action]:
        """What can be done without a further event, and when to be woken for more."""
        actions = [*self._sending.offer(now), *self._telling.carry(now)]
        actions += self._end_streams()
        times = (
            self._outbox.next_due(),
            self._inbox.next_due(),
            self._telling.next_due(),
            self._next_sweep,
        )
        at = min(one for one in times if one is not None)
        if at != self._wake:
            self._wake = at
            actions.append(WakeAt(at))
        return actions

    def _woken(self, now: float) -> list[Action]:
        self._wake = None
        actions = self._sending.due(now)
        taken = self._inbox.give_up(now)
        if taken.changes:
            actions += [Keep(tuple(taken.changes)), News(max(taken.positions))]
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            self._inbox.sweep(now)
        return actions

    def _arrived(self, arrival: Arrival, now: float) -> list[Action]:
        message = arrival.message
        refusal, roster = judge(arrival, self._own, self._standings, self._groups), None
        if refusal is None and is_roster(message):
            roster = self._groups.newer(message, self._standings.is_stranger)
        refusal = refusal or outside(message, roster, self._groups)
        if refusal is not None:
            self.refused[refusal] += 1
            return [Confirm(arrival)]
        if message.kind is MessageKind.RECEIPT:
            return [*self._receipt(message, now), Confirm(arrival)]
        message = plain(message)
        arrival = dataclasses.replace(arrival, message=message)
        if is_roster(message):
            # Its key belongs with the groups, and not into the log.
            bare = msgspec.structs.replace(message, body=b"")
            arrival = dataclasses.replace(arrival, message=bare)
        taken = self._inbox.take(arrival, now)
        if taken.refusal is not None:
            self.refused[taken.refusal] += 1
        changes = list(taken.changes)
        if taken.changes and roster is not None:
            self._groups.put(roster)
            changes.append(RosterKept(roster.id, roster.encoded, now))
        if taken.receipt:
            changes += self._telling.owe(message, DeliveryState.DELIVERED, now)
        out: list[Action] = []
        if taken.changes and roster is not None:
            out = self._give_up_in(roster.id, now)
        actions = _together(changes, out)
        if taken.positions:
            actions.append(News(max(taken.positions)))
        return [*actions, Confirm(arrival)]

    def _receipt(self, message: DecentralizedMessage, now: float) -> list[Action]:
        try:
            receipt = Receipt.parse(message.body)
        except InvalidMessage:
            self.refused[Refusal.MALFORMED] += 1
            return []
        told = self._sending.receipt(message.sender, receipt.ids, _EVENTS[receipt.state], now)
        if not told.unknown:
            return told.actions
        if self._standings.is_stranger(message.sender):
            self.refused[Refusal.UNASKED] += len(told.unknown)
            return told.actions
        changes = tuple(
            Settled(id_, message.sender, receipt.state, None, 0, "", now) for id_ in told.unknown
        )
        return [*told.actions, Keep(changes)]

    def _reached(self, event: Reachability, now: float) -> list[Action]:
        if event.transport not in self._reaches.capabilities:
            return []
        before = self._reaches.note(event.transport, event.peer, event.reach)
        self._telling.reached(event.peer, before, event.reach, now)
        return self._sending.reached(event.transport, event.peer, before, event.reach, now)

    def _transport_changed(self, event: TransportChanged, now: float) -> list[Action]:
        capabilities = event.capabilities
        if capabilities is not None:
            self._reaches.capabilities[event.transport] = capabilities
            if capabilities.available:
                self._sending.transport_back()
                self._telling.transport_back(now)
                return []
        gone = self._sending.transport_gone(event.transport, now)
        self._telling.transport_gone(event.transport, now)
        if capabilities is None:
            self._reaches.capabilities.pop(event.transport, None)
            self._reaches.forget(event.transport)
        return gone

    def _receivers(
        self, message: DecentralizedMessage, audience: Iterable[str], roster: Roster | None
    ) -> tuple[str, ...]:
        if message.kind is MessageKind.RECEIPT:
            raise InvalidMessage("receipts are not sent by hand: mark what was read")
        if message.receiver_id is not None:
            if message.receiver_id == self._own:
                raise InvalidMessage("receiver_id is your own fingerprint: give another person's")
            if self._standings.is_blocked(message.receiver_id):
                raise InvalidMessage(
                    "you have blocked the recipient: `fog peer block NAME --undo` ends that"
                )
            return (message.receiver_id,)
        if not message.room:
            near = () if message.requires_privacy else (EVERYBODY,)
            others = tuple(one for one in dict.fromkeys(audience) if one != self._own)
            if not near and not others:
                raise InvalidMessage(
                    "what goes to all who are near is not private: name who is to get it"
                )
            return (*near, *others)
        members = self._groups.get(message.room) if roster is None else roster.members
        if not members:
            raise InvalidMessage("room is no group that you are in: make it, or ask its maker")
        return tuple(one for one in members if one != self._own)

    def _end_streams(self) -> list[Action]:
        """End those in which a recipient would wait for a message that never comes."""
        ended = [self._streams.end(message) for message in self._sending.given_up]
        self._sending.given_up.clear()
        changes = tuple(one for one in ended if one is not None)
        return [Keep(changes)] if changes else []


def _together(changes: Iterable[BookChange], following: Iterable[Action]) -> list[Action]:
    """Keep changes and those of what follows from them at once, so that no crash parts them."""
    kept, rest = list(changes), list[Action]()
    for action in following:
        if isinstance(action, Keep):
            kept += action.changes
        else:
            rest.append(action)
    return [*([Keep(tuple(kept))] if kept else []), *rest]
