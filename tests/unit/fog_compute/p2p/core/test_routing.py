"""Which transports may carry a message, in which order."""

from __future__ import annotations

import dataclasses

import pytest

from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.routing import BULK_BYTES, candidates, why_none
from fog_compute.p2p.core.transport import Reach, TransportType
from tests.unit.fog_compute.p2p.core.world import CAN_BLE, CAN_HTX

HTX, BLE = TransportType.BETANET_HTX, TransportType.BITCHAT_BLE
CAN = {HTX: CAN_HTX, BLE: CAN_BLE}
MESSAGE = DecentralizedMessage(body=b"", receiver_id="b2" * 32)
PRIVATE = DecentralizedMessage(body=b"", receiver_id="b2" * 32, requires_privacy=True)
NOW = DecentralizedMessage(body=b"", receiver_id="b2" * 32, offline_capable=False)


@pytest.mark.parametrize(
    ("htx", "ble", "expected"),
    [
        (Reach.ADDRESS, Reach.DIRECT, [BLE, HTX]),
        (Reach.ADDRESS, Reach.MESH, [BLE, HTX]),
        (Reach.ADDRESS, Reach.COURIER, [HTX, BLE]),
        (Reach.ADDRESS, Reach.NONE, [HTX]),
        (Reach.NONE, Reach.COURIER, [BLE]),
        (Reach.NONE, Reach.NONE, []),
    ],
)
def test_best_reach_goes_first(htx: Reach, ble: Reach, expected: list[TransportType]) -> None:
    """INV-P2P-07."""
    assert candidates(MESSAGE, 10, {HTX: htx, BLE: ble}, CAN) == expected


def test_private_message_takes_no_way_on_which_others_see_who_writes_to_whom() -> None:
    """INV-P2P-07: neither Bluetooth, nor a mixnet of one hop."""
    reaches = {HTX: Reach.ADDRESS, BLE: Reach.DIRECT}

    assert candidates(PRIVATE, 10, reaches, CAN) == [HTX]
    public = {**CAN, HTX: dataclasses.replace(CAN_HTX, metadata_private=False)}
    assert candidates(PRIVATE, 10, reaches, public) == []
    assert "htx: others would see" in why_none(PRIVATE, 10, reaches, public)


def test_message_that_must_not_wait_is_given_to_no_courier() -> None:
    """INV-P2P-07."""
    reaches = {BLE: Reach.COURIER}

    assert candidates(MESSAGE, 10, reaches, CAN) == [BLE]
    assert candidates(NOW, 10, reaches, CAN) == []


def test_what_is_large_takes_the_mixnet_first_and_what_is_too_large_only_that() -> None:
    """INV-P2P-07."""
    reaches = {HTX: Reach.ADDRESS, BLE: Reach.DIRECT}

    assert candidates(MESSAGE, BULK_BYTES, reaches, CAN) == [BLE, HTX]
    assert candidates(MESSAGE, BULK_BYTES + 1, reaches, CAN) == [HTX, BLE]
    assert candidates(MESSAGE, CAN_BLE.max_message_size + 1, reaches, CAN) == [HTX]


def test_transport_that_cannot_be_used_says_why() -> None:
    """INV-P2P-07."""
    off = {BLE: dataclasses.replace(CAN_BLE, unavailable_because="no adapter: plug one in")}

    assert candidates(MESSAGE, 10, {BLE: Reach.DIRECT}, off) == []
    assert why_none(MESSAGE, 10, {BLE: Reach.DIRECT}, off) == "ble: no adapter: plug one in"
    assert why_none(MESSAGE, 10, {}, {}) == "no transport carries it"
    none = why_none(MESSAGE, 10, {}, CAN)
    assert "htx: no address of theirs is known" in none
    assert "ble: they are not near" in none
