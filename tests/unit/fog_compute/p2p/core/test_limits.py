"""Buckets of tokens: what fits, what is owed, and when there is enough again."""

from __future__ import annotations

from fog_compute.p2p.core.limits import Bucket


def test_a_bucket_fills_again() -> None:
    bucket = Bucket(2.0, 3.0)

    assert [bucket.take(1, 10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(1, 10.5)
    assert not bucket.take(1, 10.5)
    assert not bucket.take(1, 3.0)  # a clock that goes back gives nothing
    assert bucket.take(3, 99.0)
    assert not bucket.take(1, 99.0)


def test_a_debt_is_paid_before_anything_passes_and_has_an_end() -> None:
    bucket = Bucket(2.0, 6.0, debt=4.0)
    bucket.charge(99.0)

    assert bucket.free_at(1.0, 10.0) == 12.5
    assert not bucket.covers(1.0, 12.25)
    assert bucket.take(1.0, 12.5)
    assert bucket.free_at(0.0, 12.5) == 12.5
