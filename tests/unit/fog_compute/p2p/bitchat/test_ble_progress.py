"""How far a file has come: told while its pieces leave, and not where nothing leaves."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from fog_compute.p2p.bitchat.mesh.news import PartSent, ShareFile
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind, public_id
from fog_compute.p2p.core.transport import (
    EVERYBODY,
    CapabilitiesChanged,
    Outcome,
    PartLeft,
    TransportType,
)
from tests.unit.fog_compute.p2p.bitchat.neighbours import Tried
from tests.unit.fog_compute.p2p.bitchat.wired import Wired, wired


def file(me: Wired, size: int) -> DecentralizedMessage:
    at = int(me.now * 1000)
    made = DecentralizedMessage(
        body=Random(5).randbytes(size),
        kind=MessageKind.FILE,
        name="a.bin",
        sender=me.me.keys.fingerprint,
        created_ms=at,
        expires_ms=at + 90_000_000,
    )
    return msgspec.structs.replace(made, id=public_id(made))


@pytest.mark.asyncio
async def test_it_is_told_how_much_of_a_long_file_has_left() -> None:
    """INV-BITCHAT-92."""
    async with wired(1) as me:
        await me.told()
        message = file(me, 96_000)
        await me.transport.broadcast(message)
        await me.wait(60.0)
        parts = [one for one in await me.told() if isinstance(one, PartLeft)]
        assert {(one.transport, one.message_id, one.receiver, one.size) for one in parts} == {
            (TransportType.BITCHAT_BLE, message.id, EVERYBODY, 96_000)
        }
        sent = [one.sent for one in parts]
        assert sent == sorted(set(sent))
        assert (len(sent), sent[-1]) == (50, 96_000)
        assert sent[0] < 3_000
        # Of what leaves in a moment nothing is told.
        await me.transport.broadcast(file(me, 9_600))
        await me.wait(10.0)
        assert not [one for one in await me.told() if isinstance(one, PartLeft)]


@pytest.mark.asyncio
async def test_adapter_that_is_unplugged_in_the_middle_of_a_file_says_nothing_left() -> None:
    """INV-BITCHAT-92."""
    async with wired(1) as me:
        me.takes = False
        await me.transport.broadcast(file(me, 96_000))
        await me.wait(1.0)
        before = [one.sent for one in await me.told() if isinstance(one, PartLeft)]
        assert before
        assert before[-1] < 50_000
        me.down(1)
        await me.wait(30.0)
        told = await me.told()
        assert not [one for one in told if isinstance(one, PartLeft | Outcome)]
        assert CapabilitiesChanged(me.transport.type) in told
        # The next one goes out as if nothing had been.
        me.takes = True
        me.up(2)
        message = file(me, 64_000)
        await me.transport.broadcast(message)
        await me.wait(60.0)
        parts = [one for one in await me.told() if isinstance(one, PartLeft)]
        assert (parts[-1].message_id, parts[-1].sent) == (message.id, 64_000)


def test_short_sets_are_told_piece_by_piece() -> None:
    tried = Tried(1)
    tried.do(ShareFile("t", File(Random(6).randbytes(2_500))))
    tried.wait(10.0)
    parts = [one for one in tried.news if isinstance(one, PartSent)]
    (of,) = {one.of for one in parts}
    assert [one.pieces for one in parts] == list(range(1, of + 1))
