"""What is registered with an adapter, and that it stays registered: against what BlueZ answers."""

from __future__ import annotations

from typing import Any

import pytest

from fog_compute.p2p.bitchat.radio import bluez_offer
from fog_compute.p2p.bitchat.radio.bluez_offer import BluezOffer
from fog_compute.p2p.bitchat.radio.bluez_reasons import ADVERTISING, GATT, CallFailed
from fog_compute.p2p.bitchat.radio.interface import RadioUnavailable

MANAGERS: dict[str, dict[str, Any]] = {GATT: {}, ADVERTISING: {"SupportedInstances": 4}}


class Adapter:
    """As BlueZ 5.66 behaves: nothing is registered twice, nothing unknown goes."""

    def __init__(self) -> None:
        self.has: set[str] = set()
        self.asked: list[str] = []
        self.refuses = 0

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: object
    ) -> list[Any]:
        self.asked.append(member)
        ours = str(body[0])
        if member.startswith("Unregister"):
            if ours not in self.has:
                raise CallFailed("org.bluez.Error.DoesNotExist")
            self.has.discard(ours)
            return []
        if ours in self.has:
            raise CallFailed("org.bluez.Error.AlreadyExists Already Exists")
        if self.refuses:
            self.refuses -= 1
            raise CallFailed("org.bluez.Error.NotPermitted Maximum advertisements reached")
        self.has.add(ours)
        return []


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Adapter:
    monkeypatch.setattr(bluez_offer, "VISIBLE_S", 0.0)
    monkeypatch.setattr(bluez_offer, "AGAIN_S", 0.0)
    return Adapter()


@pytest.mark.asyncio
async def test_adapter_that_was_off_still_has_the_service_and_takes_it_again(
    adapter: Adapter,
) -> None:
    first = BluezOffer(adapter, "hci0")
    await first.register(MANAGERS)
    await first.advertise(True)
    first.end()
    again = BluezOffer(adapter, "hci0")
    await again.register(MANAGERS)
    assert again.limited_because is None
    await again.advertise(True)
    await again.advertise(True)
    assert len(adapter.has) == 2
    await again.advertise(False)
    assert len(adapter.has) == 1


@pytest.mark.asyncio
async def test_adapter_advertises_again_once_it_can_after_somebody_connected(
    adapter: Adapter,
) -> None:
    offer = BluezOffer(adapter, "hci0")
    await offer.register(MANAGERS)
    await offer.go_on()
    assert not any("RegisterAdvertisement" in asked for asked in adapter.asked[2:])
    await offer.advertise(True)
    adapter.asked.clear()
    adapter.refuses = 3
    await offer.go_on()
    assert adapter.asked.count("RegisterAdvertisement") == 4
    assert len(adapter.has) == 2
    offer.end()
    adapter.asked.clear()
    await offer.go_on()
    assert adapter.asked == []


@pytest.mark.asyncio
async def test_refusals_are_told(adapter: Adapter) -> None:
    offer = BluezOffer(adapter, "hci3")
    adapter.refuses = 1
    await offer.register(MANAGERS)
    assert "refuses our service" in (offer.limited_because or "")
    with pytest.raises(RadioUnavailable, match="refuses our service"):
        await offer.advertise(True)
    await offer.register(MANAGERS)
    adapter.refuses = 1
    with pytest.raises(RadioUnavailable, match=r"hci3 does not advertise: .*Maximum"):
        await offer.advertise(True)
    assert not offer.advertised
    await offer.register({GATT: {}})
    with pytest.raises(RadioUnavailable, match="no LE peripheral role"):
        await offer.advertise(True)
