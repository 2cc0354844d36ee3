"""Sends what comes to logs, in their order, each line until it was taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from fog_compute.backoff import Backoff
from fog_compute.cli.log_export.records import Send, Sent
from fog_compute.cli.log_lines import Follower, Line, Place
from fog_compute.clock import Clock
from fog_compute.observability import get_logger
from fog_compute.reading import read_state
from fog_compute.threads import in_thread
from fog_compute.writing import write_private

__all__ = ["LOOK_S", "keep_sending", "read_places", "write_places"]

LOOK_S: Final = 1.0
AT_ONCE: Final = 512
"""Lines in one request."""

AGAIN: Final = Backoff(1, 60)

_log = get_logger("fog_compute.log_export")

_Kept = tuple[Annotated[int, msgspec.Meta(ge=0, le=2**62)], int]


async def keep_sending(
    follower: Follower, send: Send, file: Path, clock: Clock, stop: asyncio.Event
) -> None:
    """Send until ``stop``: at its end once what is there then, if the collector takes it.

    Where it stood is kept in ``file`` after each line was taken, so that the next one goes on
    there; a line may be sent twice, if this process ends in between. One that the collector refuses
    for good is left out, or nothing after it would ever be sent.
    """
    away = refused = False
    while True:
        last = stop.is_set()
        lines = await in_thread(follower.new)
        came = bool(lines)
        failures = 0
        refusals: list[Line] = []
        while not await _taken(send, lines, refusals):
            if not away:
                _log.warning("collector.away")
                away = True
            if last or stop.is_set():
                return
            await _pause(AGAIN.after(failures), clock, stop)
            failures += 1
        if came:
            # Of the line that tells of it, too, it need not be told.
            if refusals and not refused:
                _log.warning("lines.refused", count=len(refusals))
            refused = bool(refusals)
            if away:
                _log.info("collector.back")
                away = False
            with contextlib.suppress(OSError):  # they are sent twice then
                await in_thread(write_places, file, follower.places)
        elif last:
            return
        else:
            await _pause(LOOK_S, clock, stop)


async def _taken(send: Send, lines: list[Line], refusals: list[Line]) -> bool:
    """Send lines, taking away those that were taken, or refused even alone."""
    at_once = AT_ONCE
    while lines:
        piece = lines[:at_once]
        sent = await in_thread(send, piece)
        if sent is Sent.AWAY:
            return False
        if sent is Sent.REFUSED and len(piece) > 1:
            at_once = len(piece) // 2
            continue
        if sent is Sent.REFUSED:
            refusals += piece
        del lines[:at_once]
        at_once = min(2 * at_once, AT_ONCE)
    return True


async def _pause(seconds: float, clock: Clock, stop: asyncio.Event) -> None:
    waiting = {asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(stop.wait())}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()


def read_places(file: Path) -> Mapping[str, Place]:
    """How far each log was sent; nothing where that is not known, so that all are sent."""
    try:
        places = msgspec.json.decode(read_state(file), type=dict[str, _Kept])
    except (OSError, msgspec.MsgspecError):
        return {}
    return {part: Place(*place) for part, place in places.items()}


def write_places(file: Path, places: Mapping[str, Place]) -> None:
    """Keep how far each log was sent; raises `OSError`."""
    write_private(file, msgspec.json.encode(places), lasting=False)
