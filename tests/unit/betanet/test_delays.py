"""Verifiable delays from Python: proofs, and the quantile against its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import betanet

TABLE = Path(__file__).parents[3] / "crates" / "vectors" / "delay_quantile.json"
SEED = bytes(range(32))


def test_a_proof_verifies_and_gives_its_output() -> None:
    proof = betanet.vrf_prove(SEED, b"input")
    public_key = betanet.vrf_public_key(SEED)

    output = betanet.vrf_verify(public_key, b"input", proof)

    assert (len(public_key), len(proof), len(output)) == (32, 80, 64)
    assert betanet.vrf_hash(proof) == output


def test_a_proof_for_something_else_is_refused() -> None:
    proof = betanet.vrf_prove(SEED, b"input")
    public_key = betanet.vrf_public_key(SEED)
    flipped = bytes([*proof[:-1], proof[-1] ^ 1])

    for key, text, shown in (
        (public_key, b"other", proof),
        (betanet.vrf_public_key(bytes(32)), b"input", proof),
        (public_key, b"input", flipped),
        (public_key, b"input", b"\xff" * 80),
    ):
        with pytest.raises(betanet.InvalidProof):
            betanet.vrf_verify(key, text, shown)


def test_what_is_no_key_or_proof_is_refused() -> None:
    proof = betanet.vrf_prove(SEED, b"")

    with pytest.raises(betanet.InvalidKey):
        betanet.vrf_verify(bytes(32), b"", proof)
    for malformed in (b"\xff" * 80, proof[:-1], b""):
        with pytest.raises(betanet.InvalidProof):
            betanet.vrf_hash(malformed)
    with pytest.raises(ValueError, match="x must be"):
        betanet.delay_quantile(1, 2**64)


def test_the_quantile_meets_its_table() -> None:
    """INV-DELAY-04."""
    for row in json.loads(TABLE.read_text()):
        expected = int(row["delay_ns"])

        assert betanet.delay_quantile(int(row["mean_ns"]), int(row["x"])) == expected, row
