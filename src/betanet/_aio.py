"""Between asyncio and the core's own threads.

The core works on threads of its own and puts what it has finished into one bounded queue. It then
wakes the event loop, once however many results wait, and the loop takes them out and settles the
futures. Nothing here holds a lock or polls.
"""

from __future__ import annotations

import asyncio
import atexit
import weakref
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from betanet import _core
from betanet._errors import Closed

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

_BATCH: Final = 256
"""Results that are settled before the event loop gets to do something else."""

_open: Final[weakref.WeakSet[Bridge]] = weakref.WeakSet()


class Bridge:
    """Runs operations of the core for the running event loop and awaits them there."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._waiting: Final[dict[int, asyncio.Future[object]]] = {}
        self._core: Final = _core.Bridge(_Waker(self, self._loop))
        self._closed = False
        _open.add(self)

    async def run(
        self, start: Callable[Concatenate[_core.Bridge, P], int], *args: P.args, **kwargs: P.kwargs
    ) -> object:
        """Start an operation and wait for its result.

        Cancelled, the operation is cancelled too, and a result that it already had is dropped.

        Raises:
            Closed: the bridge is closed, or is closed meanwhile.
        """
        if self._closed:
            raise Closed("this client is closed")
        number = start(self._core, *args, **kwargs)
        future = self._waiting[number] = self._loop.create_future()
        try:
            return await future
        except asyncio.CancelledError:
            if number in self._waiting:
                # Its completion is still to come and finds the future cancelled.
                self._core.cancel(number)
            raise

    async def close(self) -> None:
        """Cancel what runs and join the threads; safe to call again.

        Cancelled, it goes on closing in the background.
        """
        self._closed = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Closed("this client was closed"))
        self._waiting.clear()
        await asyncio.shield(asyncio.to_thread(self._core.close))
        _open.discard(self)

    def close_now(self) -> None:
        """Join the threads without an event loop, at the end of the process."""
        self._closed = True
        self._core.close()

    def drain(self) -> None:
        """Settle what the core has finished; called by the event loop."""
        if self._closed:
            return
        finished = self._core.take(_BATCH)
        for number, value, error in finished:
            future = self._waiting.pop(number)
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)
        if len(finished) == _BATCH:
            self._loop.call_soon(self.drain)


class _Waker:
    """What the core calls from its own thread; keeps no bridge alive."""

    __slots__ = ("_bridge", "_loop")

    def __init__(self, bridge: Bridge, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bridge = weakref.ref(bridge)

    def __call__(self) -> None:
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        bridge = self._bridge()
        if bridge is not None:
            bridge.drain()


@atexit.register
def _close_all() -> None:
    for bridge in list(_open):
        bridge.close_now()
