"""What the coordinator learns about workers."""

from __future__ import annotations

import pytest

from fog_compute.coordinator.fog import FogCoordinator
from fog_compute.tasks import AttemptState
from fog_compute.testing import ManualClock
from fog_compute.vpn.directory import WorkerOffer
from tests.unit.fog_compute.coordinator.scripted import Directory

pytestmark = pytest.mark.asyncio


async def test_only_a_settled_attempt_makes_up_for_lost_ones() -> None:
    directory = Directory([WorkerOffer("a", "fog1a", ("wasm",), 1, 2**30)])
    fog = FogCoordinator(directory, clock=ManualClock())
    await fog.refresh()

    def after(how: AttemptState) -> int:
        fog.note_leased("a")
        fog.note_ended("a", how)
        return fog.worker("a").failures

    assert after(AttemptState.LOST) == 1
    assert after(AttemptState.EXPIRED) == 2
    assert after(AttemptState.DECLINED) == 2
    assert after(AttemptState.CANCELLED) == 2
    assert after(AttemptState.FAILED) == 2
    assert after(AttemptState.SETTLED) == 0
