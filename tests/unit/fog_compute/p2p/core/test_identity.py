"""One person's keys: named, kept, shared with nobody, destroyed."""

from __future__ import annotations

import copy
import pickle
import random
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fog_compute.errors import HomeUnusable, ServiceUnavailable
from fog_compute.p2p.core import identity as identities
from fog_compute.p2p.core.identity import (
    Identity,
    IdentityFile,
    as_name,
    fingerprint_of,
    is_fingerprint,
    noise_key_of,
    verifies,
    words_for,
)
from fog_compute.p2p.core.words import WORDS, bytes_of, words_of

# RFC 8032, section 7.1, TEST 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def drawn(seed: int) -> Identity:
    return Identity.new(random.Random(seed).randbytes)


def test_the_signing_key_is_that_of_the_standard() -> None:
    own = Identity(SEED)

    assert own.signing_public == PUBLIC
    assert own.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a")


def test_inv_p2p_21_the_noise_key_follows_from_the_signing_key() -> None:
    """INV-P2P-21."""
    for seed in range(20):
        own = drawn(seed)

        assert noise_key_of(own.signing_public) == own.noise_public
        assert own.fingerprint == fingerprint_of(own.noise_public)
        assert own.peer_id == own.fingerprint[:16]
        assert is_fingerprint(own.fingerprint)


def test_the_noise_secret_makes_the_noise_key() -> None:
    own, other = drawn(1), X25519PrivateKey.generate()
    secret = X25519PrivateKey.from_private_bytes(own.noise_secret)

    assert secret.public_key().public_bytes_raw() == own.noise_public
    assert secret.exchange(other.public_key()) == other.exchange(
        X25519PublicKey.from_public_bytes(own.noise_public)
    )


@pytest.mark.parametrize("y", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 1])
def test_bytes_that_are_no_point_of_large_order_are_no_key(y: int) -> None:
    with pytest.raises(ValueError, match="no signing key"):
        noise_key_of(y.to_bytes(32, "little"))


def test_a_key_of_another_length_is_none() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        noise_key_of(bytes(31))
    with pytest.raises(ValueError, match="32 bytes, not 33"):
        Identity(bytes(33))


def test_a_signature_holds_for_its_bytes_and_its_key_alone() -> None:
    own = drawn(2)
    signature = own.sign(b"text")

    assert verifies(own.signing_public, b"text", signature)
    assert own.sign(b"text") == signature
    assert not verifies(own.signing_public, b"texts", signature)
    assert not verifies(drawn(3).signing_public, b"text", signature)
    assert not verifies(b"short", b"text", signature)
    assert not verifies(own.signing_public, b"text", signature[:-1])


def test_secrets_are_not_shown_copied_or_used_after_they_are_erased() -> None:
    own = drawn(4)
    seed, secret = own.seed, own.noise_secret

    for shown in (repr(own), str(own)):
        assert seed.hex() not in shown
        assert secret.hex() not in shown
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.deepcopy(own)
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(own)
    own.erase()
    assert bytes(own._seed) == bytes(own._noise_secret) == bytes(32)
    for use in (lambda: own.sign(b""), lambda: own.seed, lambda: own.noise_secret):
        with pytest.raises(ServiceUnavailable, match="erased"):
            use()  # type: ignore[no-untyped-call]


def test_words_cannot_be_confused() -> None:
    assert len(set(WORDS)) == len({word[:3] for word in WORDS}) == 256
    assert all(word.isascii() and word.islower() and 4 <= len(word) + 1 <= 10 for word in WORDS)
    assert list(WORDS) == sorted(WORDS)


def test_words_stand_for_bytes_and_may_be_cut_or_shouted() -> None:
    data = random.Random(5).randbytes(300)

    assert bytes_of(words_of(data)) == data
    assert bytes_of([word[:3].upper() for word in words_of(data)]) == data
    with pytest.raises(ValueError, match="'qqq' is no word"):
        bytes_of(["qqq"])


def test_inv_p2p_22_words_cover_both_keys() -> None:
    """INV-P2P-22."""
    own, other = drawn(6), drawn(7)

    assert len(own.words) == 12
    assert own.words == words_for(own.noise_public, own.signing_public)
    assert own.words != words_for(own.noise_public, other.signing_public)
    assert own.words != words_for(other.noise_public, own.signing_public)


def test_a_name_is_one_short_line() -> None:
    assert as_name("  Ada\x1b[2J\nLovelace ") == "Ada [2J Lovelace"
    assert len(as_name("ü" * 400).encode()) <= 255


def test_keys_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"

    made, name = IdentityFile(path).load_or_make("Ada", random.Random(8).randbytes)
    again, same = IdentityFile(path).load_or_make()

    assert (made.fingerprint, name) == (again.fingerprint, same) == (drawn(8).fingerprint, "Ada")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert IdentityFile(path).load_or_make("Grace")[1] == "Grace"
    assert IdentityFile(path).load_or_make()[1] == "Grace"
    assert IdentityFile(path).load_or_make()[0].fingerprint == made.fingerprint


def test_two_who_make_keys_at_once_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    found: list[str] = []

    def make() -> None:
        found.append(IdentityFile(path).load_or_make()[0].fingerprint)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"version":2,"seed":"' + b"0" * 64 + b'"}',
        b'{"version":1,"seed":"' + b"0" * 62 + b'"}',
        b'{"version":1,"seed":"' + b"x" * 64 + b'"}',
        b'{"version":1,"seed":"' + b"0" * 64 + b'","more":1}',
    ],
)
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(HomeUnusable, match=r"identity\.json are damaged"):
        IdentityFile(path).load_or_make()

    assert path.read_bytes() == content


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    IdentityFile(path).load_or_make()
    path.chmod(0o640)

    with pytest.raises(HomeUnusable, match="chmod go-rwx"):
        IdentityFile(path).load_or_make()


def test_a_file_that_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match="cannot be locked"):
        IdentityFile(tmp_path / "none" / "identity.json").load_or_make()
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(HomeUnusable, match="cannot be read"):
        IdentityFile(tmp_path / "folder").load_or_make()
    with pytest.raises(HomeUnusable, match="cannot be overwritten"):
        IdentityFile(tmp_path / "folder").wipe()


def test_one_who_waits_too_long_for_another_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "take_lock", lambda path: None)

    with pytest.raises(HomeUnusable, match="in use"):
        IdentityFile(tmp_path / "identity.json").load_or_make()


def test_inv_p2p_23_wiped_keys_are_overwritten_and_gone(tmp_path: Path) -> None:
    """INV-P2P-23."""
    path, kept = tmp_path / "identity.json", tmp_path / "still-open"
    own, _ = IdentityFile(path).load_or_make("Ada")
    seed = own.seed.hex().encode()
    kept.hardlink_to(path)  # sees what was under the name

    assert IdentityFile(path).wipe()

    assert not path.exists()
    assert kept.stat().st_size > len(seed)
    assert seed not in kept.read_bytes()
    assert not IdentityFile(path).wipe()
    assert IdentityFile(path).load_or_make()[0].fingerprint != own.fingerprint
