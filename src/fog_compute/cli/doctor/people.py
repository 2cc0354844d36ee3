"""What messages between people need: Bluetooth, keys, and settings that fit those of others."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fog_compute.cli.client import Backend
from fog_compute.cli.doctor.findings import Finding, Verdict, of_problem
from fog_compute.client.people import Me, Peer, Peers
from fog_compute.client.places import Home
from fog_compute.config import Settings
from fog_compute.errors import FogError, NotRunning
from fog_compute.p2p.bitchat.radio.bluez_reasons import Block, read_block
from fog_compute.text import counted, one_line

__all__ = ["bluetooth", "messages"]

ADAPTERS: Final = Path("/sys/class/bluetooth")
BUS: Final = Path("/run/dbus/system_bus_socket")

ALONE: Final = "messages between people go over the mixnet alone"
RAW: Final = ":"
"""In the name of an adapter that is raw HCI."""


def bluetooth(settings: Settings) -> Iterator[Finding]:
    """There is a driver and an adapter, as far as can be seen without touching one."""
    if not settings.chat_ble:
        yield Finding("bluetooth", Verdict.SKIPPED, "it is off: FOG_CHAT_BLE is 0")
        return
    driver, do = _driver_of(settings)
    if find_spec(driver) is None:
        yield Finding("bluetooth", Verdict.WARNING, f"{driver} is not installed", ALONE, do)
    elif RAW in settings.chat_adapter or platform.system() != "Linux":
        yield Finding("bluetooth", Verdict.OK, f"{driver} is installed")
    elif not _adapters():
        yield Finding("bluetooth", Verdict.SKIPPED, "this machine has no adapter")
    elif settings.chat_adapter and settings.chat_adapter not in _adapters():
        found = f"there is no {settings.chat_adapter}, but {', '.join(_adapters())}"
        yield Finding("bluetooth", Verdict.WARNING, found, ALONE, "correct FOG_CHAT_ADAPTER")
    elif not BUS.exists():
        do = "install dbus and bluez, and start them"
        yield Finding("bluetooth", Verdict.WARNING, "there is no system D-Bus", ALONE, do)
    elif blocks := _blocks(settings):
        do = "rfkill unblock bluetooth"
        if Block.HARD in blocks.values():
            do = "turn on the switch of this machine for radio"
        found = f"rfkill blocks {', '.join(blocks)}"
        yield Finding("bluetooth", Verdict.WARNING, found, ALONE, do)
    else:
        yield Finding("bluetooth", Verdict.OK, f"there is {', '.join(_adapters())}")


def messages(settings: Settings) -> Iterator[Finding]:
    """Of who has keys here: what carries messages, and who takes them at another level."""
    if not settings.layout.identity_file.exists():
        yield Finding("messages", Verdict.SKIPPED, "nobody has keys here: `fog chat me` makes them")
        return
    try:
        with Backend(Home(settings.layout)) as backend:
            me = backend.get("/api/v1/chat", Me, check="true")
            peers = backend.get("/api/v1/peers", Peers)["peers"]
    except NotRunning:
        yield Finding("messages", Verdict.SKIPPED, "no fog runs here: `fog up` starts one")
        return
    except FogError as error:
        yield of_problem("messages", str(error), "messages between people wait")
        return
    found = list(_of_transports(me)) + list(_of_people(settings, peers))
    yield from found
    if not found:
        name = one_line(me["name"], 40) or "without a name"
        known = counted(sum(one["trust"] != "stranger" for one in peers), "contact")
        yield Finding("messages", Verdict.OK, f"they go as {name}, at {me['level']}, to {known}")


def _of_transports(me: Me) -> Iterator[Finding]:
    away = [one for one in me["transports"] if not one["available"]]
    means = "messages wait" if len(away) == len(me["transports"]) else "they go another way"
    for one in away:
        if one["name"] != "ble":  # of which `bluetooth` tells
            found = f"{one['name']}: {one['reason']}"
            do = "see `fog status`, which says more of the network"
            yield Finding("messages", Verdict.WARNING, found, means, do)


def _of_people(settings: Settings, peers: list[Peer]) -> Iterator[Finding]:
    level = settings.chat_level.value
    known = [one for one in peers if one["trust"] != "stranger" and not one["blocked"]]
    for one in known:
        if one["levels"] and level not in one["levels"]:
            yield Finding(
                "messages",
                Verdict.WARNING,
                f"{one_line(one['shown'], 40)} takes messages at {', '.join(one['levels'])}, and"
                f" not at {level}",
                "what you write to each other over the mixnet waits",
                "agree on one FOG_CHAT_LEVEL, and give each other new cards",
            )
    met = {one["fingerprint"] for one in known}
    for island in filter(None, settings.chat_islands.split(",")):
        if island not in met:
            yield Finding(
                "messages",
                Verdict.WARNING,
                f"FOG_CHAT_ISLANDS has {island[:16]}…, and nobody known has that fingerprint",
                "the two meshes are not joined",
                "add their card: `fog peer add CARD`",
            )


def _driver_of(settings: Settings) -> tuple[str, str]:
    """The package that drives the adapter, and how it is installed."""
    if RAW in settings.chat_adapter:
        return "bumble", "pip install bumble"
    if platform.system() == "Linux":
        return "dbus_fast", "pip install 'fog-compute[bluetooth]'"
    return "bless", "pip install 'fog-compute[bluetooth-macos]'"


def _blocks(settings: Settings) -> dict[str, Block]:
    """The adapters that may be used, if all of them are kept from sending."""
    names = [settings.chat_adapter] if settings.chat_adapter else _adapters()
    blocks = {name: read_block(name, ADAPTERS) for name in names}
    return {} if Block.NONE in blocks.values() else blocks


def _adapters() -> list[str]:
    try:
        return sorted(one.name for one in ADAPTERS.iterdir() if RAW not in one.name)
    except OSError:
        return []
