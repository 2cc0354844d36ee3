"""Why there is no Bluetooth, or half of it: each reason names the thing and what to do.

INV-BITCHAT-74.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.p2p.bitchat.radio.bluez_reasons import (
    ADVERTISING,
    GATT,
    Block,
    choose,
    read_block,
    without_bluez,
    without_bus,
    without_peripheral,
)

ON, OFF = {"Powered": True}, {"Powered": False}


@pytest.mark.parametrize(
    ("adapters", "wanted", "block", "name", "reason"),
    [
        ({}, "", Block.NONE, "", "no Bluetooth adapter: plug one in"),
        ({"hci0": ON}, "hci7", Block.NONE, "", "no Bluetooth adapter hci7: plug it in"),
        ({"hci0": OFF}, "", Block.NONE, "", "hci0 is switched off: bluetoothctl power on"),
        ({"hci0": OFF}, "", Block.SOFT, "", "hci0 is switched off by rfkill: rfkill unblock"),
        ({"hci0": OFF}, "hci0", Block.HARD, "", "hci0 is switched off by a switch"),
        ({"hci0": {}}, "", Block.NONE, "", "hci0 is switched off"),
        ({"hci0": OFF, "hci1": ON}, "", Block.NONE, "hci1", None),
        ({"hci0": ON, "hci1": ON}, "hci1", Block.NONE, "hci1", None),
        ({"hci1": ON, "hci0": OFF}, "hci0", Block.NONE, "", "hci0 is switched off"),
    ],
)
def test_adapter_that_is_on_is_taken_and_otherwise_there_is_a_reason(
    adapters: dict[str, dict[str, object]],
    wanted: str,
    block: Block,
    name: str,
    reason: str | None,
) -> None:
    chosen, said = choose(adapters, wanted, lambda _: block)
    assert chosen == name
    assert (said is None) if reason is None else (reason in (said or ""))


@pytest.mark.parametrize(
    ("managers", "reason"),
    [
        ({GATT: {}, ADVERTISING: {"SupportedInstances": 5, "ActiveInstances": 0}}, None),
        ({GATT: {}, ADVERTISING: {"SupportedInstances": 0, "ActiveInstances": 2}}, None),
        ({GATT: {}, ADVERTISING: {}}, None),
        ({GATT: {}, ADVERTISING: {"SupportedInstances": 0, "ActiveInstances": 0}}, "no room"),
        ({GATT: {}}, "no LE peripheral role"),
        ({ADVERTISING: {"SupportedInstances": 5}}, "no LE peripheral role"),
    ],
)
def test_adapter_that_others_cannot_find_says_why(
    managers: dict[str, dict[str, object]], reason: str | None
) -> None:
    said = without_peripheral("hci0", managers)
    assert (said is None) if reason is None else (reason in (said or "") and "hci0" in (said or ""))


def test_service_that_does_not_answer_is_missing_or_forbidden() -> None:
    assert "usermod -aG bluetooth" in without_bluez("org.freedesktop.DBus.Error.AccessDenied")
    for name in ("org.freedesktop.DBus.Error.ServiceUnknown", ""):
        assert "start bluetoothd" in without_bluez(name)


def test_bus_that_is_not_there_shows_no_number_of_an_error() -> None:
    assert without_bus(FileNotFoundError(2, "No such file")).endswith("start them")
    assert "this user may not" in without_bus(PermissionError(13, "Permission denied"))
    assert "does not answer (EOFError)" in without_bus(EOFError("closed"))
    assert "does not answer (is down)" in without_bus(OSError(9, "Is down"))


@pytest.mark.parametrize(
    ("hard", "soft", "block"),
    [
        ("0", "0", Block.NONE),
        ("0", "1", Block.SOFT),
        ("1", "1", Block.HARD),
        ("x", None, Block.NONE),
    ],
)
def test_what_keeps_an_adapter_silent_is_read_from_the_kernel(
    tmp_path: Path, hard: str, soft: str | None, block: Block
) -> None:
    switch = tmp_path / "hci0" / "rfkill3"
    switch.mkdir(parents=True)
    (switch / "hard").write_text(f"{hard}\n")
    if soft is not None:
        (switch / "soft").write_text(f"{soft}\n")
    assert read_block("hci0", tmp_path) is block
    assert read_block("hci1", tmp_path) is Block.NONE


def test_switch_is_read_that_says_to_have_a_page_of_bytes(tmp_path: Path) -> None:
    switch = tmp_path / "hci0" / "rfkill3"
    switch.mkdir(parents=True)
    (switch / "soft").write_text("1".ljust(16_384, "\n"))
    assert read_block("hci0", tmp_path) is Block.SOFT
