"""Sessions over clients in memory: who may use them, for how long, and for how much."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from fog_compute.errors import (
    ChannelDown,
    ChannelTimeout,
    PrivacyUnavailable,
    ServiceUnavailable,
    SessionError,
)
from fog_compute.levels import PrivacyLevel
from fog_compute.testing import ManualClock
from fog_compute.vpn.channel import REPLY_PACKET_BYTES, Received
from fog_compute.vpn.circuits import Circuit, Cost
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.session_records import SessionPolicy
from fog_compute.vpn.sessions import SessionManager
from tests.unit.fog_compute.vpn.sources import Source

pytestmark = pytest.mark.asyncio

PRIVATE, SECRET = PrivacyLevel.PRIVATE, PrivacyLevel.SECRET
POLICY = SessionPolicy(idle_s=30, lifetime_s=100, most=5, most_apart=2, circuits=3)


class Fixture:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.source = Source()
        self.onion = OnionCircuitService(self.source, clock=self.clock, rng=Random(5))
        self.manager = SessionManager(self.onion, policy=POLICY, clock=self.clock)
        self.other = self.source.network.channel("other")

    async def asking(self, token: str, size: int = 1) -> tuple[asyncio.Task[bytes], Received]:
        asking = asyncio.create_task(
            self.manager.request(token, b"q" * size, to="other", reply_packets=2, timeout=1000)
        )
        return asking, await self.other.receive()

    async def refused(self, token: str) -> str:
        with pytest.raises(SessionError) as caught:
            await self.manager.send(token, b"x")
        with pytest.raises(SessionError, match="unknown or has expired"):
            self.manager.show(token)
        return str(caught.value)

    def ids(self) -> set[str]:
        return {session.id for session in self.manager.sessions()}


def id_of(token: str) -> str:
    return token.partition(".")[0]


async def test_whoever_shows_the_token_uses_the_session_and_nobody_else() -> None:
    """INV-VPN-11"""
    given = Fixture()
    mine, yours = [await given.manager.open(PRIVATE) for _ in range(2)]
    gone = await given.manager.open(PRIVATE)
    await given.manager.close(gone)

    await given.manager.send(mine, b"hello")

    name, _, secret = mine.partition(".")
    forged = [
        f"{name}.{yours.partition('.')[2]}",
        f"{id_of(yours)}.{secret}",
        f"{name}.",
        f"{name}.{secret}x",
        name,
        "",
        ".",
        f"é.{secret}",
        gone,
    ]
    assert len({await given.refused(token) for token in forged}) == 1
    assert given.manager.show(mine).bytes_sent == 5
    assert given.manager.show(yours).bytes_sent == 0


async def test_token_is_kept_nowhere() -> None:
    """INV-VPN-11"""
    given = Fixture()
    token = await given.manager.open(PRIVATE)

    kept = repr(given.manager._sessions) + repr(given.manager.sessions())

    assert id_of(token) in kept
    assert token.partition(".")[2] not in kept
    # What the circuits are found by gives no way round the token.
    assert all(
        one.session not in repr(given.manager.sessions())
        for one in given.onion.circuit_pools[PRIVATE]
    )


async def test_session_ends_when_it_was_idle_for_too_long_and_its_circuits_with_it() -> None:
    """INV-VPN-12"""
    given = Fixture()
    token = await given.manager.open(PRIVATE)
    await given.clock.advance(29)
    await given.manager.send(token, b"x")
    await given.clock.advance(29)
    assert given.manager.show(token).idle_s == 29

    await given.clock.advance(1)

    await given.refused(token)
    assert len(given.onion.circuit_pools[PRIVATE]) == 3
    await given.manager.sweep()
    assert len(given.manager) == len(given.onion.circuit_pools[PRIVATE]) == 0


async def test_session_with_a_message_under_way_is_not_idle_but_ends_with_its_lifetime() -> None:
    """INV-VPN-12"""
    given = Fixture()
    token = await given.manager.open(PRIVATE)
    sweeping = asyncio.create_task(given.manager.run())
    asking, message = await given.asking(token)

    await given.clock.advance(99)
    assert given.manager.show(token).in_flight == 1
    await given.clock.advance(6)

    assert len(given.manager) == 0
    await given.refused(token)
    await given.other.reply(message, b"answer")
    assert await asking == b"answer"
    sweeping.cancel()


async def test_where_there_is_no_room_the_longest_idle_session_goes() -> None:
    """INV-VPN-13"""
    given = Fixture()
    tokens = []
    for _ in range(POLICY.most):
        tokens.append(await given.manager.open(PRIVATE))
        await given.clock.advance(1)
    asking, message = await given.asking(tokens[0])
    await given.manager.send(tokens[1], b"x")

    tokens.append(await given.manager.open(SECRET))

    assert given.ids() == {id_of(token) for token in tokens if token != tokens[2]}
    await given.other.reply(message, b"")
    await asking


async def test_sessions_in_use_make_no_room() -> None:
    """INV-VPN-13"""
    given = Fixture()
    tokens = [await given.manager.open(PRIVATE) for _ in range(POLICY.most)]
    asked = [await given.asking(token) for token in tokens]

    with pytest.raises(ServiceUnavailable, match="there are 5 sessions, and all are in use"):
        await given.manager.open(PRIVATE)

    assert given.ids() == {id_of(token) for token in tokens}
    for asking, message in asked:
        await given.other.reply(message, b"")
        await asking


async def test_sessions_that_are_opened_together_are_no_more_than_there_is_room_for() -> None:
    """INV-VPN-13"""
    given = Fixture()

    opened = await asyncio.gather(
        *(given.manager.open(PRIVATE, apart=i % 2 == 0) for i in range(20)), return_exceptions=True
    )

    assert len(given.manager) <= POLICY.most
    assert sum(one.apart for one in given.manager.sessions()) <= POLICY.most_apart
    for one in opened:
        assert isinstance(one, str | ServiceUnavailable)
    own = [owner for _, owner in given.source.open if owner]
    assert len(own) == sum(one.apart for one in given.manager.sessions())


async def test_messages_and_answers_never_take_more_than_the_quota() -> None:
    """INV-VPN-14"""
    given = Fixture()
    rng = Random(11)
    quota = 50_000
    token = await given.manager.open(PRIVATE, quota_bytes=quota)
    waiting: list[tuple[asyncio.Task[bytes], Received]] = []
    refusals = 0
    for _ in range(300):
        size = rng.randrange(700)
        try:
            if rng.random() < 0.5:
                await given.manager.send(token, bytes(size))
            else:
                asking = asyncio.create_task(
                    given.manager.request(token, bytes(size), to="other", reply_packets=2)
                )
                await asyncio.sleep(0)
                if asking.done():
                    await asking
                waiting.append((asking, await given.other.receive()))
        except SessionError:
            refusals += 1
        if waiting and rng.random() < 0.4:
            asking, message = waiting.pop()
            await given.other.reply(message, bytes(rng.randrange(2 * REPLY_PACKET_BYTES)))
            await asking
        status = given.manager.show(token)
        assert status.bytes_sent + status.bytes_received <= quota
    for asking, message in waiting:
        await given.other.reply(message, bytes(2 * REPLY_PACKET_BYTES))
        await asking

    status = given.manager.show(token)
    assert quota - 2 * REPLY_PACKET_BYTES < status.bytes_sent + status.bytes_received <= quota
    assert refusals


async def test_another_level_is_another_session_with_what_is_left_of_the_quota() -> None:
    """INV-VPN-15"""
    given = Fixture()
    former = await given.manager.open(PRIVATE, quota_bytes=1000)
    await given.manager.send(former, bytes(400))

    token = await given.manager.change_level(former, SECRET)

    await given.refused(former)
    assert id_of(token) != id_of(former)
    status = given.manager.show(token)
    assert (status.level, status.quota_bytes, status.bytes_sent) == (SECRET, 600, 0)
    assert len(given.onion.circuit_pools[PRIVATE]) == 0
    assert {one.privacy_level for one in given.onion.circuit_pools[SECRET]} == {SECRET}
    with pytest.raises(SessionError, match="600 bytes left"):
        await given.manager.send(token, bytes(601))


async def test_session_stays_as_it_was_where_the_network_cannot_give_the_other_level() -> None:
    """INV-VPN-15"""
    given = Fixture()
    given.source.lack(7)
    token = await given.manager.open(PRIVATE, quota_bytes=10)

    with pytest.raises(PrivacyUnavailable):
        await given.manager.change_level(token, SECRET)

    await given.manager.send(token, bytes(10))
    assert [one.id for one in given.manager.sessions()] == [id_of(token)]


async def test_session_apart_has_a_client_of_its_own_that_ends_with_it() -> None:
    """INV-VPN-16"""
    given = Fixture()
    shared = await given.manager.open(PRIVATE)
    apart = await given.manager.open(PRIVATE, apart=True)
    keys = set(given.source.open)

    for token in (shared, apart):
        await given.manager.send(token, token.encode())

    own = next(given.source.open[key] for key in keys if key[1])
    mine = given.source.open[PRIVATE, ""]
    assert (await own.receive()).body == apart.encode()
    assert (await mine.receive()).body == shared.encode()
    await given.manager.close(apart)
    assert set(given.source.open) == {(PRIVATE, "")}
    with pytest.raises(ChannelDown, match="closed"):
        await own.send("other", b"x")


async def test_question_that_meets_the_end_of_its_client_opens_no_other() -> None:
    """INV-VPN-16"""
    given = Fixture()
    token = await given.manager.open(PRIVATE, apart=True)
    owner = next(owner for _, owner in given.source.open)
    pool = given.onion.circuit_pools[PRIVATE]

    async def last(circuit: Circuit) -> None:
        """Fails as what is under way does when a client is closed under it."""
        await given.manager.close(token)
        await circuit.channel.send("other", b"x")

    with pytest.raises(ChannelDown, match="closed"):
        await pool.carry(owner, Cost(1, 0), last)

    assert given.source.open == {}
    assert given.source.opened == [(PRIVATE, owner)]


async def test_session_that_cannot_be_opened_leaves_nothing() -> None:
    given = Fixture()
    given.source.lack(3, 5, 7)

    with pytest.raises(PrivacyUnavailable):
        await given.manager.open(SECRET, apart=True)

    assert len(given.manager) == len(given.source.open) == 0


async def test_question_without_an_answer_is_counted_and_its_place_for_one_is_given_back() -> None:
    given = Fixture()
    token = await given.manager.open(PRIVATE, quota_bytes=REPLY_PACKET_BYTES + 10)
    given.source.network.loss = 1.0

    for left in (9, 8):
        with pytest.raises(ChannelTimeout):
            await given.manager.request(token, b"q", to="other", reply_packets=1)
        assert given.manager.show(token).bytes_sent == 10 - left
