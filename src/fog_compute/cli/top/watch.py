"""Looking at a fog again and again, beside the screen: it may be away, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from fog_compute.cli.top.snapshot import Snapshot, take
from fog_compute.client.backend import Backend
from fog_compute.client.places import Place
from fog_compute.errors import FogError

__all__ = ["Away", "Seen", "Watch"]


@dataclass(frozen=True, slots=True)
class Away:
    """There is nothing to see at the moment.

    Attributes:
        why: one line.
    """

    why: str


Seen: TypeAlias = Snapshot | Away


class Watch:
    """Takes snapshots, and hands each on; where none can be had, it says why and goes on."""

    def __init__(self, place: Place, hand_on: Callable[[Seen], None], pause_s: float) -> None:
        """Nothing is asked yet; ``hand_on`` is called in the thread that runs the watch."""
        self._place: Final = place
        self._hand_on: Final = hand_on
        self._pause_s: Final = pause_s
        self._stop: Final = threading.Event()
        self._awake: Final = threading.Event()
        self._awake.set()
        self._backend: Backend | None = None

    def start(self) -> None:
        """Watch in a thread that ends with the process, whatever it waits for."""
        threading.Thread(target=self.run, name="watch", daemon=True).start()

    def run(self) -> None:
        """Watch until it is stopped."""
        while not self._stop.is_set():
            self._awake.wait()
            if self._stop.is_set():
                break
            self.look()
            self._stop.wait(self._pause_s)
        self._close()

    def look(self) -> None:
        """Take one snapshot and hand it on."""
        seen: Seen
        try:
            if self._backend is None:
                self._backend = Backend(self._place)
                self._backend.on_lost = self._lost
            seen = take(self._backend)
        except FogError as error:
            self._close()
            seen = Away(str(error))
        if not self._stop.is_set():
            self._hand_on(seen)

    def pause(self, *, on: bool) -> None:
        """Ask nothing for a while, or go on."""
        if on:
            self._awake.clear()
        else:
            self._awake.set()

    def stop(self) -> None:
        """Hand nothing on any more."""
        self._stop.set()
        self._awake.set()

    def _lost(self, what: str) -> None:
        self._hand_on(Away(what))

    def _close(self) -> None:
        if self._backend is not None:
            self._backend.__exit__()
            self._backend = None
