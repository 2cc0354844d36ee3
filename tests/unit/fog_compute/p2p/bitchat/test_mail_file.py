"""Mail on disk: kept whole, for its owner alone, and gone when it is to be gone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import betanet
from fog_compute.errors import HomeUnusable
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mail.couriers import Couriers, MailState
from fog_compute.p2p.bitchat.mail.mail_file import MailFile
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope

NOW = 1_800_000_000_000
BOB = betanet.NoiseSecret(bytes([2]) * 32)


def some_mail() -> MailState:
    couriers = Couriers(betanet.NoiseSecret(bytes([1]) * 32), lambda _: Tier.PEER)
    couriers.own_prekeys.refresh(NOW)
    couriers.post("id", BOB.public, b"text", [bytes([9]) * 32], NOW)
    couriers.received(CourierEnvelope(bytes(16), NOW + 1_000, b"sealed"), BOB.public, NOW)
    return couriers.state


def test_mail_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = MailFile(tmp_path / "mail")
    assert file.load() is None
    mail = some_mail()
    assert (len(mail.own), len(mail.carried), len(mail.prekeys.own)) == (1, 1, 8)
    file.save(mail)
    assert file.load() == mail
    assert (tmp_path / "mail").stat().st_mode & 0o777 == 0o600
    file.save(MailState())
    assert file.load() == MailState()
    assert [path.name for path in tmp_path.iterdir()] == ["mail"]


def test_mail_that_is_wiped_is_overwritten_and_gone(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    file = MailFile(path)
    assert not file.wipe()
    file.save(some_mail())
    (tmp_path / "other").hardlink_to(path)
    before = path.read_bytes()
    assert file.wipe()
    assert not path.exists()
    after = (tmp_path / "other").read_bytes()
    assert len(after) == len(before)
    assert after != before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"version": 2, "mail": {}}),
        msgspec.msgpack.encode({"version": 1, "mail": {"own": 5}}),
        msgspec.msgpack.encode({"version": 1}),
    ],
)
def test_damaged_mail_is_refused_and_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "mail").write_bytes(data)
    with pytest.raises(HomeUnusable, match="damaged: delete the file"):
        MailFile(tmp_path / "mail").load()


def test_every_prefix_of_kept_mail_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    file = MailFile(path)
    file.save(some_mail())
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(HomeUnusable):
            file.load()


def test_what_cannot_be_read_or_written_is_said_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "no" / "mail"
    with pytest.raises(HomeUnusable, match=f"mail in {path} cannot be written: No such file"):
        MailFile(path).save(MailState())
    (tmp_path / "folder").mkdir()
    with pytest.raises(HomeUnusable, match="cannot be overwritten: Is a directory"):
        MailFile(tmp_path / "folder").wipe()
    with pytest.raises(HomeUnusable):
        MailFile(tmp_path / "folder").load()
