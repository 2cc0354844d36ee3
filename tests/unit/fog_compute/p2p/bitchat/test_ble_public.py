"""What goes to all, as the router sees it: one id on every transport."""

from __future__ import annotations

import msgspec
import pytest

from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind, public_id
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person
from tests.unit.fog_compute.p2p.bitchat.wired import Wired, wired

CREATED_MS = int(NOW * 1000) - 3_600_000


def file(me: Wired, **changed: object) -> DecentralizedMessage:
    made = DecentralizedMessage(
        body=b"content",
        kind=MessageKind.FILE,
        name="a.txt",
        sender=me.me.keys.fingerprint,
        created_ms=CREATED_MS,
        expires_ms=CREATED_MS + 90_000_000,
    )
    made = msgspec.structs.replace(made, **changed)
    return msgspec.structs.replace(made, id=public_id(made))


async def given(me: Wired, message: DecentralizedMessage) -> bytes:
    """The payload with which a file leaves."""
    me.sent.clear()
    await me.transport.broadcast(message)
    await me.wait(1.0)
    (payload,) = {one.payload for _, one in me.sent if one.kind == Kind.FILE_TRANSFER}
    return payload


@pytest.mark.asyncio
async def test_file_for_all_has_the_id_that_it_has_on_every_transport() -> None:
    """INV-BITCHAT-87, INV-P2P-11."""
    async with wired(1) as me, wired(1, person=2) as other:
        other.get(1, me.me.announce(other.now))
        for changed in ({}, {"body": b""}, {"name": ""}, {"created_ms": CREATED_MS + 1}):
            message = file(me, **changed)
            payload = await given(me, message)
            assert File.decode(payload).content == message.body or b"\0"
            made = me.me.make(Kind.FILE_TRANSFER, payload, other.now, version=2)
            other.get(1, made)
            (heard,) = await other.heard()
            assert heard == msgspec.structs.replace(message, media_type="text/plain")
            await other.wait(1.0)


@pytest.mark.asyncio
async def test_file_of_another_program_is_named_by_what_is_in_it() -> None:
    ann = Person(1)
    async with wired(1) as me:
        me.get(1, ann.announce(me.now))
        payload = File(b"content", "a.txt", "text/plain").encode()
        for number in (1, 2):
            me.get(1, ann.make(Kind.FILE_TRANSFER, payload, me.now + number, version=2))
        one, two = await me.heard()
        assert one.id != two.id
        assert (one.created_ms, two.created_ms - one.created_ms) == (
            int(me.now * 1000) + 1000,
            1000,
        )


@pytest.mark.asyncio
@pytest.mark.parametrize("changed", [{"expires_ms": CREATED_MS + 700_000_000}, {"created_ms": 1}])
async def test_file_that_lives_too_long_is_refused_and_counted(changed: dict[str, int]) -> None:
    async with wired(1) as me, wired(1, person=2) as other:
        other.get(1, me.me.announce(other.now))
        payload = await given(me, file(me, **changed))
        other.get(1, me.me.make(Kind.FILE_TRANSFER, payload, other.now, version=2))
        assert await other.heard() == []
        assert other.transport.dropped == {"field": 1}
