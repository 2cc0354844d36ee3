"""`fog doctor` of messages between people: Bluetooth, keys, and settings that fit others'."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fog_compute.cli.doctor import people
from fog_compute.cli.doctor.findings import Finding, Verdict
from fog_compute.config import Settings, load_settings
from tests.unit.fog_compute.cli.backends import ME, PEER, backend

OK, SKIPPED, WARNING, _ = Verdict


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux with the drivers, a D-Bus and no adapter."""
    monkeypatch.setenv("FOG_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "daemon").mkdir(parents=True)
    (tmp_path / "adapters").mkdir()
    (tmp_path / "bus").touch()
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(people, "find_spec", lambda name: name)
    monkeypatch.setattr(people, "ADAPTERS", tmp_path / "adapters")
    monkeypatch.setattr(people, "BUS", tmp_path / "bus")
    return tmp_path


def one(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_bluetooth_is_there_or_says_what_it_lacks(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(people.bluetooth(load_settings())).verdict is SKIPPED
    (machine / "adapters" / "hci0").mkdir()
    (machine / "adapters" / "hci0:64").mkdir()  # a link
    assert one(people.bluetooth(load_settings())).found == "there is hci0"
    for kind, do in (("soft", "rfkill unblock bluetooth"), ("hard", "turn on the switch")):
        (machine / "adapters" / "hci0" / "rfkill0").mkdir(exist_ok=True)
        (machine / "adapters" / "hci0" / "rfkill0" / kind).write_text("1\n")
        blocked = one(people.bluetooth(load_settings()))
        assert (blocked.verdict, blocked.found) == (WARNING, "rfkill blocks hci0")
        assert do in blocked.do
    (machine / "adapters" / "hci1").mkdir()
    assert one(people.bluetooth(load_settings())).found == "there is hci0, hci1"
    (machine / "adapters" / "hci1").rmdir()
    shutil.rmtree(machine / "adapters" / "hci0" / "rfkill0")
    monkeypatch.setenv("FOG_CHAT_ADAPTER", "hci7")
    assert one(people.bluetooth(load_settings())).found == "there is no hci7, but hci0"
    monkeypatch.setenv("FOG_CHAT_ADAPTER", "usb:0")
    assert one(people.bluetooth(load_settings())).found == "bumble is installed"
    monkeypatch.setenv("FOG_CHAT_ADAPTER", "")
    (machine / "bus").unlink()
    assert one(people.bluetooth(load_settings())).found == "there is no system D-Bus"
    monkeypatch.setattr(people, "find_spec", lambda name: None)
    lacking = one(people.bluetooth(load_settings()))
    assert (lacking.verdict, lacking.do) == (WARNING, "pip install 'fog-compute[bluetooth]'")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert "bluetooth-macos" in one(people.bluetooth(load_settings())).do
    monkeypatch.setenv("FOG_CHAT_BLE", "0")
    assert one(people.bluetooth(load_settings())).verdict is SKIPPED


def asked(settings: Settings, me: Any, *peers: Any) -> list[Finding]:
    answers = [(200, json.dumps(body).encode()) for body in (me, {"peers": peers})]
    with backend(settings.home, *answers):
        return list(people.messages(settings))


def test_messages_are_asked_about_only_of_who_has_keys(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings()
    assert "nobody has keys" in one(people.messages(settings)).found
    settings.layout.identity_file.touch()
    assert "no fog runs here" in one(people.messages(settings)).found

    stranger = {**PEER, "trust": "stranger", "levels": ["public"]}
    (fine,) = asked(settings, ME, PEER, stranger)
    assert (fine.verdict, fine.found) == (OK, "they go as Bob, at private, to 1 contact")
    away = {"name": "htx", "available": False, "reason": "no edge answers"}
    (waits,) = asked(settings, {**ME, "transports": [away, ME["transports"][1]]}, PEER)
    assert (waits.verdict, waits.found) == (WARNING, "htx: no edge answers")
    assert waits.means == "messages wait"

    monkeypatch.setenv("FOG_CHAT_LEVEL", "secret")
    monkeypatch.setenv("FOG_CHAT_ISLANDS", "e0" * 32 + "," + PEER["fingerprint"])
    level, island = asked(load_settings(), ME, PEER)
    assert level.found == "ada takes messages at private, and not at secret"
    assert island.found.startswith("FOG_CHAT_ISLANDS has e0e0e0e0e0e0e0e0…, and nobody known")
