"""Receipts: what an honest worker signs, and what a forger cannot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.tasks import TaskResult
from fog_compute.tasks.receipt import BadReceipt, Signer, SignerUnusable, check_receipt

HANDLE = b"h" * 16
RESULT = TaskResult(0, b"out", b"", 7, 11, 13)
# The first test of RFC 8032, section 7.1: the key and its public half.
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_a_receipt_is_a_key_and_its_signature_over_what_the_page_says() -> None:
    """INV-TASK-77."""
    receipt = Signer(SECRET).sign(HANDLE, RESULT)
    assert receipt[:32] == PUBLIC
    signed = b"fog-compute receipt v1\0" + HANDLE + hashlib.sha256(RESULT.data).digest()
    signed += (7).to_bytes(8, "big") + (11).to_bytes(8, "big")
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(receipt[32:], signed)
    assert check_receipt(receipt, HANDLE, RESULT) == PUBLIC


@given(st.integers(0, 96 * 8 - 1))
def test_a_receipt_with_any_flipped_bit_is_refused(bit: int) -> None:
    """INV-TASK-77."""
    receipt = bytearray(Signer(SECRET).sign(HANDLE, RESULT))
    receipt[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadReceipt):
        check_receipt(bytes(receipt), HANDLE, RESULT)


def test_a_receipt_for_another_attempt_result_or_by_another_key_is_refused() -> None:
    """INV-TASK-77."""
    receipt = Signer(SECRET).sign(HANDLE, RESULT)
    other = TaskResult(0, b"out", b"", 8, 11, 13)
    for handle, result, known in (
        (b"i" * 16, RESULT, b""),
        (HANDLE, other, b""),
        (HANDLE, RESULT, b"k" * 32),
    ):
        with pytest.raises(BadReceipt):
            check_receipt(receipt, handle, result, known)
    for short in (b"", receipt[:-1], receipt + b"x"):
        with pytest.raises(BadReceipt, match="bytes instead of 96"):
            check_receipt(short, HANDLE, RESULT)


def test_a_worker_keeps_its_key(tmp_path: Path) -> None:
    """INV-TASK-77."""
    path = tmp_path / "key"
    first = Signer.at(path)
    assert Signer.at(path).public == first.public
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    with pytest.raises(SignerUnusable, match=str(path)):
        Signer.at(path)
