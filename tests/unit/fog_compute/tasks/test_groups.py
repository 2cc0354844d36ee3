"""Groups, their proofs and tags, and the file of their keys."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.errors import ConfigError
from fog_compute.tasks.groups import (
    LOCAL,
    MAX_GROUPS,
    PROOF_BYTES,
    Group,
    GroupKey,
    Keyring,
    NotAMember,
    check_group_name,
)
from fog_compute.tasks.keyring import KeyringFile

HERE, THERE = "fog1here", "fog1there"
LAB, HOME = Group.new("lab"), Group.new("home")
BOTH = Keyring((LAB, HOME))


def test_proof_and_tag_are_those_of_the_specification() -> None:
    """INV-TASK-105."""
    secret = bytes(range(32))
    key = GroupKey(secret)
    body = b"a request"
    digest = hashlib.sha256(body).digest()
    proof = hmac.new(secret, b"fog-compute group proof\0" + b"fog1here\0" + digest, "sha256")
    tag = hmac.new(secret, b"fog-compute group tag\0fog1here", "sha256")
    assert Keyring((Group("lab", key),)).seal("lab", HERE, body) == proof.digest() + body
    assert key.tag(HERE) == tag.hexdigest()[:32]


@given(body=st.binary(max_size=200))
def test_member_is_let_in_by_its_group(body: bytes) -> None:
    """INV-TASK-105."""
    for group in ("lab", "home"):
        assert BOTH.open(BOTH.seal(group, HERE, body), ["fog1before", HERE]) == (group, body)


@given(body=st.binary(max_size=80), bit=st.integers(0, 8 * (80 + PROOF_BYTES) - 1))
def test_flipped_bit_is_turned_away(body: bytes, bit: int) -> None:
    """INV-TASK-105."""
    sealed = bytearray(BOTH.seal("lab", HERE, body))
    sealed[bit // 8 % len(sealed)] ^= 1 << bit % 8
    with pytest.raises(NotAMember):
        BOTH.open(bytes(sealed), [HERE])


def test_proof_for_another_worker_or_of_another_key_is_turned_away() -> None:
    """INV-TASK-105."""
    stranger = Keyring((Group.new("lab"),))
    for data in (
        BOTH.seal("lab", THERE, b"x"),
        stranger.seal("lab", HERE, b"x"),
        b"",
        bytes(PROOF_BYTES - 1),
        bytes(PROOF_BYTES),
    ):
        with pytest.raises(NotAMember):
            BOTH.open(data, [HERE])
    with pytest.raises(NotAMember):
        BOTH.open(BOTH.seal("lab", HERE, b"x"), [])
    with pytest.raises(NotAMember):
        Keyring().open(bytes(PROOF_BYTES), [HERE])


def test_tags_tell_members_alone_which_groups_a_worker_serves() -> None:
    """INV-TASK-106."""
    tags = BOTH.tags(HERE)
    assert BOTH.read_tags(tags, HERE) == ("lab", "home")
    assert Keyring((HOME,)).read_tags(tags, HERE) == ("home",)
    # Copied to another address, they say nothing, and entries of one worker have none in common.
    assert BOTH.read_tags(tags, THERE) == ()
    assert not set(tags) & set(BOTH.tags(THERE))
    # A name alone, and a group of the same name, are no tag.
    assert BOTH.read_tags(("lab", Group.new("lab").key.tag(HERE)), HERE) == ()


def test_keys_show_themselves_nowhere() -> None:
    secret = LAB.key.reveal()
    shown = repr(BOTH) + str(LAB) + f"{LAB.key}"
    assert secret.hex() not in shown
    assert repr(secret) not in shown
    with pytest.raises(TypeError):
        hash(LAB.key)


def test_groups_that_cannot_be_are_refused() -> None:
    for name in ("", "Lab", "-lab", "a b", "a" * 33, "lab\n", "l\x1b[2J"):
        with pytest.raises(ConfigError, match="no name of a group") as refused:
            check_group_name(name)
        assert str(refused.value).isprintable()
    with pytest.raises(ConfigError):
        GroupKey(bytes(31))
    with pytest.raises(ConfigError):
        Keyring((LAB, Group.new("lab")))
    with pytest.raises(ConfigError):
        Keyring(tuple(Group.new(f"g{i}") for i in range(MAX_GROUPS + 1)))


def test_joined_groups_come_first_and_never_take_the_place_of_another() -> None:
    away = Group.new("away")
    assert BOTH.joined([away]).names == ("away", "lab", "home")
    assert BOTH.joined([HOME]).names == ("home", "lab")
    with pytest.raises(ConfigError, match="another group named 'lab'"):
        BOTH.joined([Group.new("lab")])
    fresh = Group.new("lab")
    assert BOTH.replaced([fresh]).key("lab") == fresh.key
    assert BOTH.replaced([fresh]).names == BOTH.names


def test_file_of_keys_is_its_owners_alone_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """INV-TASK-107."""
    path = tmp_path / "below" / "groups.json"
    file = KeyringFile(path)
    with pytest.raises(ConfigError, match=str(path)):
        file.load()
    made = file.load_or_make()
    assert made.names == (LOCAL,)
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyringFile(path).load_or_make() == made

    KeyringFile(path).write(BOTH)
    assert file.current() == BOTH
    # Where it cannot be read now, what it said holds on.
    kept = path.read_bytes()
    path.unlink()
    assert file.current() == BOTH
    for damaged in (b"", b"[", b"[" * 100_000, b'{"groups": [{"name": "x", "key": "00"}]}'):
        path.write_bytes(damaged)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=str(path)):
            file.load()
        assert file.current() == BOTH
    path.write_bytes(kept)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod go-rwx"):
        KeyringFile(path).load()


def test_file_that_cannot_be_written_leaves_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    file = KeyringFile(path)
    file.write(BOTH)
    blocked = KeyringFile(path / "below")
    with pytest.raises(ConfigError, match="cannot be written"):
        blocked.write(BOTH)
    assert [one.name for one in tmp_path.iterdir()] == ["groups.json"]
