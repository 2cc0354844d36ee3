"""Telling others that messages of theirs are here, or were read: how, and how often."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from fog_compute.p2p.core.actions import Action, CarryReceipt, Keep
from fog_compute.p2p.core.book import ReceiptOwed, ReceiptSent
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    DeliveryState,
    MessageKind,
    is_own_id,
)
from fog_compute.p2p.core.reaches import Reaches
from fog_compute.p2p.core.receipts import Batch, Receipts
from fog_compute.p2p.core.routing import candidates
from fog_compute.p2p.core.sending import SendingPolicy
from fog_compute.p2p.core.transport import Outcome, Reach, TransportType

__all__ = ["Telling"]


class Telling:
    """Carries receipts of ours. Each method gives what follows from it."""

    def __init__(
        self,
        own: str,
        owed: Iterable[ReceiptOwed],
        now: float,
        reaches: Reaches,
        rng: Random,
        policy: SendingPolicy,
        *,
        life_ms: int,
        on: bool,
    ) -> None:
        """Go on with what was written down.

        Args:
            own: our fingerprint.
            owed: what was owed to whom.
            now: seconds since 1970.
            reaches: who can be reached how.
            rng: names the messages that carry receipts.
            policy: how long a transport may take to answer.
            life_ms: how long such a message may be under way.
            on: whether others are told at all.
        """
        self._own: Final = own
        self._receipts: Final = Receipts(owed, now)
        self._reaches: Final = reaches
        self._rng: Final = rng
        self._policy: Final = policy
        self._life_ms: Final = life_ms
        self._on: Final = on

    def owe(
        self, message: DecentralizedMessage, state: DeliveryState, now: float
    ) -> list[ReceiptOwed]:
        """Have the sender of a message told of it; what is to be written down of that.

        What goes to all who are near is told by nobody, and nobody waits for a receipt of what the
        app says in a group: its ids look otherwise.
        """
        in_group = bool(message.room) and is_own_id(message.id)
        if not self._on or (message.receiver_id is None and not in_group):
            return []
        owed = ReceiptOwed(message.sender, message.id, state, message.requires_privacy)
        return [owed] if self._receipts.owe(owed, now) else []

    def next_due(self) -> float | None:
        """When there is something to carry, or to carry again."""
        return self._receipts.next_due()

    def carry(self, now: float) -> list[Action]:
        """Give transports what is to go now."""
        actions: list[Action] = []
        for batch in self._receipts.due(now):
            message = self._message(batch, now)
            transport = self._choose(batch, message)
            if transport is None:
                self._receipts.put_off(batch, now)
            else:
                wait = self._policy.answer_by(
                    self._reaches.capabilities[transport], len(message.body)
                )
                self._receipts.sent(batch, message.id, transport, now + wait)
                actions.append(CarryReceipt(transport, message))
        return actions

    def told(self, transport: TransportType, outcome: Outcome, now: float) -> list[Action] | None:
        """A transport says what became of a message; None if it carries no receipts of ours."""
        batch = self._receipts.under_way(outcome.message_id, transport)
        if batch is None:
            return None
        can = self._reaches.capabilities.get(transport)
        lossy = can is None or can.lossy
        done = self._receipts.answered(batch, outcome.state, now, lossy=lossy)
        return [Keep((ReceiptSent(batch.peer, done, batch.receipt.state),))] if done else []

    def reached(self, peer: str, before: Reach, reach: Reach, now: float) -> None:
        """Somebody is reached in another way."""
        if reach > before:
            self._receipts.hurry(peer, now)

    def transport_back(self, now: float) -> None:
        """A transport can be used again."""
        self._receipts.hurry(None, now)

    def transport_gone(self, transport: TransportType, now: float) -> None:
        """A transport went: what it had is sent again."""
        self._receipts.transport_gone(transport, now)

    def _choose(self, batch: Batch, message: DecentralizedMessage) -> TransportType | None:
        capabilities = self._reaches.capabilities
        able = candidates(message, len(message.body), self._reaches.of(batch.peer), capabilities)
        if batch.round:  # it may have got lost
            able.sort(key=lambda one: capabilities[one].lossy)
        return able[batch.failures % len(able)] if able else None

    def _message(self, batch: Batch, now: float) -> DecentralizedMessage:
        return DecentralizedMessage(
            body=batch.receipt.encode(),
            receiver_id=batch.peer,
            media_type="application/octet-stream",
            kind=MessageKind.RECEIPT,
            requires_privacy=batch.private,
            id=f"{self._rng.getrandbits(128):032x}",
            sender=self._own,
            created_ms=int(now * 1000),
            expires_ms=int(now * 1000) + self._life_ms,
        )
