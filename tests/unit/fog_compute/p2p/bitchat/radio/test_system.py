"""What a machine without Bluetooth, or without what it needs for it, says."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.radio.bless import BlessRadio
from fog_compute.p2p.bitchat.radio.bluez import BluezRadio
from fog_compute.p2p.bitchat.radio.bumble import BumbleRadio
from fog_compute.p2p.bitchat.radio.interface import (
    ConnectFailed,
    Radio,
    RadioUnavailable,
)
from fog_compute.p2p.bitchat.radio.system import system_radio
from fog_compute.p2p.core.transport import TransportUnavailable


async def refused(radio: Radio, reason: str) -> None:
    """The driver says why it does not start, and can be asked everything all the same."""
    with pytest.raises(RadioUnavailable, match=reason):
        await radio.start()
    state = radio.state()
    assert not state.central
    assert not state.peripheral
    assert reason.replace("\\", "") in (state.unavailable_because or "")
    with pytest.raises(ConnectFailed):
        await radio.connect("00:11:22:33:44:55")
    with pytest.raises(RadioUnavailable):
        await radio.advertise(True)
    assert not await radio.send(1, b"x")
    await radio.disconnect(1)
    await radio.stop()
    await radio.stop()


@pytest.mark.asyncio
async def test_machine_without_a_bus_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    await refused(BluezRadio(), "this machine has no system D-Bus")
    transport = BitChatTransport(radio=BluezRadio())
    with pytest.raises(TransportUnavailable, match="no system D-Bus"):
        await transport.initialize()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("radio", "module", "reason"),
    [
        (BluezRadio, "bleak", r"the package bleak: pip install 'fog-compute\[bluetooth\]'"),
        (BluezRadio, "dbus_fast", r"pip install 'fog-compute\[bluetooth\]'"),
        (BlessRadio, "bless", r"pip install 'fog-compute\[bluetooth-macos\]'"),
        (system_radio, "bumble.core", "pip install bumble"),
    ],
)
async def test_package_that_is_missing_is_named_with_how_to_get_it(
    radio: type[Radio], module: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in tuple(sys.modules):
        if known.startswith("fog_compute.p2p.bitchat.radio.bluez_"):
            monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, module, None)
    made = radio("usb:0") if radio is system_radio else radio()  # type: ignore[call-arg]
    with pytest.raises(RadioUnavailable, match=reason):
        await made.start()
    assert "pip install" in (made.state().unavailable_because or "")
    await made.stop()


def test_driver_is_that_of_the_system_or_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(system_radio("hci-socket:0"), BumbleRadio)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert isinstance(system_radio("hci1"), BluezRadio)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert isinstance(system_radio(), BlessRadio)
