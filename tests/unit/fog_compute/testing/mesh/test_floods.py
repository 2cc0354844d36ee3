"""The flood alone, on small meshes: whom it reaches, beside what BitChat's own policies reach."""

from __future__ import annotations

import pytest

from fog_compute.testing.mesh.air import AirModel
from fog_compute.testing.mesh.policies import POLICIES
from fog_compute.testing.mesh.runs import flood
from fog_compute.testing.mesh.topologies import LINE_500_M, Topology, grid, scattered

MESHES = [LINE_500_M, grid(6), scattered(40, 5.0, seed=2)]


@pytest.mark.parametrize("topology", MESHES, ids=lambda one: one.name)
def test_flood_reaches_everybody_within_seven_hops_once(topology: Topology) -> None:
    for model in (AirModel(), AirModel(loss=0.05)):
        run = flood(topology, POLICIES["ours"], 3, messages=8, model=model)
        assert run.expected > 0
        assert run.share == 1.0
        assert run.shown_twice == 0
        assert run.quantile(0.99) < 3.0


def test_cancelling_at_a_duplicate_loses_nodes_that_this_policy_reaches() -> None:
    """Why this package does not do as the app does (docs/spec/bitchat.md)."""
    mesh = grid(6)
    shares = {name: flood(mesh, POLICIES[name], 5, messages=8).share for name in POLICIES}
    assert shares["ours"] == 1.0
    assert shares["iOS"] < 0.95
    assert shares["Android"] < 1.0


def test_half_of_the_gain_under_loss_is_sending_again() -> None:
    model = AirModel(loss=0.1)
    again = flood(LINE_500_M, POLICIES["ours"], 9, messages=30, model=model)
    once = flood(LINE_500_M, POLICIES["ours, nothing sent twice"], 9, messages=30, model=model)
    assert again.share == 1.0
    assert once.share < 0.95
    silent = flood(LINE_500_M, POLICIES["ours"], 9, messages=30, model=AirModel(loss=0.1, told=0.0))
    assert silent.share < 0.95


def test_nodes_that_walk_are_reached_by_those_who_are_near_when_it_is_said() -> None:
    mesh = scattered(20, 5.0, seed=2)
    standing, walking = (
        flood(mesh, POLICIES["ours"], 3, messages=12, every_s=5.0, walking=one)
        for one in (False, True)
    )
    assert walking.frames != standing.frames
    assert walking.share > 0.98
