"""Messages between people over a real local net."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind
from fog_compute.p2p.core.transport import Arrival, OutcomeState
from fog_compute.p2p.htx.client import HtxClient
from fog_compute.p2p.htx.own_card import OwnCard
from fog_compute.vpn.betanet import BetanetService

NOW = 1_700_000_000_000


class Person:
    """Somebody with a mixnet client of their own."""

    def __init__(self, name: str, folder: Path, localnet: Path) -> None:
        self.identity = Identity.new()
        self.book = PeerBook(own=self.identity.fingerprint)
        self.service = BetanetService(folder=folder / name, bootstrap=localnet)
        card = OwnCard(self.identity, folder / f"{name}.card")
        self.htx = HtxClient(self.service, self.identity, self.book, card, name=name)

    async def hears(self) -> Arrival:
        async with asyncio.timeout(100):
            while True:
                event = await self.htx.receive()
                if isinstance(event, Arrival):
                    await self.htx.confirm(event)
                    return event

    def knows(self, other: Person) -> None:
        assert other.htx.card is not None
        self.book.add(other.htx.card, other.htx.card.issued_ms)

    async def close(self) -> None:
        await self.htx.shutdown()
        await self.service.close()


def saying(number: int, body: bytes) -> DecentralizedMessage:
    kind = MessageKind.FILE if len(body) > 1000 else MessageKind.TEXT
    return DecentralizedMessage(body=body, id=f"{number:032x}", kind=kind)


@pytest.mark.asyncio
async def test_a_stranger_writes_and_is_answered_after_a_restart(
    tmp_path: Path, localnet: Path
) -> None:
    ada, bob = (Person(name, tmp_path, localnet) for name in ("ada", "bob"))
    try:
        await ada.htx.initialize()
        await bob.htx.initialize()
        ada.knows(bob)
        address = bob.htx.card
        assert (await ada.htx.send(saying(1, b"hello"), bob.identity.fingerprint)).state is (
            OutcomeState.STORED
        )
        assert (await bob.hears()).message.text == "hello"
        assert bob.book.find(ada.identity.fingerprint).shown.startswith("ada#")

        await bob.close()
        assert (
            await ada.htx.send(saying(2, b"are you there"), bob.identity.fingerprint)
        ).state is (OutcomeState.STORED)
        bob.service = BetanetService(folder=tmp_path / "bob", bootstrap=localnet)
        card = OwnCard(bob.identity, tmp_path / "bob.card")
        bob.htx = HtxClient(bob.service, bob.identity, bob.book, card, name="bob")
        await bob.htx.initialize()

        assert bob.htx.card == address
        assert (await bob.hears()).message.text == "are you there"
        assert (tmp_path / "bob" / f"messages-{PrivacyLevel.PRIVATE}").is_dir()
        await bob.htx.send(saying(3, b"now I am"), ada.identity.fingerprint)
        assert (await ada.hears()).message.text == "now I am"
    finally:
        await ada.close()
        await bob.close()


@pytest.mark.asyncio
async def test_a_file_of_10_mb_arrives(tmp_path: Path, localnet: Path) -> None:
    ada, bob = (Person(name, tmp_path, localnet) for name in ("ada", "bob"))
    body = random.Random(1).randbytes(10_000_000)
    try:
        await ada.htx.initialize()
        await bob.htx.initialize()
        for one, other in ((ada, bob), (bob, ada)):
            one.knows(other)

        outcome = await ada.htx.send(saying(1, body), bob.identity.fingerprint)

        assert outcome.state is OutcomeState.STORED
        assert (await bob.hears()).message.body == body
    finally:
        await ada.close()
        await bob.close()
