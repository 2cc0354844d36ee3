"""Blobs as they travel, and the time grid."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.tasks.pacing import next_edge
from fog_compute.tasks.sealing import BadBlob, blob_ref, new_key, open_blob, seal_blob


@given(st.binary(), st.binary(min_size=32, max_size=32))
def test_a_sealed_blob_opens(blob: bytes, key: bytes) -> None:
    sealed = seal_blob(key, blob)
    assert open_blob(key, sealed.ref, sealed.data) == blob
    assert seal_blob(key, blob) == sealed


def test_sessions_name_the_same_blob_differently() -> None:
    """INV-TASK-12."""
    blob = b"module" * 100
    first, second = seal_blob(new_key(), blob), seal_blob(new_key(), blob)
    assert first.ref != second.ref
    assert first.data != second.data
    assert blob not in first.data


def test_contents_never_share_a_nonce() -> None:
    """INV-TASK-12."""
    key = new_key()
    nonces = {seal_blob(key, str(i).encode()).data[:12] for i in range(1000)}
    assert len(nonces) == 1000


@given(st.binary(max_size=50), st.data())
def test_a_changed_blob_does_not_open(blob: bytes, data: st.DataObject) -> None:
    """INV-TASK-12."""
    key = bytes(32)
    sealed = seal_blob(key, blob)
    changed = bytearray(sealed.data)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadBlob, match="hash"):
        open_blob(key, sealed.ref, bytes(changed))
    with pytest.raises(BadBlob, match="does not open"):
        open_blob(key, blob_ref(bytes(changed)), bytes(changed))


@pytest.mark.parametrize("data", [b"", b"short", bytes(27)])
def test_a_blob_that_is_too_short_does_not_open(data: bytes) -> None:
    """INV-TASK-12."""
    with pytest.raises(BadBlob):
        open_blob(bytes(32), blob_ref(data), data)


def test_a_blob_does_not_open_under_another_key() -> None:
    """INV-TASK-12."""
    sealed = seal_blob(bytes(32), b"x")
    with pytest.raises(BadBlob, match="key"):
        open_blob(bytes([1]) * 32, sealed.ref, sealed.data)


@given(st.floats(0, 10**6))
def test_edges_are_the_next_on_the_grid(elapsed: float) -> None:
    """INV-TASK-15."""
    edge = next_edge(elapsed)
    assert edge >= elapsed
    steps = 2 * math.log2(edge / 0.05)
    assert abs(steps - round(steps)) < 1e-6
    assert edge == 0.05 or edge / math.sqrt(2) < elapsed
