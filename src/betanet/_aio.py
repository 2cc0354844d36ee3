"""Between asyncio and the core's own threads.

The core works on threads of its own and puts what it has finished into one bounded queue. It then
wakes the event loop, once however many results wait, and the loop takes them out and settles the
futures. Nothing here holds a lock or polls.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
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
    """Runs operations of the core for the event loop in which it was made."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._process: Final = os.getpid()
        self._waiting: Final[dict[int, asyncio.Future[object]]] = {}
        self._core: Final = _core.Bridge(_Waker(self, self._loop))
        self._closed = False
        self._closing: _Closing | None = None
        _open.add(self)

    def check_open(self) -> None:
        """Raise :class:`betanet.Closed` if it is closed, or another process made it."""
        if self._closed or self._process != os.getpid():
            raise Closed("this client is closed")

    def check(self) -> None:
        """Raise unless operations can be started here.

        Raises:
            Closed: the bridge is closed, or another process made it.
            RuntimeError: it belongs to another event loop.
        """
        self.check_open()
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this client was opened in another event loop; use it there")

    def start(
        self, start: Callable[Concatenate[_core.Bridge, P], int], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[object]:
        """Start an operation that goes on whoever waits for it.

        It is no task, so whoever cancels all tasks does not cancel it.

        Raises:
            Closed, RuntimeError: as :meth:`check`.
        """
        return self._start(start, *args, **kwargs)[1]

    async def run(
        self, start: Callable[Concatenate[_core.Bridge, P], int], *args: P.args, **kwargs: P.kwargs
    ) -> object:
        """Start an operation and wait for its result.

        Cancelled, the operation is cancelled too, and a result that it already had is dropped.

        Raises:
            Closed, RuntimeError: as :meth:`check`, or it is closed meanwhile.
        """
        number, future = self._start(start, *args, **kwargs)
        try:
            return await future
        except asyncio.CancelledError:
            if number in self._waiting:
                # Its completion is still to come and finds the future cancelled.
                self._core.cancel(number)
            raise

    def _start(
        self, start: Callable[Concatenate[_core.Bridge, P], int], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[int, asyncio.Future[object]]:
        # First of all: what was started could not be awaited in another loop, and would be lost.
        self.check()
        number = start(self._core, *args, **kwargs)
        future = self._waiting[number] = self._loop.create_future()
        return number, future

    async def close(self, client: _core.Client | None = None) -> None:
        """Cancel what runs, close the client and join the threads, from whichever event loop.

        Whoever calls it again waits for the same end. Cancelled, it goes on in the background.
        """
        if self._process != os.getpid():
            return  # nothing of it is in this process
        if self._closing is None:
            self._closed = True
            self._fail_waiting()
            self._closing = _Closing(self._core, client)
        await self._closing.wait()
        _open.discard(self)

    def _fail_waiting(self) -> None:
        def fail() -> None:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Closed("this client was closed"))
            self._waiting.clear()

        if asyncio.get_running_loop() is self._loop:
            fail()
        else:
            with contextlib.suppress(RuntimeError):  # in a loop that is closed nobody waits
                self._loop.call_soon_threadsafe(fail)

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


class _Closing:
    """The end of a bridge, which takes a moment.

    It has a thread of its own: those that asyncio lends may all be busy, perhaps until it is over.
    """

    def __init__(self, bridge: _core.Bridge, client: _core.Client | None) -> None:
        self._done: Final[concurrent.futures.Future[None]] = concurrent.futures.Future()
        work = threading.Thread(target=self._work, args=(bridge, client), name="betanet-close")
        self._thread: threading.Thread | None = work
        try:
            work.start()
        except RuntimeError:  # the system gives no thread, or the interpreter is ending
            self._thread = None
            self._work(bridge, client)

    def _work(self, bridge: _core.Bridge, client: _core.Client | None) -> None:
        try:
            if client is not None:
                client.close(bridge)
            bridge.close()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._done.set_exception(error)
        else:
            self._done.set_result(None)

    async def wait(self) -> None:
        """Wait for the end, in the running event loop."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # in a loop that is closed nobody waits
                loop.call_soon_threadsafe(ended.set)

        self._done.add_done_callback(tell)
        await ended.wait()
        if self._thread is not None:
            self._thread.join()  # it has nothing left to do
        self._done.result()


@atexit.register
def _close_all() -> None:
    for bridge in list(_open):
        bridge.close_now()
