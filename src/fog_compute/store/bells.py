"""How other processes are told that there are new events: that there are, and nothing else.

A bell may ring twice or, once in a while, not at all: whoever hears it looks, and everybody looks
from time to time without one. So what carries it may be away, and loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.errors import is_exhaustion
from fog_compute.observability import get_logger
from fog_compute.store.dialects import Listening, words
from fog_compute.threads import in_thread

__all__ = ["CHANNEL", "Bell", "PostgresBell"]

_log = get_logger("fog_compute.store")

CHANNEL: Final = "fog_events"
AGAIN: Final = Backoff(0.25, 15)


class Bell(Protocol):
    """Something that rings in every process when one has written events."""

    @property
    def trouble(self) -> str:
        """Why it is not heard now; empty if it is."""
        ...

    async def run(self, rung: Callable[[], None]) -> None:
        """Call ``rung`` whenever it rings, and when it was away; until cancelled."""
        ...

    def ring(self) -> None:
        """Have it ring, after a commit; in vain if it is away."""
        ...


class PostgresBell:
    """A notification of Postgres; each commit with events brings its own."""

    __slots__ = ("_clock", "_listen", "_me", "trouble")

    def __init__(
        self, listen: Callable[[str], Listening], me: Callable[[], str], clock: Clock
    ) -> None:
        """Listen on connections that ``listen`` makes; what ``me`` says sent it is passed over."""
        self._listen: Final = listen
        self._me: Final = me
        self._clock: Final = clock
        self.trouble = ""

    def ring(self) -> None:
        """Nothing: the commit did it."""

    async def run(self, rung: Callable[[], None]) -> None:
        """Listen on a connection of its own, and on another when that is lost."""
        failures = 0
        while True:
            try:
                listening = await in_thread(self._listen, CHANNEL)
                try:
                    self.trouble, failures = "", 0
                    rung()  # for all that happened while nobody listened
                    while True:
                        await _readable(listening.fileno())
                        heard = await in_thread(listening.heard)
                        if any(sender != self._me() for sender in heard):
                            rung()
                finally:
                    await asyncio.shield(in_thread(listening.close))
            except Exception as error:  # noqa: BLE001  # of a driver, in whatever form
                if not self.trouble:
                    _log.info("bell.lost", reason=words(error), exhausted=is_exhaustion(error))
                self.trouble = f"notifications of the database cannot be heard: {words(error)}"
            await self._clock.sleep(AGAIN.after(failures))
            failures += 1


async def _readable(descriptor: int) -> None:
    """Wait until something can be read from a socket."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
