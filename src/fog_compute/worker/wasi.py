"""The part of WASI preview 1 that would differ from run to run, replaced by parts that do not.

Random numbers come from the task's seed.  Time is virtual: it starts at a fixed moment, each look
at it takes a microsecond, and sleeping moves it on without waiting, so a guest can neither measure
the host nor hold a slot asleep.  Everything else is wasmtime's own WASI.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from typing import Final

from wasmtime import Caller, FuncType, Linker, Memory, ValType

MODULE: Final = "wasi_snapshot_preview1"
START_NS: Final = 946_684_800_000_000_000  # 2000-01-01T00:00:00Z
LOOK_NS: Final = 1_000
MAX_SUBSCRIPTIONS: Final = 1024

SUCCESS: Final = 0
EFAULT: Final = 21
EINVAL: Final = 28

_REALTIME, _MONOTONIC, _PROCESS_CPU, _THREAD_CPU = range(4)
_SUBSCRIPTION: Final = struct.Struct("<QB7xI4xQQH6x")  # userdata tag | id timeout precision flags
_EVENT: Final = struct.Struct("<QHB5xQH6x")  # userdata error type | nbytes flags
_TAG_CLOCK: Final = 0
_ABSOLUTE: Final = 1


class GuestExit(BaseException):
    """The guest called ``proc_exit``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _OutOfBounds(Exception):
    """The guest gave a pointer outside of its memory."""


class DeterministicWasi:
    """Defines the replacements in a linker; `begin` sets them up for one task."""

    def __init__(self) -> None:
        self._seed = b""
        self._drawn = 0
        self._elapsed_ns = 0

    def begin(self, seed: bytes) -> None:
        """Start a task: its randomness from ``seed``, its time from zero."""
        self._seed = seed
        self._drawn = 0
        self._elapsed_ns = 0

    def define(self, linker: Linker) -> None:
        """Replace the functions in ``linker``, which has WASI and allows shadowing."""
        i32, i64 = ValType.i32(), ValType.i64()
        functions = (
            ("random_get", [i32, i32], self._random_get),
            ("clock_time_get", [i32, i64, i32], self._clock_time_get),
            ("clock_res_get", [i32, i32], self._clock_res_get),
            ("poll_oneoff", [i32, i32, i32, i32], self._poll_oneoff),
        )
        for name, parameters, function in functions:
            linker.define_func(
                MODULE, name, FuncType(parameters, [i32]), function, access_caller=True
            )
        linker.define_func(MODULE, "proc_exit", FuncType([i32], []), _proc_exit)

    def _random_get(self, caller: Caller, pointer: int, length: int) -> int:
        length &= 0xFFFF_FFFF
        try:
            address = _address(caller, pointer, length)
        except _OutOfBounds:
            return EFAULT
        material = self._seed + self._drawn.to_bytes(8, "big")
        self._drawn += 1
        ctypes.memmove(address, hashlib.shake_256(material).digest(length), length)
        return SUCCESS

    def _clock_time_get(self, caller: Caller, clock: int, _precision: int, pointer: int) -> int:
        if not _REALTIME <= clock <= _THREAD_CPU:
            return EINVAL
        self._elapsed_ns += LOOK_NS
        now = self._elapsed_ns + (START_NS if clock == _REALTIME else 0)
        return _store(caller, pointer, (now % 2**64).to_bytes(8, "little"))

    def _clock_res_get(self, caller: Caller, clock: int, pointer: int) -> int:
        if not _REALTIME <= clock <= _THREAD_CPU:
            return EINVAL
        return _store(caller, pointer, LOOK_NS.to_bytes(8, "little"))

    def _poll_oneoff(
        self, caller: Caller, subscriptions: int, events: int, count: int, written: int
    ) -> int:
        count &= 0xFFFF_FFFF
        if not 1 <= count <= MAX_SUBSCRIPTIONS:
            return EINVAL
        try:
            address = _address(caller, subscriptions, count * _SUBSCRIPTION.size)
        except _OutOfBounds:
            return EFAULT
        asked = list(
            _SUBSCRIPTION.iter_unpack(ctypes.string_at(address, count * _SUBSCRIPTION.size))
        )
        due = [self._due(tag, clock, timeout, flags) for _, tag, clock, timeout, _, flags in asked]
        self._elapsed_ns = max(self._elapsed_ns, min(due))
        ready = b"".join(
            _EVENT.pack(userdata, SUCCESS, tag, 0, 0)
            for (userdata, tag, *_), when in zip(asked, due, strict=True)
            if when <= self._elapsed_ns
        )
        error = _store(caller, events, ready)
        if error != SUCCESS:
            return error
        return _store(caller, written, (len(ready) // _EVENT.size).to_bytes(4, "little"))

    def _due(self, tag: int, clock: int, timeout: int, flags: int) -> int:
        """When a subscription is ready, in virtual time; files are ready at once."""
        if tag != _TAG_CLOCK:
            return 0
        if not flags & _ABSOLUTE:
            return self._elapsed_ns + timeout
        return timeout - START_NS if clock == _REALTIME else timeout


def _proc_exit(code: int) -> None:
    raise GuestExit(code)


def _address(caller: Caller, pointer: int, length: int) -> int:
    """Return the host address of a guest's range, checked, or raise `_OutOfBounds`."""
    pointer &= 0xFFFF_FFFF
    memory = caller.get("memory")
    if not isinstance(memory, Memory) or pointer + length > memory.data_len(caller):
        raise _OutOfBounds
    base = ctypes.cast(memory.data_ptr(caller), ctypes.c_void_p).value
    if base is None:
        raise _OutOfBounds
    return base + pointer


def _store(caller: Caller, pointer: int, data: bytes) -> int:
    try:
        ctypes.memmove(_address(caller, pointer, len(data)), data, len(data))
    except _OutOfBounds:
        return EFAULT
    return SUCCESS
