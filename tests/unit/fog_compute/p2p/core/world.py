"""A world of some people on a virtual clock: a mixnet, a radio, and crashes between any two steps.

The mixnet keeps what is sent until it is confirmed, tells a wire id once, and is away at times, of
either side; the radio loses, repeats and turns messages around, says that it waits and then that it
could not, and ends in the middle. Transports may hang, and a change may be one that no database
takes. A person's router has only its book when it begins anew.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from fog_compute.p2p.core.actions import (
    Action,
    Answered,
    CarryReceipt,
    Confirm,
    Event,
    Keep,
    News,
    Offer,
    OutcomeTold,
    Progress,
    TransportChanged,
    Wake,
    WakeAt,
)
from fog_compute.p2p.core.book import Begun, BookChange, Kept, ReceiptOwed
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.inbox import Refusal, Standing
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    DeliveryState,
    MessageKind,
    Receipt,
)
from fog_compute.p2p.core.outbox import Key
from fog_compute.p2p.core.rosters import Roster
from fog_compute.p2p.core.router import Router, RouterPolicy
from fog_compute.p2p.core.transport import (
    Arrival,
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
    TransportCapabilities,
    TransportType,
)
from fog_compute.p2p.driver import can_wait
from fog_compute.testing.messaging import MemoryBook

HTX, BLE = TransportType.BETANET_HTX, TransportType.BITCHAT_BLE

CAN_HTX = TransportCapabilities(
    False, 2**26, False, False, "medium", lossy=False, link_encrypted=True, metadata_private=True
)
CAN_BLE = TransportCapabilities(True, 2**20, True, False, "low", mtu=517, link_encrypted=True)

START = 1_800_000_000.0


@dataclass(slots=True)
class Air:
    """How bad things are."""

    crash: float = 0.0  # before an action
    lost: float = 0.0  # on the radio
    twice: float = 0.0
    htx_fails: float = 0.0  # says that it failed; half of what failed arrives all the same
    waits: float = 0.0  # the radio says so; then it says that it went out, or that it did not
    hangs: float = 0.0  # a transport does as it was asked, or not, and never answers
    poison: float = 0.0  # nothing of what follows from an event can be written


@dataclass(slots=True)
class Mailbox:
    """What the mixnet has for somebody."""

    waiting: dict[str, DecentralizedMessage] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)  # in this run
    known: set[str] = field(default_factory=set)  # wire ids that ever came


class Person:
    """Somebody with a router, which ends at times."""

    def __init__(self, world: World, keys: Identity, policy: RouterPolicy) -> None:
        self.world = world
        self.keys = keys
        self.name = keys.fingerprint
        self.policy = policy
        self.book = MemoryBook()
        self.mailbox = Mailbox()
        self.online = True
        self.router: Router | None = None
        self.run = 0
        self.todo: deque[Action] = deque()
        self.crashes = 0
        self.unsaid: list[tuple[DecentralizedMessage, Roster | None]] = []
        self.refused: set[Refusal] = set()
        self.unwritten: list[BookChange] = []
        self.poisoned = 0
        self.told_read: set[tuple[str, str]] = set()  # of whom which message; that is kept
        self.by_radio: Counter[tuple[str, str]] = Counter()  # and how often that was said there
        self.offered: dict[Key, int] = {}
        self.taken: dict[Key, float] = {}  # when a transport said that it has it

    @property
    def other(self) -> Person:
        return self.others[0]

    @property
    def others(self) -> list[Person]:
        return [one for one in self.world.people if one is not self]

    def start(self) -> None:
        world = self.world
        now = world.now
        standings = dict.fromkeys((one.name for one in self.others), Standing.KNOWN)
        self.groups = Groups(self.name)
        self.router = Router(
            self.name, self.book.state(now), now, world.rng, self.policy, standings, self.groups
        )
        self.run += 1
        self.todo.clear()
        self.taken.clear()
        self.mailbox.told.clear()
        if self.online:
            self.reach(HTX, CAN_HTX, Reach.ADDRESS)
        if world.near:
            self.reach(BLE, CAN_BLE, Reach.DIRECT)
        unsaid, self.unsaid = self.unsaid, []
        for message, roster in unsaid:
            self.say(message, roster)
        self.world.in_(0.1, self.fetch)

    def reach(self, transport: TransportType, can: TransportCapabilities, reach: Reach) -> None:
        self.tell(TransportChanged(transport, can))
        for one in self.others:
            self.tell(Reachability(transport, one.name, reach))

    def tell(self, event: Event) -> None:
        if self.router is None:
            return
        if isinstance(event, TransportChanged | Reachability):
            self.taken.clear()
        actions = self.router.handle(event, self.world.now)
        if self.is_poison(actions):
            return
        self.todo.extend(actions)
        self.work()

    def say(self, message: DecentralizedMessage, roster: Roster | None = None) -> None:
        if self.router is None:
            self.unsaid.append((message, roster))
            return
        to_group = message.room and message.receiver_id is None and roster is None
        if to_group and not self.groups.get(message.room):
            return  # put out of the group meanwhile
        _, actions = self.router.submit(message, self.world.now, roster=roster)
        assert isinstance(actions[0], Keep)
        if self.is_poison(actions):
            self.world.in_(1, lambda: self.say(message, roster))
            return
        self.todo.extend(actions)
        self.work()
        if not self.book.mine or message.body not in {
            one[1].body for one in self.book.mine.values()
        }:
            # Its command ended without an id, and is given again.
            self.unsaid.append((message, roster))

    def read(self) -> None:
        """Read what is shown, and tell so."""
        if self.router is None:
            return
        shown = [one.message for one in self.book.entries() if not one.outgoing]
        unread = [one for one in shown if (one.sender, one.id) not in self.told_read]
        self.todo.extend(self.router.read(unread, self.world.now))
        self.work()

    def is_poison(self, actions: list[Action]) -> bool:
        """Whether nothing of this can be written; then the router is made to begin again."""
        kept = [one for one in actions if isinstance(one, Keep)]
        new = any(isinstance(change, Kept | Begun) for one in kept for change in one.changes)
        if not new or self.world.rng.random() >= self.world.air.poison:
            return False
        self.poisoned += 1
        if self.router is not None:
            self.book.apply(self.unwritten)
            self.unwritten.clear()
            self.taken.clear()
            self.router.begin_again(self.book.state(self.world.now), self.world.now)
            self.world.in_(0, lambda: self.tell(Wake()))
        return True

    def work(self) -> None:
        while self.todo and self.router is not None:
            if self.world.rng.random() < self.world.air.crash:
                self.crash()
                return
            self.act(self.todo.popleft())

    def crash(self) -> None:
        self.crashes += 1
        if self.router is not None:
            self.refused |= set(self.router.refused)
        self.router = None
        self.unwritten.clear()
        self.run += 1
        self.todo.clear()
        self.world.in_(self.world.rng.uniform(0.1, 20), self.start)

    def later(self, seconds: float, event: Event) -> None:
        run = self.run

        def now() -> None:
            if self.run == run:
                self.note(event)
                self.tell(event)

        self.world.in_(seconds, now)

    def note(self, event: Event) -> None:
        """Remember what a transport says that it has."""
        if isinstance(event, Answered) and event.outcome.state is not OutcomeState.FAILED:
            key = event.offer.key
            asked = self.router is not None and self.router.state(*key) is DeliveryState.SENDING
            if asked and self.offered.get(key) == event.offer.number:
                self.taken[key] = self.world.now
        elif isinstance(event, Answered | OutcomeTold):
            outcome = event.outcome
            if outcome.state is OutcomeState.FAILED:
                self.taken.pop(Key(outcome.message_id, outcome.receiver), None)

    def act(self, action: Action) -> None:
        world = self.world
        match action:
            case Keep(changes):
                self.keep(changes)
            case Offer(transport, key, attempt, number):
                self.offered[key] = number
                message = self.book.find(self.name, key.id)
                assert message is not None
                taken = self.taken.pop(key, 0.0)
                assert world.now >= taken + 4.9, f"{key} is offered again without a reason"
                outcome = world.send(self, transport, message, key.receiver, attempt)
                if world.rng.random() >= world.air.hangs:
                    self.later(world.rng.uniform(0.01, 3), Answered(action, outcome))
            case CarryReceipt(transport, message):
                outcome = world.send(self, transport, message, message.receiver_id or "", 0)
                if world.rng.random() >= world.air.hangs:
                    self.later(world.rng.uniform(0.01, 1), OutcomeTold(transport, outcome))
            case Confirm(arrival):
                self.mailbox.waiting.pop(arrival.token, None)
            case WakeAt(at):
                self.later(max(0.0, at - world.now), Wake())
            case News() | Progress():
                pass

    def keep(self, changes: Sequence[BookChange]) -> None:
        """Write them, as the driver does: what can wait may be lost by a crash."""
        for change in changes:
            if isinstance(change, ReceiptOwed) and change.state is DeliveryState.READ:
                self.told_read.add((change.sender, change.id))
        self.unwritten += changes
        if not all(can_wait(one) for one in self.unwritten) or self.world.rng.random() < 0.1:
            self.book.apply(self.unwritten)
            self.unwritten.clear()

    def fetch(self) -> None:
        """Take what the mixnet has and did not tell in this run."""
        if self.router is None or not self.online:
            return
        box = self.mailbox
        tokens = [one for one in box.waiting if one not in box.told]
        self.world.rng.shuffle(tokens)
        for token in tokens:
            box.told.add(token)
            self.later(self.world.rng.uniform(0, 2), Arrival(HTX, box.waiting[token], True, token))

    def said(self) -> list[str]:
        return [one.message.text for one in self.book.entries() if one.outgoing]

    def shown(self) -> list[str]:
        return [one.message.text for one in self.book.entries() if not one.outgoing]


class World:
    """Time, and what lies between the two."""

    def __init__(
        self, seed: int, air: Air, policy: RouterPolicy | None = None, people: int = 2
    ) -> None:
        self.rng = Random(seed)
        self.air = air
        self.now = START
        self.near = True
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.people: list[Person] = []
        for number in range(people):
            keys = Identity(bytes([number + 1]) * 32)
            self.people.append(Person(self, keys, policy or RouterPolicy()))
        for person in self.people:
            person.start()

    def in_(self, seconds: float, what: Callable[[], object]) -> None:
        # Steps that a float and a database keep alike.
        seconds = math.ceil(seconds * 64) / 64
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), what))

    def pass_time(self, seconds: float) -> None:
        until = self.now + math.ceil(seconds * 64) / 64
        while self._agenda and self._agenda[0][0] <= until:
            at, _, what = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            what()
        self.now = until

    def set_near(self, near: bool) -> None:
        if near == self.near:
            return
        self.near = near
        for person in self.people:
            if near:
                person.reach(BLE, CAN_BLE, Reach.DIRECT)
            else:
                person.tell(TransportChanged(BLE, None))

    def set_online(self, person: Person, online: bool) -> None:
        if online == person.online:
            return
        person.online = online
        if online:
            person.reach(HTX, CAN_HTX, Reach.ADDRESS)
            person.fetch()
        else:
            person.tell(TransportChanged(HTX, None))

    def send(
        self,
        sender: Person,
        transport: TransportType,
        message: DecentralizedMessage,
        to: str,
        attempt: int,
    ) -> Outcome:
        receiver = next((one for one in self.people if one.name == to), sender.other)  # or all
        if transport is HTX:
            fails = not sender.online or self.rng.random() < self.air.htx_fails
            if not fails or self.rng.random() < 0.5:
                wire = f"{message.id}.{attempt}"
                self.in_(self.rng.uniform(0.01, 1), lambda: self.store(receiver, wire, message))
            state = OutcomeState.FAILED if fails else OutcomeState.STORED
            return Outcome(message.id, to, state)
        if not self.near:
            return Outcome(message.id, to, OutcomeState.FAILED)
        if self.rng.random() >= self.air.waits:
            self.say(sender, receiver, message)
            return Outcome(message.id, to, OutcomeState.ACCEPTED)
        state = self.rng.choice((OutcomeState.ACCEPTED, OutcomeState.FAILED))
        pause = self.rng.uniform(3.5, 70)
        if state is OutcomeState.ACCEPTED:
            self.in_(pause, lambda: self.say(sender, receiver, message))
        sender.later(pause, OutcomeTold(BLE, Outcome(message.id, to, state)))
        return Outcome(message.id, to, OutcomeState.QUEUED)

    def say(self, sender: Person, receiver: Person, message: DecentralizedMessage) -> None:
        """The radio carries a message, or loses it."""
        if message.kind is MessageKind.RECEIPT:
            receipt = Receipt.parse(message.body)
            if receipt.state is DeliveryState.READ:
                sender.by_radio.update((receiver.name, one) for one in receipt.ids)
        arrival = Arrival(BLE, message, True)
        for _ in range(2 if self.rng.random() < self.air.twice else 1):
            if self.near and self.rng.random() >= self.air.lost:
                self.in_(self.rng.uniform(0.01, 2), lambda: self.hear(receiver, arrival))

    def store(self, receiver: Person, wire: str, message: DecentralizedMessage) -> None:
        if wire not in receiver.mailbox.known:
            receiver.mailbox.known.add(wire)
            receiver.mailbox.waiting[wire] = message
            receiver.fetch()

    def hear(self, receiver: Person, arrival: Arrival) -> None:
        if self.near:
            receiver.tell(arrival)

    def settle(self, seconds: float = 100_000) -> None:
        """Let everything be well, and wait."""
        self.air = Air()
        self.set_near(True)
        for person in self.people:
            self.set_online(person, True)
        self.pass_time(seconds)
        for person in self.people:
            person.book.apply(person.unwritten)
            person.unwritten.clear()

    def states(self, person: Person) -> set[DeliveryState]:
        return {one.state for one in person.book.deliveries.values()}
