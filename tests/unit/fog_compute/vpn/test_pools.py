"""A pool over clients in memory: rotation, failover, isolation."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from fog_compute.errors import ChannelDown, ChannelTimeout, CircuitError, PrivacyUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.testing import ManualClock
from fog_compute.vpn.circuits import LARGEST, Circuit, CircuitState, Cost
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.plans import SMALLEST, PoolPolicy
from fog_compute.vpn.pools import CircuitPool
from tests.unit.fog_compute.vpn.sources import Source

pytestmark = pytest.mark.asyncio

LEVEL = PrivacyLevel.CONFIDENTIAL
POLICY = PoolPolicy(lifetime_s=40, earliest=0.5, latest=0.75, budget=LARGEST + Cost(100, 45))


class Fixture:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.source = Source()
        self.pool = CircuitPool(LEVEL, self.source, policy=POLICY, clock=self.clock, rng=Random(7))

    async def used(self, name: str, cost: Cost = SMALLEST) -> Circuit:
        """Send something, and say over which circuit it went."""

        async def work(circuit: Circuit) -> Circuit:
            await circuit.send(None, b"x")
            return circuit

        return await self.pool.carry(name, cost, work)

    async def asking(self, name: str) -> asyncio.Task[bytes]:
        """A question that stays without an answer until somebody gives one."""

        async def work(circuit: Circuit) -> bytes:
            return await circuit.request("other", b"question", timeout=1000)

        return asyncio.create_task(self.pool.carry(name, Cost.of(8, 4), work))


async def test_name_of_a_circuit_stays_good_when_another_takes_its_place() -> None:
    """INV-VPN-09"""
    given = Fixture()
    await given.pool.join("a", named=True)
    first = await given.used("a")
    assert first.id == "a"
    assert given.pool.get_circuit("a") is first

    await given.clock.advance(30)
    second = await given.used("a")

    assert first is not second
    assert (first.state, second.state) == (CircuitState.CLOSED, CircuitState.ACTIVE)
    assert given.pool.get_circuit("a") is second
    assert given.pool.get_circuit(second.id) is second
    await given.clock.advance(30)
    assert given.pool.get_circuit("a") not in (first, second)
    assert given.pool.totals().rotations == 2


async def test_question_outlives_the_circuit_that_carried_it() -> None:
    """INV-VPN-06"""
    given = Fixture()
    other = given.source.network.channel("other")
    await given.pool.join("a", named=True)
    asking = await given.asking("a")
    message = await other.receive()

    await given.clock.advance(100)
    given.pool.tend()

    assert {one.state: one.in_flight for one in given.pool} == {
        CircuitState.DRAINING: 1,
        CircuitState.FRESH: 0,
    }
    assert given.pool.get_circuit("a").state is CircuitState.FRESH
    await other.reply(message, b"answer")
    assert await asking == b"answer"
    given.pool.tend()
    assert [one.state for one in given.pool] == [CircuitState.FRESH]
    assert given.pool.totals().bytes_received == 6


async def test_sessions_never_share_a_circuit_and_balance_over_their_own() -> None:
    """INV-VPN-08, INV-VPN-05"""
    given = Fixture()
    other = given.source.network.channel("other")
    for session in "ab":
        await given.pool.join(session, circuits=3)

    asking = [await given.asking(session) for session in "aabaabbb"]
    messages = [await other.receive() for _ in asking]

    flights = {
        session: sorted(one.in_flight for one in given.pool if one.session == session)
        for session in "ab"
    }
    assert flights == {"a": [1, 1, 2], "b": [1, 1, 2]}
    for message in messages:
        await other.reply(message, b"")
    await asyncio.gather(*asking)


async def test_circuits_are_used_by_the_name_of_their_session_and_not_by_their_own() -> None:
    """INV-VPN-11"""
    given = Fixture()
    await given.pool.join("a", circuits=3)

    names = {one.id for one in given.pool}

    assert len(names - {"a"}) == 3
    for name in names:
        assert given.pool.get_circuit(name).id == name
        with pytest.raises(CircuitError, match="never made"):
            await given.used(name)
        with pytest.raises(CircuitError):
            given.pool.end(name)
    await given.used("a")


async def test_message_of_a_session_that_ends_while_its_client_is_opened_again_fails() -> None:
    given = Fixture()
    await given.pool.join("a")
    given.source.crash(LEVEL)
    sending = asyncio.create_task(given.used("a"))
    await asyncio.sleep(0)

    given.pool.end("a")

    with pytest.raises(CircuitError, match="was closed"):
        await sending


async def test_circuits_of_a_session_that_ended_carry_nothing_more() -> None:
    given = Fixture()
    other = given.source.network.channel("other")
    await given.pool.join("a", circuits=2)
    asking = await given.asking("a")
    message = await other.receive()

    given.pool.end("a")

    assert [one.state for one in given.pool] == [CircuitState.DRAINING]
    assert (given.pool.sessions, given.pool.totals().rotations) == (0, 0)
    with pytest.raises(CircuitError, match="was closed"):
        await given.used("a")
    with pytest.raises(CircuitError):
        given.pool.end("a")
    await other.reply(message, b"late")
    assert await asking == b"late"
    given.pool.tend()
    assert len(given.pool) == 0


async def test_message_that_finds_its_client_closed_goes_over_the_client_opened_again() -> None:
    """INV-VPN-07"""
    given = Fixture()
    await given.pool.join("a", circuits=2)
    await given.pool.join("b")
    before = {await given.used("a"), await given.used("a")}
    given.source.crash(LEVEL)

    after = await asyncio.gather(*(given.used(name) for name in "aaab"))

    assert before.isdisjoint(after)
    assert {one.state for one in before} == {CircuitState.CLOSED}
    assert given.source.opened == [(LEVEL, "")] * 2


async def test_client_that_is_only_away_is_neither_replaced_nor_asked_twice() -> None:
    """INV-VPN-07: new edges would be new chances for whoever took the old ones down."""
    given = Fixture()
    await given.pool.join("a")
    given.source.open[LEVEL, ""].down = "no edge answers"

    with pytest.raises(ChannelDown, match="no edge"):
        await given.used("a")

    given.source.open[LEVEL, ""].down = ""
    await given.used("a")
    assert given.source.opened == [(LEVEL, "")]
    assert given.pool.totals().circuits == 1


async def test_every_message_is_answered_or_fails_while_clients_crash_and_circuits_rotate() -> None:
    """INV-VPN-07"""
    given = Fixture()
    rng = Random(3)
    other = given.source.network.channel("other")
    for session in "abc":
        await given.pool.join(session, circuits=2)

    async def answer() -> None:
        while True:
            message = await other.receive()
            await other.reply(message, message.body)

    answering = asyncio.create_task(answer())
    asking = []
    for _ in range(200):
        given.source.network.loss = rng.choice((0, 0, 0.5))
        if rng.random() < 0.1 and given.source.open:
            given.source.crash(LEVEL)
        asking.append(await given.asking(rng.choice("abc")))
        await given.clock.advance(rng.random())
    given.source.network.loss = 0
    await given.clock.advance(2000)
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    answering.cancel()

    assert all(one == b"question" or isinstance(one, ChannelTimeout) for one in outcomes)
    assert outcomes.count(b"question") > 100
    given.pool.tend()
    assert len(given.pool) == 6


async def test_message_that_no_circuit_carries_is_refused_before_it_is_sent() -> None:
    given = Fixture()
    await given.pool.join("a")

    with pytest.raises(CircuitError, match="more than a circuit carries"):
        await given.used("a", POLICY.budget + Cost(0, 1))

    assert given.pool.totals().packets_sent == 0
    assert len(given.pool) == 1


async def test_level_that_the_network_cannot_give_names_what_is_needed_and_available() -> None:
    """INV-VPN-10"""
    source = Source()
    source.lack(7)
    service = OnionCircuitService(source)

    with pytest.raises(PrivacyUnavailable, match=r"secret has no path .* 7 hops: 6 of 7") as caught:
        await service.create_circuit(PrivacyLevel.SECRET)

    assert (caught.value.needed, caught.value.available) == (7, 6)
    await service.create_circuit(PrivacyLevel.CONFIDENTIAL)


async def test_service_rotates_and_forgets_circuits_on_which_nothing_happens() -> None:
    clock = ManualClock()
    service = OnionCircuitService(Source(), policy=POLICY, clock=clock, rng=Random(1))
    ended = await service.create_circuit(PrivacyLevel.SECRET)
    kept = await service.create_circuit(PrivacyLevel.SECRET)
    service.close_circuit(ended, PrivacyLevel.SECRET)
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)

    await clock.advance(45)

    status = service.status(PrivacyLevel.SECRET)
    assert status.circuits == {CircuitState.FRESH: 1}
    assert (status.sessions, status.totals.circuits, status.totals.rotations) == (1, 3, 1)
    assert service.circuit_pools[PrivacyLevel.SECRET].level is PrivacyLevel.SECRET
    assert status.health is not None
    assert service.status(PrivacyLevel.PUBLIC).health is None
    assert service.get_circuit(kept).state is CircuitState.FRESH
    with pytest.raises(CircuitError):
        service.get_circuit(ended)
    running.cancel()
