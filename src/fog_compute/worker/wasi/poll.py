"""``poll_oneoff``: files are ready at once, sleeps are over without waiting."""

from __future__ import annotations

import struct
from typing import Final

from wasmtime import Caller

from fog_compute.worker.wasi.abi import (
    DIRECTORY,
    EBADF,
    EFAULT,
    EINVAL,
    FILESTAT,
    REGULAR_FILE,
    SUCCESS,
    U32,
    OutOfBounds,
    read,
    store,
)
from fog_compute.worker.wasi.clocks import REALTIME, THREAD_CPU, Clocks
from fog_compute.worker.wasi.native import Native

__all__ = ["Poll"]

MAX_SUBSCRIPTIONS: Final = 1024

_SUBSCRIPTION: Final = struct.Struct("<QB7xI4xQQH6x")  # userdata tag | id timeout precision flags
_EVENT: Final = struct.Struct("<QHB5xQH6x")  # userdata error type | nbytes flags
_CLOCK, _READ, _WRITE = range(3)
_ABSOLUTE: Final = 1
_HANGUP: Final = 1
_RIGHT: Final = {_READ: 1 << 1, _WRITE: 1 << 6}


class Poll:
    """The replaced function."""

    def __init__(self, native: Native, clocks: Clocks) -> None:
        """Ask ``native`` about descriptors; sleeps move ``clocks``."""
        self._native = native
        self._clocks = clocks

    def poll_oneoff(
        self, caller: Caller, subscriptions: int, events: int, count: int, written: int
    ) -> int:
        """Report what is ready, or what is ready first."""
        count &= U32
        if not 1 <= count <= MAX_SUBSCRIPTIONS:
            return EINVAL
        try:
            asked = list(
                _SUBSCRIPTION.iter_unpack(read(caller, subscriptions, count * _SUBSCRIPTION.size))
            )
        except OutOfBounds:
            return EFAULT
        if any(tag > _WRITE for _, tag, *_ in asked):
            return EINVAL
        due = [self._due(tag, clock, timeout, flags) for _, tag, clock, timeout, _, flags in asked]
        self._clocks.move_to(min(due))
        ready = b"".join(
            _EVENT.pack(userdata, *self._event(tag, descriptor))
            for (userdata, tag, descriptor, *_), when in zip(asked, due, strict=True)
            if when <= self._clocks.elapsed_ns
        )
        return store(caller, events, ready) or store(
            caller, written, (len(ready) // _EVENT.size).to_bytes(4, "little")
        )

    def _due(self, tag: int, clock: int, timeout: int, flags: int) -> int:
        """Return when a subscription is ready, in virtual time; one that cannot be is at once."""
        if tag != _CLOCK or not REALTIME <= clock <= THREAD_CPU:
            return 0
        return self._clocks.due(clock, timeout, absolute=bool(flags & _ABSOLUTE))

    def _event(self, tag: int, subject: int) -> tuple[int, int, int, int]:
        """Return an event's error, type, bytes that can be moved, and flags."""
        if tag == _CLOCK:
            return SUCCESS if REALTIME <= subject <= THREAD_CPU else EINVAL, tag, 0, 0
        errno, filetype, rights = self._native.fdstat(subject)
        if errno != SUCCESS:
            return errno, tag, 0, 0
        if filetype == DIRECTORY or not rights & _RIGHT[tag]:
            return EBADF, tag, 0, 0
        if tag == _WRITE or filetype != REGULAR_FILE:
            return SUCCESS, tag, 1, 0
        _, record = self._native.filestat(subject)
        _, position = self._native.tell(subject)
        left = max(0, FILESTAT.unpack(record)[4] - position)
        return SUCCESS, tag, left, 0 if left else _HANGUP
