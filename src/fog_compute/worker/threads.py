"""Work that is done at once if it is small, and in a thread beside the event loop if it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from fog_compute.threads import in_thread
from fog_compute.units import KIB

SMALL_BYTES: Final = 128 * KIB  # hashed, decrypted or written in less time than a thread needs

P = ParamSpec("P")
T = TypeVar("T")


async def beside(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``work`` returns, called here if it handles ``size`` bytes or less than many.

    Cancelled, first let it end, because a thread cannot be stopped half-way.

    Raises:
        OSError: the machine lets this process have no more threads.
    """
    if size <= SMALL_BYTES:
        return work(*args, **kwargs)
    thread = in_thread(work, *args, **kwargs)
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait({thread})
        raise
