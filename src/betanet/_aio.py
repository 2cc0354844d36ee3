"""Between asyncio and the core's own threads.

The core works on threads of its own and puts what it has finished into one bounded queue. It then
wakes the event loop, once however many results wait, and the loop takes them out and settles the
futures. Nothing here holds a lock or polls.
"""

from __future__ import annotations

import asyncio
import atexit
import weakref
from typing import TYPE_CHECKING, Final

from betanet import _core
from betanet._errors import Closed

if TYPE_CHECKING:
    from collections.abc import Callable

_BATCH: Final = 256
"""Results that are settled before the event loop gets to do something else."""

_open: Final[weakref.WeakSet[Bridge]] = weakref.WeakSet()


class Bridge:
    """Runs operations of the core for the running event loop and awaits them there."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._futures: Final[dict[int, asyncio.Future[object]]] = {}
        self._rescues: Final[dict[int, Callable[[object], None]]] = {}
        self._core: Final = _core.Bridge(_Waker(self, self._loop))
        self._closed = False
        _open.add(self)

    @property
    def core(self) -> _core.Bridge:
        """What the core's objects are opened on."""
        return self._core

    async def run(
        self, start: Callable[[], int], *, rescue: Callable[[object], None] | None = None
    ) -> object:
        """Start an operation and wait for its result.

        Cancelled, the operation is cancelled too. If it had already finished, its result goes to
        ``rescue``, or is dropped without one.

        Raises:
            Closed: the bridge is closed, or is closed meanwhile.
        """
        if self._closed:
            raise Closed("this client is closed")
        number = start()
        future: asyncio.Future[object] = self._loop.create_future()
        self._futures[number] = future
        try:
            return await future
        except asyncio.CancelledError:
            if self._futures.pop(number, None) is None:
                # Settled in the same turn of the loop in which the caller was cancelled.
                if rescue and future.done() and not future.cancelled() and not future.exception():
                    rescue(future.result())
            else:
                if rescue:
                    self._rescues[number] = rescue
                self._core.cancel(number)
            raise

    async def close(self) -> None:
        """Cancel what runs and join the threads; safe to call again.

        Cancelled, it goes on closing in the background.
        """
        self._closed = True
        for number, future in self._futures.items():
            if not future.done():
                future.set_exception(Closed("this client was closed"))
                self._core.cancel(number)
        self._futures.clear()
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
            future = self._futures.pop(number, None)
            rescue = self._rescues.pop(number, None)
            if future is None:
                if rescue and error is None:
                    rescue(value)
            elif future.done():
                continue
            elif error is not None:
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
