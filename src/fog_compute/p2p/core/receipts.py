"""Receipts that are owed: several go together, and each until a transport has it.

A receipt that got lost on the way is asked for by the message coming again: it is then owed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.p2p.core.book import ReceiptOwed
from fog_compute.p2p.core.messages import DeliveryState, Receipt
from fog_compute.p2p.core.transport import TransportType

__all__ = ["Batch", "Receipts"]

GATHER_S: Final = 0.05
"""How long a receipt waits for others that go with it."""

TOGETHER: Final = 64
"""Ids of one receipt."""

IN_ALL: Final = 20_000
"""Receipts that are owed at most; more are asked for by their messages coming again."""

PAUSES: Final = Backoff(1.0, 600.0)


_Key: TypeAlias = tuple[str, DeliveryState, bool]


@dataclass(slots=True)
class Batch:
    """Receipts of one kind that are under way to one sender.

    Attributes:
        peer: to whom.
        receipt: what they say.
        private: take no way on which others see who writes to whom.
        id: of the message that carries them, once there is one.
        transport: over which.
        failures: how often they could not be sent, in a row.
    """

    peer: str
    receipt: Receipt
    private: bool
    id: str = ""
    transport: TransportType | None = None
    failures: int = 0

    @property
    def key(self) -> _Key:
        """What goes together."""
        return (self.peer, self.receipt.state, self.private)


@dataclass(slots=True)
class _Owed:
    ids: dict[str, None] = field(default_factory=dict)  # in their order
    due: float = 0.0
    failures: int = 0
    under_way: Batch | None = None


class Receipts:
    """What is owed to whom."""

    def __init__(self, owed: Iterable[ReceiptOwed], now: float) -> None:
        """Take up what was written down."""
        self._owed: Final[dict[_Key, _Owed]] = {}
        self._size = 0
        for one in owed:
            self.owe(one, now)

    def __len__(self) -> int:
        return self._size

    def owe(self, one: ReceiptOwed, now: float) -> bool:
        """Note a receipt; False if it is noted already, or there is no room."""
        owed = self._owed.setdefault((one.sender, one.state, one.private), _Owed())
        if one.id in owed.ids or self._size >= IN_ALL:
            return False
        if not owed.ids and not owed.failures:
            owed.due = now + GATHER_S
        owed.ids[one.id] = None
        self._size += 1
        return True

    def next_due(self) -> float | None:
        """When receipts are to be sent."""
        return min(
            (one.due for one in self._owed.values() if one.ids and one.under_way is None),
            default=None,
        )

    def due(self, now: float) -> list[Batch]:
        """The receipts whose time has come; follow each with `sent` or `put_off`."""
        return [
            Batch(
                peer,
                Receipt(state, tuple(owed.ids)[:TOGETHER]),
                private,
                failures=owed.failures,
            )
            for (peer, state, private), owed in self._owed.items()
            if owed.ids
            and owed.under_way is None
            and (owed.due <= now or (len(owed.ids) >= TOGETHER and not owed.failures))
        ]

    def sent(self, batch: Batch, id: str, transport: TransportType) -> None:  # noqa: A002
        """A transport was asked to carry them, in the message ``id``."""
        batch.id = id
        batch.transport = transport
        self._owed[batch.key].under_way = batch

    def put_off(self, batch: Batch, now: float) -> None:
        """They cannot be sent now."""
        owed = self._owed[batch.key]
        owed.under_way = None
        owed.due = now + PAUSES.after(owed.failures)
        owed.failures += 1

    def hurry(self, peer: str | None, now: float) -> None:
        """Somebody can be reached, or everybody who was before: try at once."""
        for (owner, _, _), owed in self._owed.items():
            if peer is None or owner == peer:
                owed.failures = 0
                owed.due = min(owed.due, now)

    def transport_gone(self, transport: TransportType, now: float) -> None:
        """What it had under way is to be sent again."""
        for owed in self._owed.values():
            if owed.under_way is not None and owed.under_way.transport is transport:
                owed.under_way = None
                owed.due = now

    def settle(self, batch: Batch) -> None:
        """A transport has them."""
        owed = self._owed[batch.key]
        for id_ in batch.receipt.ids:
            if id_ in owed.ids:
                del owed.ids[id_]
                self._size -= 1
        owed.under_way = None
        owed.failures = 0
        if not owed.ids:
            del self._owed[batch.key]

    def under_way(self, id: str) -> Batch | None:  # noqa: A002
        """The receipts that a message carries."""
        for owed in self._owed.values():
            if owed.under_way is not None and owed.under_way.id == id:
                return owed.under_way
        return None
