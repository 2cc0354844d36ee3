"""How a worker comes into the list, and what it says where it does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
import structlog

from fog_compute.errors import FogError
from fog_compute.testing import ManualClock, MemoryNetwork
from fog_compute.vpn.directory import WorkerOffer
from fog_compute.worker.publishing import Served, publish
from fog_compute.worker.report import Listing
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.slots import Slots
from tests.members import MEMBERS

AWAY, FULL = "the directory is away", "the list is full"


class Impatient(ManualClock):
    """Every pause is over at once."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Directory:
    """Answers as it was told, then ends the worker."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def publish(self, offer: WorkerOffer) -> None:
        if not self.answers:
            raise asyncio.CancelledError
        if answer := self.answers.pop(0):
            raise FogError(answer)


@pytest.mark.asyncio
async def test_why_a_worker_is_not_listed_is_logged_once_and_not_at_each_try() -> None:
    async def tried() -> None:
        """Say that a slot is there."""

    slots = SimpleNamespace(tried=tried, able=1, settings=WorkerSettings(), changed=asyncio.Event())
    served = Served("worker-1", MemoryNetwork().channel("worker"))
    listing = Listing("worker-1")
    directory = Directory(AWAY, AWAY, AWAY, FULL, FULL, "", AWAY, AWAY)

    with structlog.testing.capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await publish(
            served, directory, cast("Slots", slots), lambda: MEMBERS, listing, Impatient()
        )

    assert [line["reason"] for line in lines] == [AWAY, FULL, AWAY]
    assert (listing.listed, listing.reason) == (False, AWAY)
