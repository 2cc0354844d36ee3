"""Work in a thread beside the event loop, where the machine may refuse one."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, ParamSpec, TypeVar

__all__ = ["in_thread"]

NO_THREAD: Final = "this machine gives no more threads (ulimit -u, or a container's limit)"

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Have work done in a thread; what is returned ends as it does.

    Cancelled, it may be done all the same.

    Raises:
        OSError: the machine gives no thread; then nothing was done, nor will be.
    """
    done: Future[T] = Future()

    def run() -> None:
        if done.set_running_or_notify_cancel():
            try:
                done.set_result(work(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # whoever waits raises it
                done.set_exception(error)

    try:
        asyncio.get_running_loop().run_in_executor(None, run)
    except RuntimeError as error:
        # It stands in the queue all the same, and a thread that is there already may have begun it.
        if done.cancel():
            raise OSError(errno.EAGAIN, NO_THREAD) from error
    return asyncio.wrap_future(done)
