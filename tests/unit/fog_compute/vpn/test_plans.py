"""The plan of a pool: whatever happens and whenever, on a clock that only the test moves."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fog_compute.errors import ConfigError
from fog_compute.vpn.circuits import (
    LARGEST,
    CircuitEvent,
    CircuitState,
    CircuitView,
    Cost,
    after,
)
from fog_compute.vpn.plans import (
    Close,
    Drain,
    Open,
    PoolPolicy,
    PoolView,
    Want,
    choose,
    plan,
)

POLICY = PoolPolicy(lifetime_s=90, earliest=0.5, latest=0.8, budget=LARGEST + Cost(1000, 45))
SMALL = Cost(1, 0)


def view(name: str, **changed: object) -> CircuitView:
    fresh = CircuitView(
        name, "s", CircuitState.FRESH, rotate_at=50, expires_at=90, left=POLICY.budget, in_flight=0
    )
    return dataclasses.replace(fresh, **changed)  # type: ignore[arg-type]  # fields by name


class Pool(RuleBasedStateMachine):
    """Sessions come and go, messages begin and end, clients vanish, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.made = 0
        self.wants: dict[str, int] = {}
        self.circuits: dict[str, CircuitView] = {}
        self.born: dict[str, float] = {}
        self.begun: dict[str, list[float]] = {}

    @initialize(seed=st.integers(0, 2**32))
    def seeded(self, seed: int) -> None:
        self.rng = Random(seed)

    def tend(self, session: str = "", cost: Cost = SMALL) -> None:
        wants = tuple(
            Want(name, count, cost if name == session else SMALL)
            for name, count in self.wants.items()
        )
        seen = PoolView(wants, tuple(self.circuits.values()))
        for action in plan(seen, POLICY, self.now, self.rng):
            self.act(action)
        seen = PoolView(
            tuple(Want(*one) for one in self.wants.items()), tuple(self.circuits.values())
        )
        # Done, there is nothing more to do.
        assert plan(seen, POLICY, self.now, self.rng) == ()

    def act(self, action: Open | Drain | Close) -> None:
        match action:
            case Open(session, span):
                self.made += 1
                name = f"c{self.made}"
                assert 45 <= span.rotate_s <= 72
                self.born[name] = self.now
                self.circuits[name] = CircuitView(
                    name,
                    session,
                    CircuitState.FRESH,
                    self.now + span.rotate_s,
                    self.now + span.lifetime_s,
                    span.budget,
                    0,
                )
            case Drain(name):
                self.step(name, CircuitEvent.DRAIN)
            case Close(name):
                assert self.circuits[name].in_flight == 0
                self.step(name, CircuitEvent.CLOSE)
                del self.circuits[name]

    def step(self, name: str, event: CircuitEvent, **changed: object) -> None:
        one = self.circuits[name]
        self.circuits[name] = dataclasses.replace(
            one,
            state=after(one.state, event),
            **changed,  # type: ignore[arg-type]  # fields by name
        )

    @rule(count=st.integers(1, 4))
    def join(self, count: int) -> None:
        self.wants[f"s{len(self.begun)}"] = count
        self.begun[f"s{len(self.begun)}"] = []
        self.tend()

    @precondition(lambda self: self.wants)
    @rule(pick=st.integers(0, 99))
    def end(self, pick: int) -> None:
        del self.wants[sorted(self.wants)[pick % len(self.wants)]]
        self.tend()

    @rule(seconds=st.floats(0, 200))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.wants)
    @rule(
        pick=st.integers(0, 99),
        packets=st.integers(1, LARGEST.packets),
        surbs=st.integers(0, LARGEST.surbs),
    )
    def begin(self, pick: int, packets: int, surbs: int) -> None:
        session = sorted(self.wants)[pick % len(self.wants)]
        cost = Cost(packets, surbs)
        self.tend(session, cost)
        mine = [one for one in self.circuits.values() if one.session == session]
        name = choose(mine, cost, self.now)
        assert name is not None
        one = self.circuits[name]
        assert one.session == session
        assert self.now < self.born[name] + POLICY.lifetime_s
        assert one.left.covers(cost)
        fitting = [
            other.in_flight for other in mine if other.state.usable and other.left.covers(cost)
        ]
        assert one.in_flight == min(fitting)
        self.step(name, CircuitEvent.USE, left=one.left - cost, in_flight=one.in_flight + 1)

    @precondition(lambda self: any(one.in_flight for one in self.circuits.values()))
    @rule(pick=st.integers(0, 99))
    def finish(self, pick: int) -> None:
        busy = sorted(name for name, one in self.circuits.items() if one.in_flight)
        one = self.circuits[busy[pick % len(busy)]]
        self.circuits[one.id] = dataclasses.replace(one, in_flight=one.in_flight - 1)

    @precondition(lambda self: self.circuits)
    @rule(pick=st.integers(0, 99))
    def vanish(self, pick: int) -> None:
        one = self.circuits[sorted(self.circuits)[pick % len(self.circuits)]]
        self.circuits[one.id] = dataclasses.replace(one, gone=True)

    @invariant()
    def no_session_has_more_than_it_wants_but_what_drains(self) -> None:
        usable = [one.session for one in self.circuits.values() if one.state.usable]
        for session in set(usable):
            assert usable.count(session) <= self.wants[session]


TestPool = Pool.TestCase
TestPool.__doc__ = "INV-VPN-02, INV-VPN-03, INV-VPN-04, INV-VPN-05"


@given(circuits=st.integers(1, 5), messages=st.integers(1, 60))
def test_queues_of_a_session_are_within_one_of_each_other(circuits: int, messages: int) -> None:
    """INV-VPN-05"""
    queues = {f"c{i}": 0 for i in range(circuits)}
    for _ in range(messages):
        chosen = choose([view(name, in_flight=n) for name, n in queues.items()], SMALL, 0)
        assert chosen is not None
        queues[chosen] += 1

    assert max(queues.values()) - min(queues.values()) <= 1


def test_circuit_of_a_closed_client_is_replaced_and_its_messages_go_on() -> None:
    """INV-VPN-07"""
    seen = PoolView(
        (Want("s", 2),), (view("a", gone=True, in_flight=3, state=CircuitState.ACTIVE), view("b"))
    )

    actions = plan(seen, POLICY, 1, Random(1))

    assert actions[0] == Drain("a")
    assert [type(action) for action in actions[1:]] == [Open]
    assert choose(seen.circuits, SMALL, 1) == "b"
    assert choose(seen.circuits[:1], SMALL, 1) is None


def test_one_large_message_makes_room_on_one_circuit_only() -> None:
    used = view("a", left=Cost(5, 5)), view("b", left=Cost(4, 5))

    actions = plan(PoolView((Want("s", 2, Cost(6, 0)),), used), POLICY, 1, Random(1))

    assert [type(action) for action in actions] == [Drain, Close, Open]
    assert actions[:2] == (Drain("b"), Close("b"))


def test_message_that_no_circuit_carries_costs_no_circuit() -> None:
    seen = PoolView((Want("s", 1, POLICY.budget + SMALL),), (view("a"),))

    assert plan(seen, POLICY, 1, Random(1)) == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"budget": LARGEST - SMALL},
        {"earliest": 0.0},
        {"earliest": 0.9, "latest": 0.8},
        {"latest": 1.1},
        {"lifetime_s": 0},
    ],
)
def test_policy_that_no_circuit_could_follow_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(POLICY, **bad)  # type: ignore[arg-type]  # fields by name
