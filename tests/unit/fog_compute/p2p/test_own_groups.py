"""Changing a group: in one step, and everybody who is out of it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import cast

import pytest

from fog_compute.p2p.core.actions import Action, Keep
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.inbox import Standing
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.outbox import OutboxFull, OutboxLimits
from fog_compute.p2p.core.peer import Peer
from fog_compute.p2p.core.rosters import NO_KEY, Roster
from fog_compute.p2p.core.router import Router, RouterPolicy
from fog_compute.p2p.driver import RouterDriver
from fog_compute.p2p.own_groups import OwnGroups
from fog_compute.p2p.store_book import StoreBook
from fog_compute.testing.messaging import MemoryBook
from tests.unit.fog_compute.p2p.core.world import START

pytestmark = pytest.mark.asyncio

ANN, BOB, CEM, ZOE = (Identity(bytes((one,)) * 32) for one in range(1, 5))


class Maker:
    """Ann, who makes groups of the others; Bob is blocked."""

    def __init__(self, policy: RouterPolicy | None = None) -> None:
        self.book = MemoryBook()
        self.groups = Groups(ANN.fingerprint)
        people = [
            Peer(one.noise_public, one.signing_public, blocked=one is BOB)
            for one in (BOB, CEM, ZOE)
        ]
        self.router = Router(
            ANN.fingerprint,
            self.book.state(START),
            START,
            Random(7),
            policy,
            {BOB.fingerprint: Standing.BLOCKED},
            self.groups,
        )
        self.turns = 0
        self.own_groups = OwnGroups(
            ANN,
            "ann",
            PeerBook(people, own=ANN.fingerprint),
            self.groups,
            self.router,
            cast("RouterDriver", self),
            cast("StoreBook", self.book),
        )

    async def ask(self, ask: Callable[[float], tuple[str, list[Action]]]) -> str:
        await asyncio.sleep(0)  # as others do before it is a message's turn
        said, actions = ask(START)
        self.turns += 1
        for action in actions:
            if isinstance(action, Keep):
                self.book.apply(action.changes)
        return said

    def told(self, who: Identity) -> list[DecentralizedMessage]:
        """What somebody alone was sent."""
        mine = [message for _, message, _ in self.book.mine.values()]
        return [one for one in mine if one.receiver_id == who.fingerprint]


async def test_everybody_else_who_is_put_out_is_told_where_one_is_blocked() -> None:
    """INV-P2P-11: all in one step, so that no crash comes between."""
    maker = Maker()
    group = await maker.own_groups.make("us", [one.fingerprint for one in (BOB, CEM, ZOE)])

    await maker.own_groups.change(group, "we two", [ZOE.fingerprint])

    assert set(maker.groups[group]) == {ANN.fingerprint, ZOE.fingerprint}
    assert [Roster.parse(one.body).key for one in maker.told(CEM)] == [NO_KEY]
    assert maker.told(BOB) == maker.told(ZOE) == []
    assert maker.turns == 2


async def test_two_changes_at_once_are_of_two_epochs() -> None:
    """INV-BITCHAT-33: members would take the first alone, and its maker the second."""
    maker = Maker()
    group = await maker.own_groups.make("us", [ZOE.fingerprint])

    await asyncio.gather(
        *(maker.own_groups.change(group, name, [ZOE.fingerprint]) for name in ("one", "two"))
    )

    rosters = [Roster.parse(one.body) for _, one, _ in maker.book.mine.values()]
    assert [(one.name, one.epoch) for one in rosters] == [("us", 1), ("one", 2), ("two", 3)]


async def test_who_cannot_be_told_for_want_of_room_keeps_nothing_from_the_others() -> None:
    """INV-P2P-08, INV-P2P-11."""
    maker = Maker(RouterPolicy(outbox=OutboxLimits(per_peer=3)))
    group = await maker.own_groups.make("us", [one.fingerprint for one in (CEM, ZOE)])
    ids = list(maker.book.mine)
    await maker.ask(lambda now: ("", maker.router.cancel(ids, now)))
    full, *others = sorted((CEM, ZOE), key=lambda one: one.fingerprint)
    message = DecentralizedMessage(body=b"x", receiver_id=full.fingerprint)
    for _ in range(3):
        await maker.ask(lambda now: maker.router.submit(message, now))

    with pytest.raises(OutboxFull):
        await maker.own_groups.change(group, "me", [])

    assert maker.groups[group] == (ANN.fingerprint,)
    assert [len(maker.told(one)) for one in others] == [1]
    assert len(maker.told(full)) == 3
