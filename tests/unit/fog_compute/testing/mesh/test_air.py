"""The air of the simulation: what it carries arrives in order, and the same with each seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest

from fog_compute.p2p.bitchat.events import (
    Disconnect,
    FrameReceived,
    FrameSent,
    LinkDown,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.testing.mesh.air import Air, AirModel
from fog_compute.testing.mesh.topologies import (
    LINE_500_M,
    RangeModel,
    chain,
    grid,
    hops_from,
    scattered,
)


class Recorder:
    """Does what it is told, and keeps what happens."""

    def __init__(self) -> None:
        self.happened: list[tuple[float, object]] = []
        self.todo: list[object] = []

    def handle(self, event: object, now: float) -> Sequence[object]:
        self.happened.append((now, event))
        todo, self.todo = self.todo, []
        return todo

    def of(self, kind: type) -> list[object]:
        return [event for _, event in self.happened if isinstance(event, kind)]


def pair(model: AirModel, seed: int = 1) -> tuple[Air, Recorder, Recorder]:
    air = Air(model, Random(seed))
    one, other = Recorder(), Recorder()
    air.add(one)
    air.add(other)
    air.connect(0, 1)
    return air, one, other


def burst(air: Air, one: Recorder, count: int) -> None:
    link = air.link(0, 1)
    one.todo = [SendFrame(link, b"%d" % number, number) for number in range(count)]
    air.give(0, Wake())


def test_frames_arrive_in_their_order_after_a_connection_event() -> None:
    air, one, other = pair(AirModel())
    burst(air, one, 30)
    air.run(1.0)
    got = other.of(FrameReceived)
    assert got == [FrameReceived(air.link(1, 0), b"%d" % number) for number in range(30)]
    times = [at for at, event in other.happened if isinstance(event, FrameReceived)]
    assert all(0.015 <= at <= 0.035 for at in times)
    assert [one for one in one.of(FrameSent) if isinstance(one, FrameSent) and not one.ok] == []


@pytest.mark.parametrize("told", [1.0, 0.0])
def test_sender_hears_of_a_loss_or_does_not(told: float) -> None:
    air, one, other = pair(AirModel(loss=0.3, told=told), seed=4)
    burst(air, one, 12)
    air.run(1.0)
    answers = [event for event in one.of(FrameSent) if isinstance(event, FrameSent)]
    assert len(answers) == 12
    assert len(other.of(FrameReceived)) == 12 - air.lost
    assert sum(not event.ok for event in answers) == (air.lost if told else 0)
    assert air.lost > 0


def test_end_of_a_link_is_told_to_both_and_loses_what_is_under_way() -> None:
    air, one, other = pair(AirModel())
    link = air.link(0, 1)
    burst(air, one, 2)
    one.todo = [Disconnect(link, "enough")]
    air.give(0, Wake())
    air.run(1.0)
    assert one.of(LinkDown) == [LinkDown(link)]
    assert len(other.of(LinkDown)) == 1
    assert other.of(FrameReceived) == []
    one.todo = [SendFrame(link, b"late", 1)]
    air.give(0, Wake())
    air.run(2.0)
    assert other.of(FrameReceived) == []


def test_last_wish_to_be_woken_counts() -> None:
    air, one, _ = pair(AirModel())
    one.todo = [WakeAt(5.0), WakeAt(2.0)]
    air.give(0, Wake())
    air.run(9.0)
    assert [at for at, event in one.happened if isinstance(event, Wake)] == [0.0, 2.0]


def test_same_seed_brings_the_same_again() -> None:
    histories = []
    for _ in range(2):
        air, one, other = pair(AirModel(loss=0.2), seed=11)
        burst(air, one, 20)
        air.run(1.0)
        histories.append((one.happened, other.happened))
    assert histories[0] == histories[1]


def test_line_of_500_m_is_seven_hops() -> None:
    assert LINE_500_M.links == chain(8).links
    assert hops_from(LINE_500_M.neighbours(), 0)[-1] == 7
    assert LINE_500_M.places[-1] == (500.0, 0.0)


def test_scattered_nodes_hear_about_as_many_as_was_asked_for() -> None:
    for degree in (4.0, 6.0):
        found = scattered(150, degree, seed=3)
        assert degree - 1 < found.degree < degree + 1
        assert max(len(one) for one in found.neighbours()) <= RangeModel().links
    assert grid(5).degree == pytest.approx(2 * 40 / 25)


def test_margin_is_zero_at_the_range_and_luck_belongs_to_a_pair() -> None:
    model = RangeModel(range_m=50.0)
    assert model.margin(50.0, 0.0) == 0
    assert model.margin(100.0, 0.0) == pytest.approx(-27 * math.log10(2))
    assert model.luck((1, 2), 7) == model.luck((1, 2), 7) != model.luck((1, 3), 7)


def test_links_that_can_stay_do() -> None:
    places = [(0.0, 0.0), (10.0, 0.0), (20.0, 0.0), (30.0, 0.0)]
    model = RangeModel(links=1, sigma_db=0.0)
    kept = frozenset({(1, 2)})
    assert (1, 2) in model.links_among(places, 1, kept)
    moved = [*places[:2], (500.0, 0.0), places[3]]
    assert (1, 2) not in model.links_among(moved, 1, kept)


def test_laying_another_topology_keeps_what_both_have() -> None:
    air = Air(AirModel(), Random(2))
    nodes = [Recorder() for _ in range(4)]
    for node in nodes:
        air.add(node)
    air.lay(chain(4).links)
    before = air.link(0, 1)
    air.lay(chain(3).links)
    assert air.links == {(0, 1), (1, 2)}
    assert air.link(0, 1) == before
    assert len(nodes[3].of(LinkDown)) == 1
    assert len(nodes[0].of(LinkUp)) == 1
