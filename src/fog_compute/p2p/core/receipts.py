"""Receipts that are owed: several go together, and each until it is as sure as it can be made.

A receipt that got lost on the way is asked for by its message coming again, and is then owed again.
Nobody asks for one that says *read*: where the transport may lose what it took, it goes again, some
times and over another transport where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from fog_compute.backoff import Backoff
from fog_compute.p2p.core.book import ReceiptOwed
from fog_compute.p2p.core.messages import DeliveryState, Receipt
from fog_compute.p2p.core.transport import OutcomeState, TransportType

__all__ = ["Batch", "Receipts"]

GATHER_S: Final = 0.05
"""How long a receipt waits for others that go with it."""

TOGETHER: Final = 64
"""Ids of one receipt."""

IN_ALL: Final = 20_000
"""Receipts that are owed at most; more are asked for by their messages coming again."""

PAUSES: Final = Backoff(1.0, 600.0)
"""Before what could not be sent is sent."""

WAITS: Final = Backoff(900.0, 21_600.0)
"""How long one may wait inside a transport before it is sent beside that."""

NEARBY_S: Final = 10.0
"""The same, once its recipient can be reached better."""

AGAIN_S: Final = (30.0, 300.0, 3600.0)
"""Pauses before *read* goes again over a transport that may have lost it."""


class _Key(NamedTuple):
    """What goes together; ``round`` counts how often it went already, and may be lost."""

    peer: str
    state: DeliveryState
    private: bool
    round: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Receipts of one kind that go to one sender together.

    Attributes:
        peer: to whom.
        receipt: what they say.
        private: take no way on which others see who writes to whom.
        round: how often they went already, and may be lost.
        failures: how often they could not be sent, in a row.
        id: of the message that carries them, once there is one.
        transport: over which.
        due: until when an answer, or news, is waited for.
        waiting: the transport said that it waits.
    """

    peer: str
    receipt: Receipt
    private: bool
    round: int
    failures: int
    id: str = ""
    transport: TransportType | None = None
    due: float = 0.0
    waiting: bool = False

    @property
    def key(self) -> _Key:
        """What goes together."""
        return _Key(self.peer, self.receipt.state, self.private, self.round)


@dataclass(slots=True)
class _Owed:
    due: float
    ids: dict[str, None] = field(default_factory=dict)  # in their order
    failures: int = 0
    asked: bool = False  # a transport has some of them, and has not answered


class Receipts:
    """What is owed to whom."""

    def __init__(self, owed: Iterable[ReceiptOwed], now: float) -> None:
        """Take up what was written down."""
        self._known: Final[set[ReceiptOwed]] = set()
        self._owed: Final[dict[_Key, _Owed]] = {}
        self._sent: Final[dict[str, Batch]] = {}
        for one in owed:
            self.owe(one, now)

    def __len__(self) -> int:
        return len(self._known)

    def owe(self, one: ReceiptOwed, now: float) -> bool:
        """Note a receipt; False if it is noted already, or there is no room."""
        if one in self._known or len(self._known) >= IN_ALL:
            return False
        self._known.add(one)
        self._gather(_Key(one.sender, one.state, one.private, 0), [one.id], now + GATHER_S)
        return True

    def next_due(self) -> float | None:
        """When receipts are to be sent, or have been waited for long enough."""
        times = [one.due for one in self._owed.values() if not one.asked]
        times += [one.due for one in self._sent.values()]
        return min(times, default=None)

    def due(self, now: float) -> list[Batch]:
        """The receipts whose time has come; follow each with `sent` or `put_off`."""
        for batch in [one for one in self._sent.values() if one.due <= now]:
            self.put_off(batch, now, at_once=batch.waiting)
        return [
            Batch(
                key.peer,
                Receipt(key.state, tuple(owed.ids)[:TOGETHER]),
                key.private,
                key.round,
                owed.failures,
            )
            for key, owed in self._owed.items()
            if not owed.asked and (owed.due <= now or _is_full(key, owed))
        ]

    def sent(self, batch: Batch, id: str, transport: TransportType, due: float) -> None:  # noqa: A002
        """A transport was asked to carry them, in the message ``id``, and answers until ``due``."""
        owed = self._owed[batch.key]
        for one in batch.receipt.ids:
            del owed.ids[one]
        owed.asked = True
        self._sent[id] = replace(batch, id=id, transport=transport, due=due)

    def put_off(self, batch: Batch, now: float, *, at_once: bool = False) -> None:
        """They cannot be sent now, or were not."""
        self._sent.pop(batch.id, None)
        due = now if at_once else now + PAUSES.after(batch.failures)
        owed = self._gather(batch.key, batch.receipt.ids, due)
        owed.due = due
        owed.failures = batch.failures + 1
        owed.asked = owed.asked and batch.waiting

    def answered(
        self, batch: Batch, state: OutcomeState, now: float, *, lossy: bool
    ) -> tuple[str, ...]:
        """A transport says how far they came; return those of which all is done.

        Args:
            batch: which, of those under way.
            state: how far.
            now: seconds since 1970.
            lossy: the transport may lose what it took.
        """
        if state is OutcomeState.FAILED:
            self.put_off(batch, now)
            return ()
        self._answered(batch)
        if state is OutcomeState.QUEUED:
            due = now + WAITS.after(batch.failures)
            self._sent[batch.id] = replace(batch, due=due, waiting=True)
            return ()
        del self._sent[batch.id]
        ids, receipt = batch.receipt.ids, batch.receipt.state
        maybe = state is OutcomeState.ACCEPTED and lossy and receipt is DeliveryState.READ
        if maybe and batch.round < len(AGAIN_S):
            self._gather(batch.key._replace(round=batch.round + 1), ids, now + AGAIN_S[batch.round])
            return ()
        self._known.difference_update(
            ReceiptOwed(batch.peer, one, receipt, batch.private) for one in ids
        )
        return ids

    def hurry(self, peer: str | None, now: float) -> None:
        """Somebody can be reached, or everybody who was before: try at once.

        What waits inside a transport is likely to go out now: that has a moment for it.
        """
        for key, owed in self._owed.items():
            if peer in {None, key.peer} and (owed.failures or not key.round):
                owed.failures = 0
                owed.due = min(owed.due, now)
        for id_, batch in self._sent.items():
            if peer in {None, batch.peer} and batch.waiting:
                self._sent[id_] = replace(batch, failures=0, due=min(batch.due, now + NEARBY_S))

    def transport_gone(self, transport: TransportType, now: float) -> None:
        """What it had under way is to be sent again."""
        for batch in [one for one in self._sent.values() if one.transport is transport]:
            self.put_off(batch, now, at_once=True)

    def under_way(self, id: str, transport: TransportType) -> Batch | None:  # noqa: A002
        """The receipts that a message carries over a transport."""
        batch = self._sent.get(id)
        return batch if batch is not None and batch.transport is transport else None

    def _answered(self, batch: Batch) -> None:
        """The next ones may go."""
        owed = self._owed.get(batch.key)
        if owed is None or batch.waiting:
            return
        owed.asked = False
        owed.failures = 0
        if not owed.ids:
            del self._owed[batch.key]

    def _gather(self, key: _Key, ids: Iterable[str], due: float) -> _Owed:
        """Have some wait for others that go with them."""
        owed = self._owed.get(key)
        if owed is None:
            owed = self._owed[key] = _Owed(due)
        elif not owed.ids and not owed.failures:
            owed.due = due
        owed.ids.update(dict.fromkeys(ids))
        return owed


def _is_full(key: _Key, owed: _Owed) -> bool:
    return len(owed.ids) >= TOGETHER and not owed.failures and not key.round
