"""A router, its book, and whom it knows: what tests of its decisions begin with."""

from __future__ import annotations

from random import Random

from fog_compute.p2p.core.actions import (
    Action,
    Answered,
    Event,
    Keep,
    Offer,
    TransportChanged,
    Wake,
)
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.inbox import Standing
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    DeliveryState,
    MessageId,
    MessageKind,
    Receipt,
    new_stream,
)
from fog_compute.p2p.core.rosters import Member, Roster
from fog_compute.p2p.core.router import Router, RouterPolicy
from fog_compute.p2p.core.transport import (
    Arrival,
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
    TransportType,
)
from fog_compute.testing.messaging import MemoryBook
from tests.unit.fog_compute.p2p.core.world import CAN_BLE, CAN_HTX, START

HTX, BLE = TransportType.BETANET_HTX, TransportType.BITCHAT_BLE
ANN, BOB, EVE, ZOE = "a1" * 32, "b2" * 32, "e5" * 32, "25" * 32
GROUP = "0f" * 16
STREAM = new_stream(Random(5))


class Desk:
    """A router, its book, and what it asked for last."""

    def __init__(self, policy: RouterPolicy | None = None) -> None:
        self.book = MemoryBook()
        self.groups = Groups(ANN)
        self.policy = policy
        self.now = START
        self.actions: list[Action] = []
        self.again()

    def again(self) -> None:
        """Begin anew from the book."""
        self.router = Router(
            ANN,
            self.book.state(self.now),
            self.now,
            Random(7),
            self.policy,
            {BOB: Standing.KNOWN, ZOE: Standing.KNOWN},
            self.groups,
        )

    def form(self, *members: str) -> None:
        """Have a group of these."""
        people = tuple(Member(one, bytes.fromhex(one)) for one in members)
        self.groups.put(Roster(GROUP, "us", ANN, people, 1, b"k" * 32, b""))

    def do(self, event: Event) -> list[Action]:
        return self._took(self.router.handle(event, self.now))

    def say(self, text: str = "hello", to: str | None = BOB, **fields: object) -> str:
        message = DecentralizedMessage(
            body=text.encode(),
            receiver_id=to,
            **fields,  # type: ignore[arg-type]  # by name
        )
        id_, actions = self.router.submit(message, self.now)
        self._took(actions)
        return id_

    def _took(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            if isinstance(action, Keep):
                self.book.apply(action.changes)
        self.actions = actions
        return actions

    def up(self, *, htx: bool = False, ble: Reach = Reach.NONE, peer: str = BOB) -> None:
        if htx:
            self.do(TransportChanged(HTX, CAN_HTX))
            self.do(Reachability(HTX, peer, Reach.ADDRESS))
        if ble is not Reach.NONE:
            self.do(TransportChanged(BLE, CAN_BLE))
            self.do(Reachability(BLE, peer, ble))

    def offers(self) -> list[Offer]:
        return [one for one in self.actions if isinstance(one, Offer)]

    def answer(self, state: OutcomeState, offer: Offer | None = None, **fields: object) -> None:
        offer = offer or self.offers()[0]
        outcome = Outcome(*offer.key, state, **fields)  # type: ignore[arg-type]  # by name
        self.do(Answered(offer, outcome))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.do(Wake())

    def arrive(self, message: DecentralizedMessage, *, proved: bool = True) -> list[Action]:
        return self.do(Arrival(HTX, message, proved, "token"))

    def shown(self) -> list[str]:
        return [one.message.text for one in self.book.entries() if not one.outgoing]

    def state(self, name: str, peer: str = BOB) -> DeliveryState:
        found = self.router.state(name, peer)
        assert found is not None
        return found


def from_bob(text: str, number: int | str = 0, **fields: object) -> DecentralizedMessage:
    id_ = str(MessageId(STREAM, number)) if isinstance(number, int) else number
    made = {
        "body": text.encode(),
        "receiver_id": ANN,
        "id": id_,
        "sender": BOB,
        "created_ms": int(START * 1000),
        **fields,
    }
    return DecentralizedMessage(**made)  # type: ignore[arg-type]  # by name


def receipt(
    *ids: str, state: DeliveryState = DeliveryState.DELIVERED, sender: str = BOB
) -> DecentralizedMessage:
    return from_bob(
        Receipt(state, ids).encode().decode(), "77" * 16, kind=MessageKind.RECEIPT, sender=sender
    )
