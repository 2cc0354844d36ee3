"""Whom to connect to, and when, on a virtual clock."""

from __future__ import annotations

from random import Random

import pytest

from fog_compute.backoff import Backoff
from fog_compute.p2p.bitchat.ble_scanner import (
    BLEScanner,
    Cancel,
    Connect,
    ConnectEnded,
    Scan,
    ScanAction,
    ScanPolicy,
    ScanRefused,
)
from fog_compute.p2p.bitchat.radio.interface import Back, Closed, Found, Gone, Opened

POLICY = ScanPolicy(
    links=3,
    gap_s=(0.2, 0.4),
    floor_dbm=-80,
    alone_dbm=-95,
    fresh_s=20.0,
    steady_s=4.0,
    scan_s=7.0,
    rest_s=9.0,
    remembered=40,
    failures=Backoff(first=3.0, most=50.0),
    refused_s=6.0,
)


class Run:
    """A scanner, what it said, and the time."""

    def __init__(self, policy: ScanPolicy = POLICY) -> None:
        self.scanner = BLEScanner(policy, Random(5))
        self.now = 100.0
        self.links = 0

    def __call__(self, event: object) -> list[ScanAction]:
        return self.scanner.handle(event, self.now)  # type: ignore[arg-type]

    def until(self, at: float) -> list[ScanAction]:
        """Wake whenever it wants, until a time; what it said."""
        said: list[ScanAction] = []
        while (due := self.scanner.next_due) is not None and due <= at:
            assert due > self.now or not said, "it wants to be woken for nothing"
            self.now = max(self.now, due)
            said += self.scanner.due(self.now)
        self.now = at
        return said

    def connect(self, address: str, *, ok: bool = True) -> None:
        """Let a found address be connected to."""
        self(Found(address, -60))
        assert Connect(address) in self.until(self.now + 1)
        self(ConnectEnded(address, ok))
        if ok:
            self.links += 1
            self(Opened(self.links, address, 500, initiated=True))


def started(policy: ScanPolicy = POLICY) -> Run:
    run = Run(policy)
    assert run(Back()) == [Scan(True)]
    return run


def test_nothing_happens_without_an_adapter() -> None:
    run = Run()
    assert run(Found("a", -50)) == []
    assert run.scanner.next_due is None


def test_one_attempt_at_a_time_and_scanning_rests_meanwhile() -> None:
    # INV-BITCHAT-71
    run = started()
    run(Found("a", -50))
    run(Found("b", -50))
    said = run.until(run.now + 1)
    assert said[0] == Scan(False)
    assert len(said) == 2
    first = said[1]
    assert isinstance(first, Connect)
    assert run.until(run.now + 30) == []
    after = run(ConnectEnded(first.address, ok=True))
    assert after == [Scan(True)]


def test_attempts_are_apart_by_the_gap() -> None:
    # INV-BITCHAT-71
    run = started()
    run.connect("a")
    run(Found("b", -50))
    ended = run.now
    while not any(isinstance(action, Connect) for action in run.scanner.due(run.now)):
        run.now += 0.01
    assert run.now - ended >= POLICY.gap_s[0]


def test_no_more_links_than_allowed_and_no_scanning_then() -> None:
    # INV-BITCHAT-71
    run = started()
    for address in "abc":
        run.connect(address)
    assert not run.scanner.scanning
    run(Found("d", -50))
    assert run.until(run.now + 60) == []
    assert Scan(True) in run(Closed(2, "lost"))


def test_others_connections_count_against_no_room_and_are_not_doubled() -> None:
    run = started()
    for link in range(10, 18):
        run(Opened(link, f"p{link}", 500, initiated=False))
    run(Found("p10", -50))
    assert not any(isinstance(action, Connect) for action in run.until(run.now + 5))
    run(Found("a", -50))
    assert Connect("a") in run.until(run.now + 5)


def test_attempt_is_given_up_when_the_other_side_was_quicker() -> None:
    run = started()
    run(Found("a", -50))
    run.until(run.now + 1)
    assert run(Opened(1, "a", 500, initiated=False)) == [Cancel("a")]
    run(ConnectEnded("a", ok=False))
    run(Closed(1, "lost"))
    run(Found("a", -50))
    assert Connect("a") in run.until(run.now + 1), "that was no failure"


def test_weak_signal_is_left_alone_but_by_the_lonely() -> None:
    # INV-BITCHAT-72
    run = started()
    run(Found("far", -90))
    assert Connect("far") in run.until(run.now + 1)
    run(ConnectEnded("far", ok=True))
    run(Opened(1, "far", 500, initiated=True))
    run(Found("also far", -90))
    assert not any(isinstance(action, Connect) for action in run.until(run.now + 5))
    run(Found("unknown", 0))
    assert Connect("unknown") in run.until(run.now + 5)


def test_address_that_fails_is_left_alone_for_longer_each_time() -> None:
    # INV-BITCHAT-72
    run = started()
    pauses: list[float] = []
    for _ in range(4):
        run.connect("a", ok=False)
        failed = run.now
        tried = False
        while not tried:
            run.now += 0.1
            tried = Connect("a") in run(Found("a", -50))
        pauses.append(run.now - failed)
        run(ConnectEnded("a", ok=False))
        run.now += POLICY.failures.most
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(3.0, abs=0.5)
    assert pauses[-1] > 4 * pauses[0]


def test_link_that_is_lost_at_once_counts_as_a_failure_and_a_steady_one_does_not() -> None:
    run = started()
    run.connect("brief")
    run.now += 1
    run(Closed(1, "lost"))
    run(Found("brief", -50))
    assert not any(isinstance(action, Connect) for action in run.until(run.now + 2))
    run = started()
    run.connect("steady")
    run.now += POLICY.steady_s + 1
    run(Closed(1, "lost"))
    assert Connect("steady") in run(Found("steady", -50)) + run.until(run.now + 1)


def test_shunned_address_is_left_alone() -> None:
    run = started()
    run.scanner.shun("a", run.now, 30.0)
    run(Found("a", -50))
    assert run.until(run.now + 15) == []
    run.now += 16
    assert Connect("a") in run(Found("a", -50))


def test_old_advertisement_leads_nowhere_and_wakes_nobody() -> None:
    run = started()
    run(Found("a", -50))
    run.now += POLICY.fresh_s + 1  # a suspended machine
    assert run.scanner.due(run.now) == []
    assert run.scanner.next_due is None


def test_scanning_rests_by_turns_once_there_is_a_link() -> None:
    run = started()
    run.connect("a")
    begun = run.now
    said = run.until(begun + 40)
    assert said == [Scan(False), Scan(True), Scan(False), Scan(True), Scan(False)]


def test_adapter_that_refuses_to_scan_is_asked_again_later() -> None:
    run = started()
    assert run(ScanRefused()) == []
    assert run.until(run.now + 5) == []
    assert run.until(run.now + 2) == [Scan(True)]


def test_adapter_that_goes_and_comes_back_begins_anew() -> None:
    run = started()
    run.connect("a")
    run(Found("b", -50))
    run(Closed(1, "unplugged"))
    assert run(Gone("unplugged")) == []
    assert run.until(run.now + 100) == []
    assert run(Back()) == [Scan(True)]
    assert run.until(run.now + 100) == []


def test_memory_is_bounded_whoever_advertises() -> None:
    # INV-BITCHAT-72
    run = started()
    for number in range(1_000):
        run(Found(f"{number}", -99))
    assert len(run.scanner._addresses) == POLICY.remembered


@pytest.mark.parametrize("seed", range(20))
def test_random_lives_keep_the_bounds(seed: int) -> None:
    rng = Random(seed)
    run = started()
    open_links: dict[int, bool] = {}
    pending, number = "", 0
    for _ in range(400):
        run.now += rng.random() * 3
        said: list[ScanAction]
        match rng.randrange(5):
            case 0 | 1:
                said = run(Found(f"{rng.randrange(30)}", rng.randrange(-100, -40)))
            case 2 if pending:
                number += 1
                if ok := rng.random() < 0.7:
                    open_links[number] = True
                    run(Opened(number, pending, 500, initiated=True))
                address, pending = pending, ""
                said = run(ConnectEnded(address, ok))
            case 3 if open_links:
                link = rng.choice(list(open_links))
                del open_links[link]
                said = run(Closed(link, "lost"))
            case _:
                said = run.scanner.due(run.now)
        for action in said:
            if isinstance(action, Connect):
                assert not pending, f"two attempts at once, seed {seed}"
                assert not run.scanner.scanning
                pending = action.address
        assert sum(open_links.values()) + bool(pending) <= POLICY.links
