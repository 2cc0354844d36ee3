"""Noise from Python: our sessions against those of `noiseprotocol`, in both roles."""

from __future__ import annotations

import hashlib

import pytest
from noise.connection import Keypair, NoiseConnection

import betanet

OURS, THEIRS = bytes([1]) * 32, bytes([2]) * 32
FIRST_FILE = 100_000


def theirs(pattern: bytes, role: str, *, prologue: bytes = b"") -> NoiseConnection:
    connection = NoiseConnection.from_name(b"Noise_" + pattern + b"_25519_ChaChaPoly_SHA256")
    getattr(connection, f"set_as_{role}")()
    connection.set_prologue(prologue)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, THEIRS)
    return connection


def shaken(*, we_begin: bool) -> tuple[betanet.NoiseSession, NoiseConnection]:
    """A session of ours and one of theirs after the handshake."""
    other = theirs(b"XX", "responder" if we_begin else "initiator")
    other.start_handshake()
    if we_begin:
        ours = betanet.NoiseSession.initiator(OURS)
        other.read_message(ours.write_handshake())
        assert ours.read_handshake(bytes(other.write_message())) == b""
        other.read_message(ours.write_handshake())
    else:
        ours = betanet.NoiseSession.responder(OURS)
        ours.read_handshake(bytes(other.write_message()))
        other.read_message(ours.write_handshake())
        ours.read_handshake(bytes(other.write_message()))
    return ours, other


def opened(other: NoiseConnection, frame: bytes) -> bytes:
    """What theirs makes of a frame: its number goes where they count themselves."""
    other.noise_protocol.cipher_state_decrypt.n = int.from_bytes(frame[:4], "big")
    return bytes(other.decrypt(frame[4:]))


@pytest.mark.parametrize("we_begin", [True, False])
def test_a_session_with_another_library_opens_in_both_roles(we_begin: bool) -> None:
    """INV-BITCHAT-15."""
    ours, other = shaken(we_begin=we_begin)

    assert (ours.is_open, ours.is_initiator) == (True, we_begin)
    assert ours.remote_static == betanet.NoiseSecret(THEIRS).public
    assert ours.handshake_hash == other.get_handshake_hash()
    frames = [ours.encrypt(bytes([number]) * number) for number in range(5)]
    for number in (3, 0, 4, 1, 2):
        assert frames[number][:4] == number.to_bytes(4, "big")
        assert opened(other, frames[number]) == bytes([number]) * number
    answers = [number.to_bytes(4, "big") + bytes(other.encrypt(b"answer")) for number in range(3)]
    assert [ours.decrypt(answers[number]) for number in (2, 0, 1)] == [b"answer"] * 3


def test_a_seal_is_read_by_another_library_and_theirs_by_us() -> None:
    prologue = b"bitchat-courier-v1"
    reader = theirs(b"X", "responder", prologue=prologue)
    reader.start_handshake()
    recipient = betanet.NoiseSecret(THEIRS).public
    assert reader.read_message(betanet.noise_x_seal(recipient, prologue, b"text", OURS)) == b"text"

    writer = theirs(b"X", "initiator", prologue=prologue)
    writer.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, betanet.NoiseSecret(OURS).public)
    writer.start_handshake()
    sealed = bytes(writer.write_message(b"text"))
    assert betanet.noise_x_open(prologue, sealed, OURS) == (recipient, b"text")
    with pytest.raises(betanet.NoiseError):
        betanet.noise_x_open(b"bitchat-prekey-v1", sealed, OURS)


def test_a_frame_as_long_as_a_file_goes_through() -> None:
    """Noise itself ends at 65,535 bytes; the app's private files do not."""
    ours, _ = shaken(we_begin=True)
    there = betanet.NoiseSession.responder(THEIRS)
    here = betanet.NoiseSession.initiator(OURS)
    there.read_handshake(here.write_handshake())
    here.read_handshake(there.write_handshake())
    there.read_handshake(here.write_handshake())
    text = hashlib.shake_128(b"file").digest(FIRST_FILE)
    assert there.decrypt(here.encrypt(text)) == text
    with pytest.raises(betanet.NoiseError, match="length") as refused:
        ours.encrypt(bytes(1_179_709))
    assert refused.value.reason == "wrong_length"


def test_what_is_refused_names_its_reason_and_changes_nothing() -> None:
    ours, other = shaken(we_begin=True)
    frame = bytes(4) + bytes(other.encrypt(b"text"))
    reasons = {
        "wrong_length": frame[:19],
        "bad_tag": frame[:-1] + bytes([frame[-1] ^ 1]),
    }
    for reason, bad in reasons.items():
        with pytest.raises(betanet.NoiseError) as refused:
            ours.decrypt(bad)
        assert refused.value.reason == reason
    assert ours.decrypt(frame) == b"text"
    with pytest.raises(betanet.NoiseError, match="received before") as refused:
        ours.decrypt(frame)
    assert refused.value.reason == "replayed"
    with pytest.raises(betanet.NoiseError, match="does not wait for this"):
        ours.write_handshake()


def test_secrets_are_drawn_and_not_shown() -> None:
    secret = betanet.NoiseSecret.generate()
    assert secret.public == betanet.NoiseSecret(secret.to_bytes()).public
    assert secret.to_bytes() != betanet.NoiseSecret.generate().to_bytes()
    session = betanet.NoiseSession.initiator(secret)
    assert (repr(secret), repr(session)) == (
        "NoiseSecret(..)",
        "NoiseSession(initiator, handshake)",
    )
    assert (session.remote_static, session.handshake_hash) == (None, None)
    with pytest.raises(ValueError, match="expected 32 bytes, got 31"):
        betanet.NoiseSession.responder(bytes(31))
    with pytest.raises(TypeError, match="secret must be a NoiseSecret, or 32 bytes"):
        betanet.NoiseSession.responder("secret")  # type: ignore[arg-type]
