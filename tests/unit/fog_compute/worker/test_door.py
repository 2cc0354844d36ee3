"""Who gets in at a worker: members of its groups, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from fog_compute.tasks.groups import Group, Keyring, NotAMember
from fog_compute.tasks.messages import Accepted, Cancel, Module, Poll, PollItem, Rejected
from fog_compute.tasks.sealing import session_of
from fog_compute.tasks.wire import encode, parse_reply
from fog_compute.testing import ManualClock, MemoryNetwork
from fog_compute.vpn.channel import Received
from fog_compute.worker.door import ADDRESSES_REMEMBERED, ANSWERS, Door
from tests.members import GROUP, MEMBERS

from . import guests
from .conftest import DEADLINE_S, Requester, Running, handle_of

STRANGER = Keyring((Group.new(GROUP),))


class Moving:
    """A channel whose address changes."""

    def __init__(self) -> None:
        self.address = "fog1first"


def door_of(channel: object, clock: ManualClock | None = None) -> Door:
    return Door(channel, lambda: MEMBERS, ManualClock() if clock is None else clock)  # type: ignore[arg-type]  # it looks at the address alone


@pytest.mark.asyncio
async def test_strangers_message_is_refused_and_nothing_of_it_is_kept(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-105."""
    submit = requester.submission(guests.HELLO)
    blob = requester.seal(b"x" * 5000)
    for request in (
        submit,
        Module(blob.ref, blob.data, session_of(requester.key)),
        Cancel((handle_of(submit),)),
        Poll((PollItem(handle_of(submit)),)),
    ):
        for body in (encode(request), STRANGER.seal(GROUP, requester.worker, encode(request))):
            reply = parse_reply(await requester.channel.request(requester.worker, body))
            assert isinstance(reply, Rejected)
            assert "proves none of them" in reply.reason
    agent = worker.agent
    assert agent._reception._cache.has(blob.ref) is False
    assert agent._reception._cache.has(submit.orders[0].module) is False
    # The stranger's cancellation forestalled nothing: the member's attempt runs.
    assert isinstance(await requester.submit(submit), Accepted)
    assert (await requester.result(handle_of(submit))).exit_code == 0
    assert agent._reception.turned_away == 8


@pytest.mark.asyncio
async def test_former_addresses_are_believed_and_a_bounded_number_of_them() -> None:
    """INV-TASK-105."""
    channel = Moving()
    door = door_of(channel)

    async def comes(address: str) -> str:
        group, _ = await door.open(Received("m", MEMBERS.seal(GROUP, address, b"x")))
        return group

    assert await comes("fog1first") == GROUP
    for number in range(ADDRESSES_REMEMBERED - 1):
        channel.address = f"fog1-{number}"
        assert await comes("fog1first") == GROUP
    channel.address = "fog1last"
    assert await comes("fog1last") == GROUP
    with pytest.raises(NotAMember):
        await comes("fog1first")
    assert door.turned_away == 1


def test_strangers_are_told_why_at_a_bounded_rate() -> None:
    clock = ManualClock()
    door = door_of(Moving(), clock)
    told = [door.may_answer() for _ in range(ANSWERS + 7)]
    assert told == [True] * ANSWERS + [False] * 7


@pytest.mark.asyncio
async def test_strangers_are_told_again_after_a_while() -> None:
    clock = ManualClock()
    door = door_of(Moving(), clock)
    while door.may_answer():
        pass
    await clock.advance(1.0)
    assert door.may_answer()


@pytest.mark.asyncio
async def test_worker_lists_tags_and_no_names(worker: Running, network: MemoryNetwork) -> None:
    """INV-TASK-106."""
    await worker.agent.tried()
    async with asyncio.timeout(DEADLINE_S):
        while len(worker.offers.published) < 2:
            await asyncio.sleep(0.005)
    offers = worker.offers.published
    assert [MEMBERS.read_tags(offer.groups, offer.address) for offer in offers] == [(GROUP,)] * 2
    assert GROUP not in offers[0].groups + offers[1].groups
    assert not set(offers[0].groups) & set(offers[1].groups)
