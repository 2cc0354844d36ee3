"""Messages as BitChat has them, there and back."""

from __future__ import annotations

import pytest

from fog_compute.p2p.bitchat.ble_messages import public_message, read_private, write_private
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.private import PrivateKind, PrivateMessage, inside
from fog_compute.p2p.core.messages import (
    MAX_LIFE_MS,
    DecentralizedMessage,
    DeliveryState,
    MessageKind,
    Priority,
    Receipt,
)

ME, YOU = "ab" * 32, "cd" * 32
SENT_MS = 1_700_000_000_123


def message(body: bytes, **more: object) -> DecentralizedMessage:
    return DecentralizedMessage(
        **{  # type: ignore[arg-type]
            "body": body,
            "receiver_id": YOU,
            "id": "0123456789abcdef01234567" + "00000007",
            "sender": ME,
            "created_ms": SENT_MS,
            "expires_ms": SENT_MS + 3_600_000,
            **more,
        }
    )


def there_and_back(sent: DecentralizedMessage) -> list[DecentralizedMessage | None]:
    return [
        read_private(*inside(payload), ME, YOU, SENT_MS + 500) for payload in write_private(sent)
    ]


@pytest.mark.parametrize(
    "sent",
    [
        message(b"x" * 256),
        message("ü".encode() * 400, room="a group", priority=Priority.HIGH),
        message(b"", room="a group"),
        message(b"\xff\xfe not UTF-8"),
        message(b"# title", media_type="text/markdown"),
        message(bytes(70_000), kind=MessageKind.FILE, media_type="image/png", name="cat.png"),
        message(b"short", kind=MessageKind.CONTROL),
    ],
)
def test_whatever_is_sent_comes_out_as_it_was(sent: DecentralizedMessage) -> None:
    assert there_and_back(sent) == [sent]


def test_file_that_a_message_is_has_a_name_for_programs_that_ask_for_one() -> None:
    (payload,) = write_private(message(b"x" * 256))
    assert File.decode(inside(payload)[1]).name == "message.txt"
    (came,) = there_and_back(message(b"x" * 256))
    assert came is not None
    assert came.name == ""


def test_short_text_is_the_apps_own_record() -> None:
    (payload,) = write_private(message(b"hello"))
    kind, body = inside(payload)
    assert kind == PrivateKind.MESSAGE
    assert PrivateMessage.decode(body) == PrivateMessage(message(b"").id, "hello")
    (came,) = there_and_back(message(b"hello"))
    assert came == message(
        b"hello", created_ms=SENT_MS + 500, expires_ms=SENT_MS + 500 + MAX_LIFE_MS
    )


def test_receipt_for_several_is_several_receipts_of_the_app() -> None:
    receipt = Receipt(DeliveryState.READ, ("one", "two"))
    sent = message(receipt.encode(), kind=MessageKind.RECEIPT)
    assert write_private(sent) == (b"\x02one", b"\x02two")
    came = there_and_back(sent)
    assert [Receipt.parse(one.body).ids for one in came if one] == [("one",), ("two",)]
    assert len({one.id for one in came if one}) == 2


def test_file_of_the_app_has_an_id_that_its_copies_share() -> None:
    body = File(b"content", "../../etc/passwd", None).encode()
    first, again = (read_private(PrivateKind.FILE, body, ME, YOU, SENT_MS) for _ in range(2))
    assert first == again
    assert first is not None
    assert (first.kind, first.name, first.body) == (MessageKind.FILE, "passwd", b"content")
    assert read_private(PrivateKind.FILE, body, ME, YOU, SENT_MS + 1) != first


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PrivateKind.MESSAGE, b"\x00\x01a"),
        (PrivateKind.MESSAGE, b"\x00\x00\x01\x01x"),
        (PrivateKind.DELIVERED, b""),
        (PrivateKind.FILE, b"\x04\x00\x00\x00\x01x\xf0\x00\x03abc"),
        (PrivateKind.FILE, b"\x04\x00\x00\x00\x01x\xf0\x00\x09"),
        (PrivateKind.FILE, b""),
    ],
)
def test_what_claims_to_be_a_message_and_is_none_is_refused(kind: int, body: bytes) -> None:
    with pytest.raises(Malformed):
        read_private(kind, body, ME, YOU, SENT_MS)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": MessageKind.RECEIPT},
        {"id": ""},
        {"expires_ms": SENT_MS + MAX_LIFE_MS + 1},
        {"expires_ms": SENT_MS - 1},
        {"room": "r" * 500},
    ],
)
def test_field_of_a_file_that_no_message_has_is_refused(change: dict[str, object]) -> None:
    (good,) = write_private(message(b"x" * 300))
    from fog_compute.p2p.bitchat import ble_messages

    made = {
        "id": "1",
        "kind": MessageKind.TEXT,
        "created_ms": SENT_MS,
        "expires_ms": SENT_MS + 1,
        **change,
    }
    rest = ble_messages.Rest(**made)  # type: ignore[arg-type]
    encoded = ble_messages._encode(rest)
    body = File(b"x").encode() + b"\xf0" + len(encoded).to_bytes(2) + encoded
    with pytest.raises(Malformed):
        read_private(PrivateKind.FILE, body, ME, YOU, SENT_MS)
    assert good[0] == PrivateKind.FILE


def test_other_kinds_are_no_messages_and_too_long_is_said() -> None:
    assert read_private(PrivateKind.VOICE, b"...", ME, YOU, SENT_MS) is None
    with pytest.raises(Malformed, match="1 MiB"):
        write_private(message(bytes((1 << 20) + 1)))
    with pytest.raises(Malformed):
        write_private(message(b"\x09what", kind=MessageKind.RECEIPT))
    heard = public_message("1", "hello", ME, SENT_MS)
    assert (heard.receiver_id, heard.sender, heard.text) == (None, ME, "hello")


@pytest.mark.parametrize("name", [b"a\n", b"\n", b"one\ntwo"])
@pytest.mark.parametrize("kind", [PrivateKind.DELIVERED, PrivateKind.READ])
def test_receipt_for_an_id_that_would_be_several_is_refused(kind: PrivateKind, name: bytes) -> None:
    """INV-BITCHAT-04."""
    with pytest.raises(Malformed, match="there cannot be"):
        read_private(kind, name, ME, YOU, SENT_MS)
