"""What a person reads where Bluetooth is missing, switched off or forbidden; and who may use it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fog_compute.p2p.bitchat.radio.bluez import BluezRadio
from fog_compute.p2p.bitchat.radio.bluez_reasons import CallFailed
from fog_compute.p2p.bitchat.radio.interface import Back, Gone, RadioUnavailable
from tests.bluez.guest import ROOT
from tests.bluez.machine import PATIENCE_S, Machine
from tests.bluez.test_radio import told

NOBODY = 65_534
PYTHON = ROOT / ".venv" / "bin" / "python"

POLICY = Path("/etc/dbus-1/system.d/forbid.conf")
FORBIDDEN = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><policy context="mandatory"><deny send_destination="org.bluez"/></policy></busconfig>
"""

USE = """
import asyncio
from fog_compute.p2p.bitchat.radio.bluez import BluezRadio

async def use():
    radio = BluezRadio()
    await radio.start()
    await radio.advertise(True)
    await radio.scan(True)
    print(radio.state())
    await radio.stop()

asyncio.run(use())
"""


def rfkill(on: bool) -> None:
    """Block all Bluetooth, or let it go (kernel: ``include/uapi/linux/rfkill.h``)."""
    Path("/dev/rfkill").write_bytes(struct.pack("=IBBBB", 0, 2, 3, on, 0))


@contextlib.contextmanager
def forbidden() -> Iterator[None]:
    """D-Bus passes nothing to BlueZ."""
    reload = ["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus"]
    reload += ["/", "org.freedesktop.DBus.ReloadConfig"]
    POLICY.write_text(FORBIDDEN, "ascii")
    subprocess.run(reload, check=True, stdout=subprocess.DEVNULL)
    yield
    POLICY.unlink()
    subprocess.run(reload, check=True, stdout=subprocess.DEVNULL)


def open_to_all() -> None:
    """Let everybody read what this project needs, in the guest's memory alone."""
    for path in (ROOT, PYTHON.resolve()):
        for parent in path.parents:
            parent.chmod(0o755)


async def reason(adapter: str = "") -> str:
    radio = BluezRadio(adapter)
    with pytest.raises(RadioUnavailable) as refused:
        await radio.start()
    assert radio.state().unavailable_because == str(refused.value)
    return str(refused.value)


@pytest.mark.asyncio
async def test_each_lack_has_its_reason(machine: Machine) -> None:
    assert "no Bluetooth adapter hci5" in await reason("hci5")
    await machine.power(0, False)
    assert (await reason()).endswith("bluetoothctl power on")
    with forbidden():
        assert "usermod -aG bluetooth" in await reason()
    await machine.unplug(0)
    await machine.until(lambda: machine.get(0, "Address") is None)
    assert (await reason()).endswith("plug one in")
    machine.stop()
    assert "start bluetoothd" in await reason()


@pytest.mark.asyncio
async def test_rfkill_is_named_and_its_end_noticed(machine: Machine) -> None:
    radio = BluezRadio()
    await radio.start()
    rfkill(True)
    await told(radio, Gone)
    await machine.until(
        lambda: "rfkill unblock bluetooth" in (radio.state().unavailable_because or "")
    )
    assert "rfkill unblock bluetooth" in await reason()
    rfkill(False)
    async with asyncio.timeout(PATIENCE_S):
        while not machine.get(0, "Powered"):
            with contextlib.suppress(CallFailed):  # it is busy for a while
                await machine.power(0, True)
            await asyncio.sleep(0.1)
    await told(radio, Back)
    await radio.stop()


@pytest.mark.asyncio
async def test_a_user_without_any_group_may_use_debians_bluez(machine: Machine) -> None:
    open_to_all()
    program = await asyncio.create_subprocess_exec(
        *(PYTHON, "-c", USE),
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, error = await program.communicate()
    assert "peripheral=True" in out.decode(), error.decode()
