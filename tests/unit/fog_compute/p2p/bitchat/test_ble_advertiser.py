"""When others can find us."""

from __future__ import annotations

from fog_compute.backoff import Backoff
from fog_compute.p2p.bitchat.ble_advertiser import (
    Advertise,
    AdvertiseEnded,
    AdvertisePolicy,
    BLEAdvertiser,
)
from fog_compute.p2p.bitchat.radio.interface import Back, Closed, Found, Gone, Opened

POLICY = AdvertisePolicy(links=2, failures=Backoff(first=3.0, most=10.0))


def test_whoever_has_an_adapter_advertises_until_it_is_gone() -> None:
    advertiser = BLEAdvertiser(POLICY)
    assert advertiser.handle(Found("a", -50), 0.0) == []
    assert advertiser.handle(Back(), 1.0) == [Advertise(True)]
    assert advertiser.handle(AdvertiseEnded(True, ok=True), 1.0) == []
    assert advertiser.next_due is None
    assert advertiser.handle(Gone("unplugged"), 2.0) == []
    assert not advertiser.advertising
    assert advertiser.next_due is None
    assert advertiser.handle(Back(), 3.0) == [Advertise(True)]


def test_with_no_room_for_another_link_it_stops_until_there_is() -> None:
    # INV-BITCHAT-71
    advertiser = BLEAdvertiser(POLICY)
    advertiser.handle(Back(), 0.0)
    assert advertiser.handle(Opened(1, "a", 500, initiated=False), 1.0) == []
    assert advertiser.handle(Opened(2, "b", 500, initiated=True), 1.0) == []
    assert advertiser.handle(Opened(3, "c", 500, initiated=False), 1.0) == [Advertise(False)]
    assert advertiser.handle(Closed(2, "lost"), 2.0) == []
    assert advertiser.handle(Closed(1, "lost"), 2.0) == [Advertise(True)]


def test_adapter_that_refuses_is_asked_again_after_longer_and_longer() -> None:
    advertiser = BLEAdvertiser(POLICY)
    now, pauses = 0.0, []
    said = advertiser.handle(Back(), now)
    for _ in range(4):
        assert said == [Advertise(True)]
        assert advertiser.handle(AdvertiseEnded(True, ok=False), now) == []
        assert advertiser.due(now + 0.1) == []
        due = advertiser.next_due
        assert due is not None
        pauses.append(due - now)
        now = due
        said = advertiser.due(now)
    assert pauses == [3.0, 6.0, 10.0, 10.0]
    advertiser.handle(AdvertiseEnded(True, ok=True), now)
    assert advertiser.advertising
