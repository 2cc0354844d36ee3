"""A world of two people on a virtual clock: a mixnet, a radio, and crashes between any two steps.

The mixnet keeps what is sent until it is confirmed, tells a wire id once, and is away at times, of
either side; the radio loses, repeats and turns messages around, and ends in the middle. A person's
router has only its book when it begins anew.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
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
    Progress,
    ReceiptAnswered,
    TransportChanged,
    Wake,
    WakeAt,
)
from fog_compute.p2p.core.book import BookChange
from fog_compute.p2p.core.inbox import Refusal, Standing
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
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


@dataclass(slots=True)
class Mailbox:
    """What the mixnet has for somebody."""

    waiting: dict[str, DecentralizedMessage] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)  # in this run
    known: set[str] = field(default_factory=set)  # wire ids that ever came


class Person:
    """Somebody with a router, which ends at times."""

    def __init__(self, world: World, name: str, policy: RouterPolicy) -> None:
        self.world = world
        self.name = name
        self.policy = policy
        self.book = MemoryBook()
        self.mailbox = Mailbox()
        self.online = True
        self.router: Router | None = None
        self.run = 0
        self.todo: deque[Action] = deque()
        self.crashes = 0
        self.unsaid: list[DecentralizedMessage] = []
        self.refused: set[Refusal] = set()
        self.unwritten: list[BookChange] = []

    @property
    def other(self) -> Person:
        return self.world.people[1 - self.world.people.index(self)]

    def start(self) -> None:
        world = self.world
        now = world.now
        standings = {self.other.name: Standing.KNOWN}
        self.router = Router(
            self.name, self.book.state(now), now, world.rng, self.policy, standings
        )
        self.run += 1
        self.todo.clear()
        self.mailbox.told.clear()
        if self.online:
            self.tell(TransportChanged(HTX, CAN_HTX))
            self.tell(Reachability(HTX, self.other.name, Reach.ADDRESS))
        if world.near:
            self.tell(TransportChanged(BLE, CAN_BLE))
            self.tell(Reachability(BLE, self.other.name, Reach.DIRECT))
        unsaid, self.unsaid = self.unsaid, []
        for message in unsaid:
            self.say(message)
        self.world.in_(0.1, self.fetch)

    def tell(self, event: Event) -> None:
        if self.router is not None:
            self.todo.extend(self.router.handle(event, self.world.now))
            self.work()

    def say(self, message: DecentralizedMessage) -> None:
        if self.router is None:
            self.unsaid.append(message)
            return
        _, actions = self.router.submit(message, self.world.now)
        assert isinstance(actions[0], Keep)
        self.todo.extend(actions)
        self.work()
        if not self.book.mine or message.body not in {
            one[1].body for one in self.book.mine.values()
        }:
            self.unsaid.append(message)  # its command ended without an id, and is given again

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
        self.world.in_(seconds, lambda: self.tell(event) if self.run == run else None)

    def act(self, action: Action) -> None:
        world = self.world
        match action:
            case Keep(changes):
                self.keep(changes)
            case Offer(transport, key, attempt, _):
                message = self.book.find(self.name, key.id)
                assert message is not None
                outcome = world.send(self, transport, message, attempt)
                self.later(world.rng.uniform(0.01, 3), Answered(action, outcome))
            case CarryReceipt(transport, message):
                outcome = world.send(self, transport, message, 0)
                self.later(world.rng.uniform(0.01, 1), ReceiptAnswered(outcome))
            case Confirm(arrival):
                self.mailbox.waiting.pop(arrival.token, None)
            case WakeAt(at):
                self.later(max(0.0, at - world.now), Wake())
            case News() | Progress():
                pass

    def keep(self, changes: Sequence[BookChange]) -> None:
        """Write them, as the driver does: what can wait may be lost by a crash."""
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

    def shown(self) -> list[str]:
        return [one.message.text for one in self.book.entries() if not one.outgoing]


class World:
    """Time, and what lies between the two."""

    def __init__(self, seed: int, air: Air, policy: RouterPolicy | None = None) -> None:
        self.rng = Random(seed)
        self.air = air
        self.now = START
        self.near = True
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.people: list[Person] = []
        for name in ("a1" * 32, "b2" * 32):
            self.people.append(Person(self, name, policy or RouterPolicy()))
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
            person.tell(TransportChanged(BLE, CAN_BLE if near else None))
            if near:
                person.tell(Reachability(BLE, person.other.name, Reach.DIRECT))

    def set_online(self, person: Person, online: bool) -> None:
        if online == person.online:
            return
        person.online = online
        person.tell(TransportChanged(HTX, CAN_HTX if online else None))
        if online:
            person.tell(Reachability(HTX, person.other.name, Reach.ADDRESS))
            person.fetch()

    def send(
        self, sender: Person, transport: TransportType, message: DecentralizedMessage, attempt: int
    ) -> Outcome:
        receiver = sender.other
        if transport is HTX:
            fails = not sender.online or self.rng.random() < self.air.htx_fails
            if not fails or self.rng.random() < 0.5:
                wire = f"{message.id}.{attempt}"
                self.in_(self.rng.uniform(0.01, 1), lambda: self.store(receiver, wire, message))
            state = OutcomeState.FAILED if fails else OutcomeState.STORED
            return Outcome(message.id, state)
        arrival = Arrival(BLE, message, True)
        for _ in range(2 if self.rng.random() < self.air.twice else 1):
            if self.near and self.rng.random() >= self.air.lost:
                self.in_(self.rng.uniform(0.01, 2), lambda: self.hear(receiver, arrival))
        return Outcome(message.id, OutcomeState.ACCEPTED if self.near else OutcomeState.FAILED)

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
