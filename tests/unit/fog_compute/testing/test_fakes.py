"""The fakes keep the promises of what they stand for."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from fog_compute.clock import Clock
from fog_compute.errors import ChannelError, ChannelTimeout
from fog_compute.testing import ManualClock, MemoryNetwork
from fog_compute.vpn.channel import MessageChannel


def test_the_fakes_have_the_shape_of_the_real_things() -> None:
    assert isinstance(MemoryNetwork().channel("a"), MessageChannel)
    assert isinstance(ManualClock(), Clock)


@pytest.mark.asyncio
async def test_a_request_is_answered() -> None:
    network = MemoryNetwork()
    alice, bob = network.channel("alice"), network.channel("bob")

    async def answer() -> None:
        incoming = await bob.receive()
        assert incoming.reply_capacity == 3 * 2042
        await bob.reply(incoming, incoming.body.upper())
        with pytest.raises(ChannelError, match="used up"):
            await bob.reply(incoming, b"again")

    answering = asyncio.create_task(answer())
    assert await alice.request("bob", b"hello", reply_packets=3) == b"HELLO"
    await answering


@pytest.mark.asyncio
async def test_no_answer_is_a_timeout_and_a_large_one_is_refused() -> None:
    network = MemoryNetwork()
    alice, bob = network.channel("alice"), network.channel("bob")
    with pytest.raises(ChannelTimeout):
        await alice.request("bob", b"x", timeout=0.01)
    with pytest.raises(ChannelError, match="nobody"):
        await alice.send("carol", b"x")
    asking = asyncio.create_task(alice.request("bob", b"x", reply_packets=1))
    await bob.receive()
    incoming = await bob.receive()
    with pytest.raises(ChannelError, match="fit"):
        await bob.reply(incoming, bytes(2043))
    await bob.reply(incoming, b"y")
    assert await asking == b"y"
    await alice.send("bob", b"one way")
    with pytest.raises(ChannelError, match="no way back"):
        await bob.reply(await bob.receive(), b"")


@pytest.mark.asyncio
async def test_what_was_not_committed_comes_again_after_a_restart() -> None:
    network = MemoryNetwork()
    alice, bob = network.channel("alice"), network.channel("bob")
    for body in (b"1", b"2", b"3"):
        await alice.send("bob", body)
    first, second = await bob.receive(), await bob.receive()
    await bob.commit(first)
    again = network.channel("bob")
    assert await again.receive() == second
    assert (await again.receive()).body == b"3"


@pytest.mark.asyncio
async def test_loss_and_repetition_happen_as_often_as_asked() -> None:
    network = MemoryNetwork(random.Random(1), loss=0.3, duplication=0.5)
    alice = network.channel("alice")
    network.channel("bob")
    failed = 0
    for _ in range(400):
        try:
            await alice.send("bob", b"x")
        except ChannelTimeout:
            failed += 1
    assert 80 < failed < 160
    assert 340 < network.delivered < 500


@pytest.mark.asyncio
async def test_a_closed_channel_says_so() -> None:
    channel = MemoryNetwork().channel("a")
    waiting = asyncio.create_task(channel.receive())
    await asyncio.sleep(0)
    channel.close()
    with pytest.raises(ChannelError, match="closed"):
        await waiting
    with pytest.raises(ChannelError, match="closed"):
        await channel.send("a", b"")


@pytest.mark.asyncio
async def test_sleepers_wake_in_order_when_the_clock_is_moved() -> None:
    clock = ManualClock()
    start = clock.now()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    sleepers = [
        asyncio.create_task(sleep("late", 3)),
        asyncio.create_task(sleep("soon", 1)),
        asyncio.create_task(sleep("at once", 0)),
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert woken == [("at once", 0.0)]
    await clock.advance(2)
    assert woken[1:] == [("soon", 1.0)]
    assert clock.now() - start == timedelta(seconds=2)
    await clock.advance(2)
    assert woken[2:] == [("late", 3.0)]
    await asyncio.gather(*sleepers)


@pytest.mark.asyncio
async def test_who_slept_through_a_suspension_wakes_at_its_end() -> None:
    clock = ManualClock()
    start = clock.now()
    sleeper = asyncio.create_task(clock.sleep(60))
    await asyncio.sleep(0)

    clock.suspend(3600)
    assert not sleeper.done()
    await clock.advance(0)
    await asyncio.wait({sleeper})

    assert clock.monotonic() == 3600
    assert clock.now() - start == timedelta(hours=1)


def test_between_two_runs_the_time_of_day_may_be_another_and_a_new_boot_counts_anew() -> None:
    clock = ManualClock()
    start, boot = clock.now(), clock.boot
    clock.suspend(7)

    clock.jump(-86400)
    assert (clock.now() - start, clock.monotonic()) == (timedelta(seconds=7 - 86400), 7)
    clock.reboot()

    assert clock.boot != boot
    assert (clock.now() - start, clock.monotonic()) == (timedelta(seconds=7 - 86400), 0)
