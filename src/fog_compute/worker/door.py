"""The door of a channel: in come requests of members of the worker's groups, and nobody else's."""

from __future__ import annotations

from typing import Final

from fog_compute.clock import Clock
from fog_compute.tasks.groups import NotAMember
from fog_compute.tasks.keyring import Keys
from fog_compute.vpn.channel import MessageChannel, Received
from fog_compute.worker.threads import beside

__all__ = ["Door"]

ADDRESSES_REMEMBERED: Final = 8
ANSWERS: Final = 32  # strangers who are told at once why they are refused
ANSWERS_PER_S: Final = 2.0


class Door:
    """Looks at what came over one channel before anything of it is read.

    Attributes:
        turned_away: requests that no group vouches for.
    """

    __slots__ = (
        "_addresses",
        "_answers",
        "_channel",
        "_clock",
        "_counted_at",
        "_keys",
        "turned_away",
    )

    def __init__(self, channel: MessageChannel, keys: Keys, clock: Clock) -> None:
        """Take the worker's groups from ``keys``, each time anew."""
        self._channel: Final = channel
        self._keys: Final = keys
        self._clock: Final = clock
        self._addresses: Final[dict[str, None]] = {}
        self._answers = float(ANSWERS)
        self._counted_at = clock.monotonic()
        self.turned_away = 0

    async def open(self, incoming: Received) -> tuple[str, bytes]:
        """The group that vouches for a message, and the request in it.

        Raises:
            NotAMember: none does.
        """
        try:
            return await beside(
                len(incoming.body), self._keys().open, incoming.body, self._known_addresses()
            )
        except NotAMember:
            self.turned_away += 1
            raise

    def may_answer(self) -> bool:
        """Whether one more stranger is told why he is refused: an answer costs more than a look."""
        now = self._clock.monotonic()
        self._answers = min(ANSWERS, self._answers + ANSWERS_PER_S * (now - self._counted_at))
        self._counted_at = now
        if self._answers < 1:
            return False
        self._answers -= 1
        return True

    def _known_addresses(self) -> tuple[str, ...]:
        """Where this channel is reached, and was: who asks may have an earlier list."""
        self._addresses.pop(self._channel.address, None)
        self._addresses[self._channel.address] = None
        if len(self._addresses) > ADDRESSES_REMEMBERED:
            del self._addresses[next(iter(self._addresses))]
        return tuple(self._addresses)
