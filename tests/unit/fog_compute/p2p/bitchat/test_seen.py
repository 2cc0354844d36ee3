"""What has come before is known for as long as copies can come."""

from __future__ import annotations

from random import Random

import pytest

from fog_compute.p2p.bitchat.mesh.seen import Seen, SeenPolicy, Shown

POLICY = SeenPolicy(keep_s=40.0, duplicates_s=8.0, smallest=10, largest=3_000)


def key(number: int) -> bytes:
    return number.to_bytes(8)


def test_second_copy_is_told_from_the_first() -> None:
    seen = Seen()
    assert seen.add(b"a", 0.0)
    assert not seen.add(b"a", 1.0)
    assert b"a" in seen
    assert b"b" not in seen


@pytest.mark.parametrize("rate", [1, 50, 200])
def test_no_copy_that_can_still_come_is_forgotten_at_any_rate(rate: int) -> None:
    """INV-BITCHAT-53."""
    seen, rng = Seen(POLICY), Random(rate)
    for number in range(rate * 30):
        now = number / rate
        assert seen.add(key(number), now)
        late = max(0, number - rng.randrange(int(POLICY.duplicates_s * rate)))
        assert not seen.add(key(late), now)
    assert seen.forgotten_young == 0
    assert len(seen) <= max(POLICY.smallest, rate * POLICY.duplicates_s) + 1


def test_old_entries_go_even_where_there_is_room() -> None:
    seen = Seen(POLICY)
    seen.add(b"old", 0.0)
    seen.add(b"older than it looks", 1.0)
    seen.add(b"old", 39.0)
    seen.add(b"new", 40.5)
    assert b"old" not in seen
    assert b"older than it looks" in seen


def test_flood_of_packets_takes_bounded_memory_and_is_counted() -> None:
    seen = Seen(POLICY)
    for number in range(3_700):
        seen.add(key(number), number / 10_000)
    assert len(seen) == 3_000
    assert seen.forgotten_young == 700


def test_what_was_shown_is_never_shown_again_even_if_it_had_to_be_forgotten() -> None:
    """INV-BITCHAT-53."""
    shown, rng = Shown(largest=50), Random(1)
    first = [(f"m{number}", number + rng.randrange(9)) for number in range(300)]
    admitted = [one for one in first if shown.admit(*one)]
    assert len(admitted) > 50
    assert not any(shown.admit(*one) for one in admitted)
    assert shown.admit("new", 400)
