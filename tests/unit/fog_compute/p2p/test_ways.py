"""What is made of a person's settings, and what is kept of the mesh between two runs."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, cast

import pytest

from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.bitchat.mail.couriers import MailState
from fog_compute.p2p.bitchat.mail.mail_file import MailFile
from fog_compute.p2p.bitchat.radio.interface import ConnectFailed, Radio, RadioUnavailable
from fog_compute.p2p.bitchat.radio.off import OffRadio
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig
from fog_compute.p2p.ways import MailKeeper, Ways, make_ways
from fog_compute.store import Store
from fog_compute.testing import ManualClock
from fog_compute.testing.mixnet import MemoryMixnet

pytestmark = pytest.mark.asyncio

ADA = Identity.new(random.Random(1).randbytes)
RADIO = cast("Radio", object())


async def made(folder: Path, **options: Any) -> Ways:
    whole = {
        "level": PrivacyLevel.PRIVATE,
        "card_file": folder / "card",
        "ble": False,
        "radio": RADIO,
        **options,
    }
    service = MemoryMixnet().service("ada")
    return await make_ways(service, ADA, "ada", PeerBook(), Groups(), ManualClock(), **whole)


async def test_the_mesh_is_made_where_it_is_wanted(tmp_path: Path) -> None:
    alone = await made(tmp_path)
    both = await made(tmp_path, ble=True, mail_file=tmp_path / "mail")
    joined = await made(tmp_path, islands=["b" * 64])
    mesh = await make_ways(
        None,
        ADA,
        "",
        PeerBook(),
        Groups(),
        ManualClock(),
        level=PrivacyLevel.PRIVATE,
        card_file=tmp_path / "card",
        ble=True,
        radio=RADIO,
        islands=["b" * 64],
    )

    assert [one.type.value for one in alone.transports] == ["htx"]
    assert [one.type.value for one in both.transports] == ["htx", "ble"]
    assert both.mesh is not None
    assert both.mesh.on_mail is not None
    assert joined.htx is not None
    assert joined.htx.on_carried is not None
    assert both.htx is not None
    assert both.htx.on_carried is None
    assert [one.type.value for one in mesh.transports] == ["ble"]
    for ways in (alone, both, joined, mesh):
        ways.settled("nobody knows it", "ab" * 32)
        await ways.close()


class Slow(MailFile):
    """A file that notes what it is given."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.saved: list[MailState] = []

    def save(self, mail: MailState) -> None:
        self.saved.append(mail)
        super().save(mail)


async def test_the_newest_state_is_kept(tmp_path: Path) -> None:
    file = Slow(tmp_path / "mail")
    keeper = MailKeeper(file)
    assert await keeper.load() is None
    states = [MailState() for _ in range(20)]

    for one in states:
        keeper.keep(one)
    await keeper.close()

    assert file.saved[-1] is states[-1]
    assert len(file.saved) < len(states)
    assert await keeper.load() == states[-1]


async def test_who_stops_waits_until_the_newest_state_is_kept(tmp_path: Path) -> None:
    class Keeper:
        closed = False

        async def close(self) -> None:
            await asyncio.sleep(0)
            self.closed = True

    config = UnifiedP2PConfig(tmp_path / "identity", tmp_path / "card")
    keeper = Keeper()
    async with await Store.open(tmp_path / "fog.db", clock=ManualClock()) as store:
        async with UnifiedDecentralizedSystem(None, config, store=store) as system:
            system.ways.mail = cast("MailKeeper", keeper)

        assert keeper.closed


async def test_mail_that_cannot_be_kept_or_read_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(b"damaged")
    assert await MailKeeper(MailFile(tmp_path / "mail")).load() is None

    nowhere = MailKeeper(MailFile(tmp_path / "none" / "mail"))
    nowhere.keep(MailState())
    await nowhere.close()
    nowhere.keep(MailState())
    await nowhere.close()


async def test_islands_are_joined_without_touching_bluetooth_that_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr("fog_compute.p2p.bitchat.radio.system.system_radio", touched)
    ways = await made(tmp_path, islands=["b" * 64], radio=None)
    assert ways.mesh is not None

    await ways.mesh.initialize()

    assert "FOG_CHAT_BLE=1" in str(ways.mesh.get_capabilities().unavailable_because)
    assert ways.web is not None
    ways.web.check_room()  # browsers may join, too
    await ways.mesh.shutdown()


async def test_radio_that_is_off_does_nothing() -> None:
    radio: Radio = OffRadio()
    for refused in (radio.start(), radio.scan(True), radio.advertise(True)):
        with pytest.raises(RadioUnavailable, match="is off here"):
            await refused
    with pytest.raises(ConnectFailed):
        await radio.connect("x")
    await radio.disconnect(1)
    assert not await radio.send(1, b"x")
    assert radio.state().unavailable_because is not None
    await radio.stop()
