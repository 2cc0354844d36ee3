"""Says in the list of workers what this one lends, at each level that it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.errors import FogError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.tasks.groups import Keyring
from fog_compute.tasks.keyring import Keys
from fog_compute.text import one_line
from fog_compute.vpn.channel import MessageChannel
from fog_compute.vpn.directory import TaskLimits, WorkerOffer, WorkerPublisher
from fog_compute.worker.report import Listing
from fog_compute.worker.slots import Slots

__all__ = ["Served", "publish"]

RETRY: Final = Backoff(1, 15, jitter=0.5)
"""Chance in it: the workers of a network that lost its authority would all come back at once."""

LOOK_S: Final = 2.0
"""Between two looks whether a slot can be used again."""

_RANDOM: Final = SystemRandom()
_log = get_logger("fog_compute.worker")


@dataclass(frozen=True, slots=True)
class Served:
    """A level that a worker serves, with a channel and a name of its own.

    Attributes:
        name: the worker's name in the list, at this level.
        channel: where its requests come from.
        level: the level of all of them; None where the channel takes any.
        publisher: puts the offer into the list, if given.
    """

    name: str
    channel: MessageChannel
    level: PrivacyLevel | None = None
    publisher: WorkerPublisher | None = None


async def publish(
    served: Served,
    publisher: WorkerPublisher,
    slots: Slots,
    keys: Keys,
    listing: Listing,
    clock: Clock,
    random: Callable[[], float] = _RANDOM.random,
) -> None:
    """Publish what is lent again and again, as long as any slot can be used.

    How that went stands in ``listing``; an offer that is not repeated leaves the list.
    """
    await slots.tried()
    failures = 0
    while True:
        pause, changed = slots.settings.publish_s, slots.changed
        if slots.able:
            try:
                await publisher.publish(_offer(served, slots, keys()))
                listing.listed, listing.reason = True, ""
                failures = 0
            except FogError as err:
                if listing.listed or listing.reason != one_line(err.message):
                    _log.warning("offer.not_published", reason=err.message)
                listing.listed, listing.reason = False, one_line(err.message)
                pause = min(pause, RETRY.after(failures, random))
                failures += 1
        else:
            listing.listed, listing.reason = False, "no slot can run tasks"
            pause = min(pause, LOOK_S)
        await _sleep_unless(changed, pause, clock)


async def _sleep_unless(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Sleep until an event at most."""
    waiting = {asyncio.ensure_future(one) for one in (event.wait(), clock.sleep(seconds))}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _offer(served: Served, slots: Slots, groups: Keyring) -> WorkerOffer:
    settings = slots.settings
    return WorkerOffer(
        name=served.name,
        address=served.channel.address,
        kinds=settings.kinds,
        slots=slots.able,
        memory_bytes=settings.memory_bytes,
        groups=groups.tags(served.channel.address),
        level=served.level,
        limits=TaskLimits(settings.wall_s, settings.scratch_bytes, settings.output_bytes),
    )
