"""Messages: ids, bounds, receipts, and the table of what becomes of them."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute import p2p
from fog_compute.p2p.core.messages import (
    MAX_BODY_BYTES,
    MAX_LIFE_MS,
    DecentralizedMessage,
    DeliveryEvent,
    DeliveryState,
    InvalidMessage,
    MessageId,
    Receipt,
    after,
    new_stream,
)

ALICE = "a1" * 32


@given(st.integers(0, 2**64), st.integers(0, 2**32 - 1))
def test_id_names_its_stream_and_its_place(seed: int, sequence: int) -> None:
    """INV-P2P-01."""
    made = MessageId(new_stream(Random(seed)), sequence)

    assert len(str(made)) == 32
    assert MessageId.parse(str(made)) == made


@given(st.integers(0, 2**128 - 1))
def test_random_id_has_no_place_in_a_stream(drawn: int) -> None:
    """INV-P2P-01."""
    assert MessageId.parse(f"{drawn:032x}") is None


def test_form_of_ids_stays_as_it_is() -> None:
    """INV-P2P-01: people with different versions write to each other."""
    assert str(MessageId(new_stream(Random(1)), 258)) == "91b7584a2265b1f531683b7400000102"


@pytest.mark.parametrize(
    "foreign",
    ["", "a1" * 15, "a1" * 17, "A1" * 16, "1B4E28BA-2FA1-11D2-883F-0016D3CCA427", "ä" * 32],
)
def test_foreign_id_is_not_taken_apart(foreign: str) -> None:
    """INV-P2P-01."""
    assert MessageId.parse(foreign) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("receiver_id", "a1" * 31),
        ("receiver_id", ""),
        ("sender", "not a fingerprint"),
        ("id", "x" * 256),
        ("id", "two\nlines"),
        ("room", "x" * 65),
        ("name", "\x1b[2J"),
        ("name", "\ud800"),
        ("media_type", "plain"),
        ("media_type", "text/plain; charset=x"),
        ("body", bytes(MAX_BODY_BYTES + 1)),
        ("created_ms", -1),
        ("created_ms", 2**63),
        ("expires_ms", 2**60),
        ("expires_ms", MAX_LIFE_MS + 1),  # made in 1970, as the others here
    ],
)
def test_refused_message_names_the_field(field: str, value: object) -> None:
    """INV-P2P-01."""
    fields = {"body": b"hello", "receiver_id": ALICE, field: value}

    with pytest.raises(InvalidMessage) as caught:
        DecentralizedMessage(**fields).check()  # type: ignore[arg-type]  # fields by name

    said = {"body": "a message has"}.get(field, field)
    assert said in str(caught.value)
    if len(str(value)) > 5:  # what somebody wrote is not told again: it may not be fit to be shown
        assert str(value) not in str(caught.value)


@pytest.mark.parametrize("life_ms", [0, 1, MAX_LIFE_MS])
def test_a_message_lives_for_a_week_and_not_for_less_than_nothing(life_ms: int) -> None:
    """INV-P2P-04."""
    made = 1_700_000_000_000
    message = DecentralizedMessage(body=b"", created_ms=made, expires_ms=made + life_ms)

    assert message.check() is message
    for expires_ms in (made - 1, made + MAX_LIFE_MS + 1):
        with pytest.raises(InvalidMessage, match="expires_ms"):
            msgspec.structs.replace(message, expires_ms=expires_ms).check()


def test_good_message_is_returned() -> None:
    message = DecentralizedMessage(body="grüß dich".encode(), receiver_id=ALICE)

    assert message.check() is message
    assert message.text == "grüß dich"


def test_what_a_recipient_says_holds_whatever_was_thought() -> None:
    """INV-P2P-02."""
    for state in DeliveryState:
        following = after(state, DeliveryEvent.DELIVER)
        known = state in {DeliveryState.DELIVERED, DeliveryState.READ}
        assert following is (None if known else DeliveryState.DELIVERED)


def test_nothing_leads_back_from_what_was_delivered() -> None:
    """INV-P2P-02."""
    for event in DeliveryEvent:
        assert after(DeliveryState.READ, event) is None
        allowed = DeliveryState.READ if event is DeliveryEvent.READ else None
        assert after(DeliveryState.DELIVERED, event) is allowed


def test_no_transport_can_say_delivered() -> None:
    """INV-P2P-02."""
    said = {DeliveryEvent.DELIVER, DeliveryEvent.READ}
    reached = {
        after(state, event)
        for state in DeliveryState
        for event in DeliveryEvent
        if event not in said
    }

    assert not reached & {DeliveryState.DELIVERED, DeliveryState.READ}
    assert all(after(state, DeliveryEvent.RETURN) is None for state in DeliveryState if state.final)


@given(
    st.sampled_from([DeliveryState.DELIVERED, DeliveryState.READ]),
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60),
        min_size=1,
        max_size=256,
    ),
)
def test_receipt_comes_back_from_its_bytes(state: DeliveryState, ids: list[str]) -> None:
    """INV-P2P-03."""
    receipt = Receipt(state, tuple(ids))

    assert Receipt.parse(receipt.encode()) == receipt


def test_receipt_for_one_message_has_the_bytes_of_the_app() -> None:
    """INV-P2P-03."""
    one = "1B4E28BA-2FA1-11D2-883F-0016D3CCA427"

    assert Receipt(DeliveryState.DELIVERED, (one,)).encode() == b"\x03" + one.encode()
    assert Receipt(DeliveryState.READ, (one,)).encode() == b"\x02" + one.encode()


@given(st.binary(max_size=80))
def test_any_bytes_are_a_receipt_or_refused(body: bytes) -> None:
    """INV-P2P-03."""
    try:
        receipt = Receipt.parse(body)
    except InvalidMessage:
        return

    assert receipt.encode() == body


@pytest.mark.parametrize(
    "body", [b"", b"\x03", b"\x04x", b"\x03a\n\nb", b"\x03\xff", b"\x03" + b"x\n" * 256 + b"x"]
)
def test_broken_receipt_is_refused(body: bytes) -> None:
    """INV-P2P-03."""
    with pytest.raises(InvalidMessage):
        Receipt.parse(body)


def test_package_shows_its_names_and_no_others() -> None:
    for name in p2p.__all__:
        assert getattr(p2p, name) is not None
    assert set(p2p.__all__) <= set(dir(p2p))
    with pytest.raises(AttributeError, match="Pigeon"):
        p2p.Pigeon  # noqa: B018
