"""What goes wrong on this side while something is under way: links, adapter, clock."""

from __future__ import annotations

from random import Random
from unittest.mock import Mock

import msgspec
import pytest

from fog_compute.p2p.bitchat.ble_links import AdapterChanged
from fog_compute.p2p.bitchat.events import LinkUp
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind
from fog_compute.p2p.core.transport import (
    Outcome,
    OutcomeState,
    PartLeft,
    Reach,
    Reachability,
    TransportUnavailable,
)
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person
from tests.unit.fog_compute.p2p.bitchat.wired import FIRST, Wired, wired


def file_for(other: Wired, size: int) -> DecentralizedMessage:
    at = int(NOW * 1000)
    return DecentralizedMessage(
        body=Random(size).randbytes(size),
        receiver_id=other.me.keys.fingerprint,
        kind=MessageKind.FILE,
        media_type="application/octet-stream",
        name="a.bin",
        id="5" * 32,
        created_ms=at,
        expires_ms=at + 90_000_000,
    )


async def together(*ends: Wired, seconds: float) -> None:
    """Let time pass for all of them."""
    for _ in range(round(seconds / 0.25)):
        for one in ends:
            await one.wait(0.25)


@pytest.mark.asyncio
async def test_link_that_goes_in_the_middle_of_a_file_is_told_and_the_file_arrives_later() -> None:
    """INV-BITCHAT-92."""
    async with wired() as ann, wired(person=2) as bob:
        ann.join(1, bob)
        await together(ann, bob, seconds=3.0)
        message, name = file_for(bob, 60_000), bob.me.keys.fingerprint
        await ann.told()
        await ann.transport.send(message, name)
        await together(ann, bob, seconds=0.5)
        ann.takes = False
        await together(ann, bob, seconds=0.5)
        ann.part(1)
        told = await ann.told()
        parts = [one for one in told if isinstance(one, PartLeft)]
        assert parts
        assert parts[-1].sent < 60_000
        assert [one.reach for one in told if isinstance(one, Reachability)][-1] is Reach.NONE
        assert await bob.heard() == []
        ann.takes = True
        ann._frames.clear()
        with_none = await ann.transport.send(message, name, attempt=1)
        assert with_none.state is OutcomeState.FAILED
        ann.join(2, bob)
        await together(ann, bob, seconds=2.0)
        again = await ann.transport.send(message, name, attempt=1)
        assert again.state is not OutcomeState.FAILED
        await together(ann, bob, seconds=60.0)
        (heard,) = await bob.heard()
        assert heard == msgspec.structs.replace(message, sender=ann.me.keys.fingerprint)


@pytest.mark.asyncio
async def test_adapter_that_is_unplugged_takes_no_other_links_with_it() -> None:
    """INV-BITCHAT-73."""
    async with wired() as ann, wired(person=2) as bob:
        ann.join(1, bob)
        ann.transport.tell(LinkUp(5, 512, initiated=True))  # a link of the radio
        await together(ann, bob, seconds=3.0)
        await ann.transport.send(file_for(bob, 30_000), bob.me.keys.fingerprint)
        ann.transport.tell(AdapterChanged("the adapter was unplugged", final=True))
        await together(ann, bob, seconds=30.0)
        assert [one.name for one in await bob.heard()] == ["a.bin"]
        assert ann.transport.get_capabilities().available


@pytest.mark.asyncio
async def test_mesh_begins_anew_where_the_clock_goes_back() -> None:
    """INV-BITCHAT-93."""
    async with wired(1) as me:
        await me.wait(10.0)
        await me.told()
        me.clock.jump(-3_600.0)
        me.raw(1, b"whatever comes")
        with pytest.raises(TransportUnavailable, match="the clock went back by 36"):
            await me.transport.receive()
        await me.transport.initialize()  # as its manager does
        me.up(2)
        ann = Person(1)
        me.get(2, ann.announce(me.now), ann.text("hello", me.now))
        assert [one.text for one in await me.heard()] == ["hello"]
        me.sent.clear()
        await me.wait(40.0)
        assert {one.kind for link, one in me.sent if link == 2} >= {0x01, 0x21}


@pytest.mark.asyncio
@pytest.mark.parametrize("seconds", [-3.0, 90.0, 86_400.0 * 30])
async def test_clock_that_is_set_a_little_or_forward_disturbs_nobody(seconds: float) -> None:
    """INV-BITCHAT-93."""
    async with wired() as ann, wired(person=2) as bob:
        ann.join(1, bob)
        await together(ann, bob, seconds=3.0)
        for one in (ann, bob):
            one.clock.jump(seconds)
        await together(ann, bob, seconds=40.0)
        message = msgspec.structs.replace(file_for(bob, 5_000), created_ms=int(ann.now * 1000),
                                          expires_ms=int(ann.now * 1000) + 9_000)  # fmt: skip
        outcome = await ann.transport.send(message, bob.me.keys.fingerprint)
        assert isinstance(outcome, Outcome)
        await together(ann, bob, seconds=10.0)
        assert [one.name for one in await bob.heard()] == ["a.bin"]
        assert FIRST + 1 in ann.transport._near.links


@pytest.mark.asyncio
async def test_mesh_that_fails_while_it_is_woken_is_made_anew() -> None:
    async with wired(1) as me:
        await me.wait(10.0)
        await me.told()
        me.transport._mesh = Mock(handle=Mock(side_effect=[KeyError("a stranger's word"), []]))
        me.transport._arm(me.now)
        with pytest.raises(TransportUnavailable, match=r"the mesh failed \(KeyError\)"):
            await me.transport.receive()
