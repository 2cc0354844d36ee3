"""Several backends on one database: whatever is late, frozen or dead, one acts on an attempt."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.store.changes import Fenced
from fog_compute.store.ownership import (
    STANDINGS,
    Sign,
    Standing,
    Tenure,
    TenureDeed,
    TenureEvent,
    UnexpectedTenure,
    Watch,
    look,
)

LEASE_S: Final = 7.0


def test_each_line_of_the_table_is_one_that_can_happen() -> None:
    """INV-STORE-20."""
    lines = {(s, e) for s, events in STANDINGS.items() for e in events}
    never = {
        (Standing.APART, TenureEvent.BEAT),  # it has no row to count in
        (Standing.APART, TenureEvent.LATE),
        (Standing.APART, TenureEvent.FENCED),
        (Standing.ACTING, TenureEvent.JOINED),
        (Standing.LAPSED, TenureEvent.JOINED),
    }
    assert lines | never == set(itertools.product(Standing, TenureEvent))
    for standing, event in never:
        with pytest.raises(UnexpectedTenure, match=f"{standing} does not allow {event}"):
            Tenure(standing).after(event)


def test_a_backend_acts_for_a_lease_after_the_beginning_of_its_last_beat() -> None:
    """INV-STORE-20."""
    tenure, deeds = Tenure().after(TenureEvent.JOINED, until=3 + LEASE_S)
    assert deeds == (TenureDeed.TAKE,)
    assert tenure.acts(2.9 + LEASE_S)
    assert not tenure.acts(3 + LEASE_S)
    late, _ = tenure.after(TenureEvent.LATE)
    assert not late.acts(3)
    again, _ = late.after(TenureEvent.BEAT, until=20)
    assert again.acts(19)
    apart, deeds = again.after(TenureEvent.FENCED)
    assert deeds == (TenureDeed.LET_GO,)
    assert not apart.acts(1)


def test_who_counts_on_lives_and_who_does_not_is_dead_after_a_lease() -> None:
    """INV-STORE-21."""
    watch, dead = look(Watch(), [Sign("a", 1), Sign("b", 1)], 100, LEASE_S)
    times = [100 + LEASE_S * part for part in (0.4, 0.8, 1.0)]
    for beat, at in enumerate(times, 2):
        assert dead == ()
        watch, dead = look(watch, [Sign("a", beat), Sign("b", 1)], at, LEASE_S)
    assert dead == (Sign("b", 1),)


def test_nobody_is_taken_for_dead_by_who_did_not_look_himself() -> None:
    """INV-STORE-21: a database that was away, or a process that stood still, kills nobody."""
    watch, _ = look(Watch(), [Sign("a", 1)], 100, LEASE_S)
    watch, dead = look(watch, [Sign("a", 1)], 100 + 5 * LEASE_S, LEASE_S)
    assert dead == ()
    watch, dead = look(watch, [Sign("a", 1)], 100 + 5.4 * LEASE_S, LEASE_S)
    assert dead == ()


@dataclass
class Backend:
    """One backend's part of the rule, as a process has it."""

    name: str
    id: str = ""
    tenure: Tenure = field(default_factory=Tenure)
    watch: Watch = field(default_factory=Watch)
    believes: set[str] = field(default_factory=set)
    beating: float | None = None  # since when a beat is on its way
    answer: tuple[Sign, ...] | Fenced | None = None  # to a beat, not heard yet
    dead: tuple[Sign, ...] = ()


class Database:
    """What `fog_compute.store.backends` does to the rows, each call a transaction."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}  # home and beat, by id
        self.owners: dict[str, str] = {}  # by attempt

    def join(self, me: str, home: str) -> set[str]:
        self.rows = {one: row for one, row in self.rows.items() if row[0] != home}
        self.rows[me] = [home, 0]
        return self._adopt(me)

    def beat(self, me: str) -> tuple[Sign, ...]:
        if me not in self.rows:
            raise Fenced
        self.rows[me][1] += 1
        return tuple(Sign(one, row[1]) for one, row in self.rows.items() if one != me)

    def take_over(self, me: str, dead: tuple[Sign, ...]) -> set[str]:
        if me not in self.rows:
            raise Fenced
        for sign in dead:
            if self.rows.get(sign.backend, ["", None])[1] == sign.beat:
                del self.rows[sign.backend]
        return self._adopt(me)

    def may_change(self, me: str, handle: str) -> bool:
        return me in self.rows and self.owners[handle] == me

    def _adopt(self, me: str) -> set[str]:
        for handle, owner in self.owners.items():
            if owner not in self.rows:
                self.owners[handle] = me
        return {handle for handle, owner in self.owners.items() if owner == me}


class World:
    """Backends and their database; a transaction is one step, all else is between steps."""

    def __init__(self, count: int) -> None:
        self.database = Database()
        self.now = 1000.0
        self.ids = (f"id{number}" for number in itertools.count())
        self.handles = (f"h{number}" for number in itertools.count())
        self.backends = [Backend(f"home{number}") for number in range(count)]
        self.written: list[tuple[str, str]] = []

    # What one backend does.

    def join(self, one: Backend) -> None:
        if one.tenure.standing is not Standing.APART:
            return
        one.id, begun = next(self.ids), self.now
        one.believes = self.database.join(one.id, one.name)
        one.watch, one.dead, one.beating, one.answer = Watch(), (), None, None
        one.tenure, _ = one.tenure.after(TenureEvent.JOINED, until=begun + LEASE_S)

    def begin_beat(self, one: Backend) -> None:
        if one.tenure.standing is not Standing.APART and one.beating is None:
            one.beating = self.now

    def write_beat(self, one: Backend) -> None:
        if one.beating is None or one.answer is not None:
            return
        try:
            one.answer = self.database.beat(one.id)
        except Fenced as fenced:
            one.answer = fenced

    def hear_beat(self, one: Backend) -> None:
        if one.beating is None or one.answer is None:
            return
        begun, one.beating = one.beating, None
        answer, one.answer = one.answer, None
        if isinstance(answer, Fenced):
            self.fenced(one)
            return
        one.tenure, _ = one.tenure.after(TenureEvent.BEAT, until=begun + LEASE_S)
        one.watch, one.dead = look(one.watch, answer, self.now, LEASE_S)

    def turn(self, one: Backend) -> None:
        """All that a process does when it may; what was begun before it stood still goes first."""
        self.late(one)
        for deed in (self.write_beat, self.hear_beat, self.join, self.take_over, self.lease):
            deed(one)
        for deed in (self.begin_beat, self.write_beat, self.hear_beat, self.change):
            deed(one)

    def take_over(self, one: Backend) -> None:
        if one.tenure.standing is Standing.APART or not one.dead:
            return
        try:
            one.believes = self.database.take_over(one.id, one.dead)
        except Fenced:
            self.fenced(one)
        one.dead = ()

    def lease(self, one: Backend) -> None:
        """Take a task that waits, whether or not its own lease is over: it may be slow."""
        if one.id in self.database.rows:
            handle = next(self.handles)
            self.database.owners[handle] = one.id
            one.believes.add(handle)

    def change(self, one: Backend) -> None:
        """Change what it believes to own, as slow as it may be."""
        for handle in sorted(one.believes):
            if self.database.may_change(one.id, handle):
                self.written.append((one.id, handle))

    def late(self, one: Backend) -> None:
        if one.tenure.standing is not Standing.APART and self.now >= one.tenure.until:
            one.tenure, _ = one.tenure.after(TenureEvent.LATE)

    def die(self, one: Backend) -> None:
        self.backends[self.backends.index(one)] = Backend(one.name)

    def fenced(self, one: Backend) -> None:
        one.tenure, deeds = one.tenure.after(TenureEvent.FENCED)
        assert deeds == (TenureDeed.LET_GO,)
        one.believes.clear()

    def live(self, names: str, turns: int) -> None:
        """Let some backends do all that they do, again and again."""
        for _ in range(turns):
            self.now += 0.4 * LEASE_S
            for name in names:
                self.turn(self.backends["abc".index(name) % len(self.backends)])
                self.check()

    def check(self) -> None:
        acting = [
            handle for one in self.backends if one.tenure.acts(self.now) for handle in one.believes
        ]
        assert len(acting) == len(set(acting)), "two backends act on one attempt"
        for backend, handle in self.written:
            others = [
                one.id
                for one in self.backends
                if one.id != backend and handle in one.believes and one.tenure.acts(self.now)
            ]
            assert not others, f"{backend} changed {handle}, which {others} act on"
        self.written.clear()


TURNS: Final = ("a", "ab", "b", "c", "ac", "bc", "abc")
"""Who goes on while the others stand still."""

step = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from([0.1, 1.6, 8.0, 40.0])),
    st.tuples(st.sampled_from(TURNS), st.integers(1, 4)),
    st.tuples(
        st.sampled_from(
            ["begin_beat", "write_beat", "hear_beat", "take_over", "lease", "change", "die"]
        ),
        st.integers(0, 2),
    ),
)


@given(count=st.integers(2, 3), steps=st.lists(step, min_size=20, max_size=80))
def test_one_backend_at_most_acts_on_an_attempt_in_whatever_order_things_happen(
    count: int, steps: list[tuple[str, float]]
) -> None:
    """INV-STORE-20, INV-STORE-21, INV-STORE-22: pauses of several leases are among the steps."""
    world = World(count)
    for one in world.backends:
        world.join(one)
        world.lease(one)
    for what, value in steps:
        if what == "advance":
            world.now += value
        elif what in TURNS:
            world.live(what, int(value))
        else:
            getattr(world, what)(world.backends[int(value) % count])
        world.check()
    # What is owned by nobody who lives, somebody takes in the end.
    world.live("a", 12)
    assert set(world.database.owners.values()) == {world.backends[0].id}
