"""Modules that were written to do harm, each with what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fog_compute.tasks import Fault
from fog_compute.units import MIB

from .guests import SLEEPS, assemble, command, opens

__all__ = ["HOSTILE", "Hostile"]


@dataclass(frozen=True, slots=True)
class Hostile:
    """A module, and the only ends that it may have.

    Attributes:
        build: makes the module, once a test wants it.
        ends: faults, or exit codes where the sandbox itself keeps the module from harm.
        says: words of the one line, when it ended with a fault.
    """

    build: Callable[[], bytes]
    ends: tuple[Fault | int, ...]
    says: str = ""
    memory_bytes: int = 64 * MIB


def _module(text: str) -> Callable[[], bytes]:
    return lambda: assemble(f"(module {text})")


def _start(body: str, rest: str = "") -> Callable[[], bytes]:
    return _module(f'(memory (export "memory") 1) {rest} (func (export "_start") {body})')


def _early(body: str, rest: str = "") -> Callable[[], bytes]:
    return _start("", f"{rest} (func $early {body}) (start $early)")


def _command(body: str) -> Callable[[], bytes]:
    return lambda: command(body)


def _leb(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + _leb(len(content)) + content


def _raw(*sections: bytes) -> Callable[[], bytes]:
    return lambda: b"\0asm\x01\0\0\0" + b"".join(sections)


def _one_function(body: bytes) -> Callable[[], bytes]:
    return _raw(
        _section(1, b"\x01\x60\x00\x00"),
        _section(3, b"\x01\x00"),
        _section(7, b"\x01\x06_start\x00\x00"),
        _section(10, b"\x01" + _leb(len(body)) + body),
    )


def _many_functions() -> bytes:
    """Return a module of a hundred thousand functions that are no trifle to compile."""
    body = b"\x00" + b"\x41\x01\x41\x02\x6a\x1a" * 60 + b"\x0b"
    code = _leb(len(body)) + body
    count = 100_000
    return _raw(
        _section(1, b"\x01\x60\x00\x00"),
        _section(3, _leb(count) + b"\x00" * count),
        _section(7, b"\x01\x06_start\x00\x00"),
        _section(10, _leb(count) + code * count),
    )()


_ITSELF: Final = "(loop (br 0))"
_BOMB: Final = "(block (local.set 0 (i32.add (i32.const 1) (local.get 0))))" * 60_000
_ENDLESS: Final = (Fault.OUT_OF_FUEL, Fault.TIMEOUT)

HOSTILE: Final = {
    # Time
    "loops": Hostile(_start(_ITSELF), _ENDLESS),
    "loops before its start": Hostile(_early(_ITSELF), _ENDLESS),
    "sleeps for a quarter of an hour": Hostile(lambda: SLEEPS, (0,)),
    "waits for what never comes": Hostile(
        _command(
            """(loop (i64.store (i32.const 256) (i64.const 0))
            (i32.store8 (i32.const 264) (i32.const 1))
            (i32.store (i32.const 272) (i32.const 0))
            (drop (call $poll_oneoff (i32.const 256) (i32.const 320) (i32.const 1) (i32.const 400)))
            (br 0))"""
        ),
        _ENDLESS,
    ),
    "fills memory for ever": Hostile(
        _module(
            """(memory (export "memory") 1000)
            (func (export "_start")
              (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65000000)) (br 0)))"""
        ),
        _ENDLESS,
    ),
    "draws random numbers for ever": Hostile(
        _command("(loop (drop (call $random_get (i32.const 0) (i32.const 131072))) (br 0))"),
        _ENDLESS,
    ),
    # Memory and stack
    "grows by pages": Hostile(_start("(loop (drop (memory.grow (i32.const 1))) (br 0))"), _ENDLESS),
    "touches all of its memory": Hostile(
        _start(
            """(local $at i32)
            (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            (loop
              (i32.store (local.get $at) (i32.const 1))
              (local.set $at (i32.add (local.get $at) (i32.const 4096)))
              (br_if 0 (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))"""
        ),
        (0,),
    ),
    "wants 2 GiB": Hostile(
        _module('(memory (export "memory") 32768) (func (export "_start"))'),
        (Fault.OUT_OF_MEMORY,),
        "more than its limit",
    ),
    "wants 64-bit terabytes": Hostile(
        _module('(memory (export "memory") i64 0x1000000) (func (export "_start"))'),
        (Fault.OUT_OF_MEMORY, Fault.NOT_WASM),
    ),
    "recurses": Hostile(
        _start("(call $a)", "(func $a (call $b)) (func $b (call $a))"),
        (Fault.TRAP,),
        "stack overflow",
    ),
    "recurses with large frames": Hostile(
        _start(
            "(call $a (i64.const 1))",
            f"(func $a (param i64) (local {'i64 ' * 2000})"
            + "".join(
                f"(local.set {i} (i64.add (local.get 0) (i64.const {i})))" for i in range(1, 2001)
            )
            + "(call $a (local.get 2000))"
            + "".join(
                f"(local.set 1 (i64.add (local.get 1) (local.get {i})))" for i in range(1, 2001)
            )
            + "(call $a (local.get 1)))",
        ),
        (Fault.TRAP,),
        "stack overflow",
    ),
    "has a huge table": Hostile(
        _start("", "(table 100000000 funcref)"), (Fault.OUT_OF_MEMORY,), "more than its limit"
    ),
    "grows its table for ever": Hostile(
        _start(
            "(loop (drop (table.grow (ref.null func) (i32.const 1000))) (br 0))",
            "(table 1 funcref)",
        ),
        _ENDLESS,
    ),
    "has a hundred tables": Hostile(
        _start("", "(table 10000 funcref)" * 100), (Fault.TRAP, Fault.NOT_WASM, Fault.OUT_OF_MEMORY)
    ),
    # Compiling
    "has a hundred thousand functions": Hostile(
        _many_functions, (Fault.TIMEOUT, Fault.OUT_OF_MEMORY, 0)
    ),
    "has a function that takes long to compile": Hostile(
        _module(f'(func (export "_start") (local i32) {_BOMB})'),
        (Fault.TIMEOUT,),
        "to compile and run",
    ),
    "nests a hundred thousand blocks": Hostile(
        _one_function(b"\x00" + b"\x02\x40" * 100_000 + b"\x0b" * 100_001),
        (Fault.TIMEOUT, Fault.NOT_WASM, 0),
    ),
    "has a million locals": Hostile(
        _one_function(b"\x01" + _leb(1_000_000) + b"\x7f\x0b"), (Fault.NOT_WASM,), "not valid"
    ),
    # What is no module
    "is text": Hostile(lambda: b"#!/bin/sh\nrm -rf /\n", (Fault.NOT_WASM,), "not WebAssembly"),
    "is nothing": Hostile(lambda: b"", (Fault.NOT_WASM,), "nothing"),
    "is zeros": Hostile(lambda: bytes(5 * MIB), (Fault.NOT_WASM,), "not WebAssembly"),
    "is a component": Hostile(lambda: b"\0asm\x0d\0\x01\0", (Fault.NOT_WASM,), "component"),
    "is cut off": Hostile(lambda: command("")[:-3], (Fault.NOT_WASM,), "cut off or damaged"),
    "says that a section has 4 GiB": Hostile(
        _raw(b"\x01\xff\xff\xff\xff\x0f"), (Fault.NOT_WASM,), "cut off or damaged"
    ),
    "says that it has 4 billion functions": Hostile(
        _raw(_section(1, b"\x01\x60\x00\x00"), _section(3, b"\xff\xff\xff\xff\x0f")),
        (Fault.NOT_WASM,),
        "not valid",
    ),
    # What no worker has
    "wants threads": Hostile(
        _module('(memory (export "memory") 1 2 shared) (func (export "_start"))'),
        (Fault.NOT_WASM,),
        "threads",
    ),
    "starts threads": Hostile(
        _module(
            '(import "wasi" "thread-spawn" (func (param i32) (result i32)))'
            ' (func (export "_start"))'
        ),
        (Fault.MISSING_IMPORT,),
        "threads",
    ),
    "imports what it made up": Hostile(
        _module(
            '(import "env\\1b[2J\\0a\\0asecond line" "'
            + "x" * 5000
            + '" (func)) (func (export "_start"))'
        ),
        (Fault.MISSING_IMPORT,),
        "no worker has",
    ),
    "traps before its start": Hostile(_early("unreachable"), (Fault.TRAP,), "unreachable"),
    "leaves before its start": Hostile(
        lambda: assemble(
            """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (func $early (call $exit (i32.const 7))) (start $early)
            (func (export "_start")))"""
        ),
        (7,),
    ),
    # Files and the network
    "opens what is outside": Hostile(lambda: opens("../../../../etc/passwd"), (63,)),
    "opens a whole path": Hostile(lambda: opens("/etc/passwd"), (63, 76)),
    "listens": Hostile(
        _command(
            "(call $proc_exit (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 512)))"
        ),
        (57, 58),
    ),
    "floods its output": Hostile(
        _command(
            "(loop (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 65536))) (br 0))"
        ),
        (Fault.OUTPUT_LIMIT,),
        "wrote more to standard output",
    ),
    "floods its errors": Hostile(
        _command(
            "(loop (drop (call $write (i32.const 2) (i32.const 1024) (i32.const 65536))) (br 0))"
        ),
        (Fault.OUTPUT_LIMIT,),
        "wrote more to standard error",
    ),
    "floods by single bytes": Hostile(
        _command("(loop (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 1))) (br 0))"),
        (Fault.OUTPUT_LIMIT, *_ENDLESS),
    ),
}
