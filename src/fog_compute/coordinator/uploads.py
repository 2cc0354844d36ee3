"""Blobs on their way to one worker: in order, the next before the last has been answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from fog_compute.units import MIB
from fog_compute.vpn.channel import OnSent

__all__ = ["AT_ONCE", "WINDOW_BYTES", "send_all"]

WINDOW_BYTES: Final = MIB
"""So much may be on its way when another blob is begun: what a worker needs first comes first, and
small ones do not wait for each other's answers."""

AT_ONCE: Final = 16
"""Blobs that are on their way at the same time, however small."""

Refusal = TypeVar("Refusal")


async def send_all(
    sizes: Mapping[bytes, int],
    send: Callable[[bytes, OnSent], Awaitable[Refusal | None]],
    moved: Callable[[int], object],
) -> Refusal | None:
    """Send blobs in their order and return the first refusal; what is on its way then is given up.

    Args:
        sizes: the bytes of each, by its reference.
        send: sends one, tells how much of it has arrived, and returns why it was refused.
        moved: told how many bytes of all have arrived, when more have.

    Raises:
        FogError: whatever ``send`` raises first.
    """
    arrived = dict.fromkeys(sizes, 0)
    begun = total = 0
    changed = asyncio.Event()

    def note(ref: bytes, count: int) -> None:
        nonlocal total
        more = min(count, sizes[ref]) - arrived[ref]
        if more > 0:
            arrived[ref] += more
            total += more
            moved(total)
            changed.set()

    async def one(ref: bytes) -> Refusal | None:
        refusal = await send(ref, lambda count: note(ref, count))
        if refusal is None:
            note(ref, sizes[ref])
        return refusal

    left = deque(sizes)
    going: set[asyncio.Task[Refusal | None]] = set()
    try:
        while left or going:
            while left and len(going) < AT_ONCE and begun - total < WINDOW_BYTES:
                ref = left.popleft()
                begun += sizes[ref]
                task = asyncio.create_task(one(ref))
                task.add_done_callback(lambda _: changed.set())
                going.add(task)
            await changed.wait()
            changed.clear()
            for task in [task for task in going if task.done()]:
                going.remove(task)
                if (refusal := task.result()) is not None:
                    return refusal
    finally:
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
    return None
