"""The bytes that any client has to have, one for each thing that travels.

The cases are those of `ClientRewriteWireContractTest` in the app for Android; the bytes are those
that bitchat-protocol makes of them where it knows the thing, and otherwise follow from the layout.
"""

from __future__ import annotations

import bitchat_protocol as theirs

from fog_compute.p2p.bitchat.wire.announce import Announce, Capability
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.fragments import Fragment
from fog_compute.p2p.bitchat.wire.gcs import Filter
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import packet
from fog_compute.p2p.bitchat.wire.private import PrivateKind, PrivateMessage, within
from fog_compute.p2p.bitchat.wire.sync import SyncRequest
from tests.unit.fog_compute.p2p.bitchat.packets import as_theirs


def counted(start: int, size: int = 8) -> bytes:
    return bytes(range(start, start + size))


def test_packets_of_both_versions() -> None:
    # INV-BITCHAT-01
    plain = packet(Kind.MESSAGE, counted(0x10), 0x0102030405060708, b"\xaa\xbb\xcc")
    routed = packet(
        Kind.NOISE_ENCRYPTED,
        counted(1),
        42,
        b"\xde\xad",
        ttl=5,
        recipient=counted(0x11),
        route=(counted(0x21), counted(0x31)),
        signature=b"\x5a" * 64,
        version=2,
    )

    assert plain.wire == theirs.encode(as_theirs(plain))
    assert plain.wire == (
        b"\1\2\7" + counted(1) + b"\0" + b"\0\3" + counted(0x10) + b"\xaa\xbb\xcc"
    )
    assert routed.wire == theirs.encode(as_theirs(routed))
    assert routed.wire == (
        b"\2\x11\5" + (42).to_bytes(8, "big") + b"\x0b" + b"\0\0\0\2" + counted(1) + counted(0x11)
        + b"\2" + counted(0x21) + counted(0x31) + b"\xde\xad" + b"\x5a" * 64
    )  # fmt: skip


def test_payloads() -> None:
    # INV-BITCHAT-13, INV-BITCHAT-19, INV-BITCHAT-21, INV-BITCHAT-24, INV-BITCHAT-28
    message = PrivateMessage("m1", "hi").encode()
    announce = Announce("bob", b"\x11" * 32, b"\x22" * 32, (), Capability.PRIVATE_MEDIA).encode()
    sync = SyncRequest(Filter(19, 0x01020304, b"\xaa\xbb")).encode()

    assert message == theirs.encode_private_message(theirs.PrivateMessagePacket("m1", "hi"))
    assert within(PrivateKind.MESSAGE, message) == b"\1\0\2m1\1\2hi"
    known = theirs.AnnouncementPacket("bob", b"\x11" * 32, b"\x22" * 32)
    assert announce == theirs.encode_announcement(known) + b"\5\2\0\1"
    assert sync == b"\1\0\1\x13\2\0\4\1\2\3\4\3\0\2\xaa\xbb"
    assert sync == theirs.encode_request_sync(
        theirs.RequestSyncPacket(p=19, m=0x01020304, data=b"\xaa\xbb")
    )
    assert Fragment(counted(0), 1, 3, Kind.MESSAGE, b"\xaa\xbb").encode() == (
        counted(0) + b"\0\1\0\3\2\xaa\xbb"
    )
    assert File(b"\xde\xad", "a", "m").encode() == (
        b"\1\0\1a\2\0\4\0\0\0\2\3\0\1m\4\0\0\0\2\xde\xad"
    )
