"""What a module sees does not depend on the walls around its runner, nor on whose process it is.

The same job goes to a real runner, and to the same loop in this process: without namespaces,
Landlock, a filter or limits of the kernel. Where the two differ, a wall shows.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import wasmtime

from fog_compute.tasks import Limits, TaskResult
from fog_compute.units import KIB, MIB
from fog_compute.worker.job import Job
from fog_compute.worker.slot import RunnerSlot

from . import guests, scripted
from .inside import InsideSlots
from .scripted import BUFFER, OUT, TMP, WORK, Script, Vector

pytestmark = pytest.mark.asyncio

SCRIPTS = 30
CALLS = 30
INPUTS = {"a": b"one two\n", "d/b": b"", "d/e/c": bytes(range(256)) * 20}
NAMES = [b"a", b"d", b"d/b", b"d/e", b"out", b"out/x", b"tmp", b"tmp/y", b"nosuch", b".", b"..",
         b"../a", b"/a", b"", b"z" * 300, b"link", b"d/e/c", b"a/b", b"\xff"]  # fmt: skip

GUESTS: dict[str, tuple[bytes, Limits]] = {
    "says hello": (guests.HELLO, Limits()),
    "echoes": (guests.ECHO, Limits()),
    "traps": (guests.TRAPS, Limits()),
    "divides by zero": (guests.DIVIDES, Limits()),
    "recurs without end": (guests.OVERFLOWS, Limits()),
    "is no command": (guests.LIBRARY, Limits()),
    "takes arguments": (guests.TAKES_ARGUMENTS, Limits()),
    "needs a host": (guests.NEEDS_A_HOST, Limits()),
    "has another signature": (guests.BAD_SIGNATURE, Limits()),
    "is not valid": (guests.NOT_VALID, Limits()),
    "is a component": (guests.COMPONENT, Limits()),
    "is no module": (b"#!/bin/sh\n", Limits()),
    "is nothing": (b"", Limits()),
    "has threads": (
        bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1 1 shared))')),
        Limits(),
    ),
    "sleeps": (guests.SLEEPS, Limits()),
    "looks around": (guests.LOOKS_AROUND, Limits()),
    "points anywhere": (guests.BAD_POINTERS, Limits()),
    "opens sockets": (guests.SOCKETS, Limits()),
    "loops": (guests.FOREVER, Limits(fuel=3_000_000)),
    "wants more memory": (guests.has_memory(200), Limits(memory_bytes=5 * MIB)),
    "has enough memory": (guests.has_memory(60), Limits(memory_bytes=5 * MIB)),
    "traps before it starts": (guests.traps_at_its_start(1), Limits()),
    "opens many files": (guests.opens_until_refused("", most=300), Limits()),
    "writes": (guests.writes(70 * KIB, files=2), Limits()),
}


@pytest_asyncio.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[RunnerSlot, RunnerSlot]]:
    """A slot with a runner as a worker has it, and one whose runner is a thread here."""
    within = InsideSlots(tmp_path / "inside")
    with within.patched():
        slots = RunnerSlot(tmp_path / "slot", tmp_path / "compiled"), within.slot()
        yield slots
        for slot in slots:
            await slot.close()


async def run(
    slot: RunnerSlot, module: bytes, stdin: bytes, limits: Limits, seed: int
) -> dict[str, object]:
    """What a task gives back, but for what no two runs have in common."""

    async def load() -> bytes:
        return module

    result = await slot.run(
        Job(
            module_id=hashlib.sha256(module).hexdigest(),
            argv=("first", "second"),
            stdin=stdin,
            inputs=INPUTS,
            limits=limits,
            seed=seed.to_bytes(32, "big"),
            env={"NAME": "value"},
        ),
        load,
    )
    return seen(result)


def seen(result: TaskResult) -> dict[str, object]:
    return {
        "exit": (result.exit_code, result.fault, result.detail),
        "used": (result.fuel_used, result.peak_memory),
        "output": (result.stdout, result.stderr),
        "files": {one.path: result.file(one.path) for one in result.head.files},
    }


async def test_every_guest_ends_alike_with_walls_and_without(
    both: tuple[RunnerSlot, RunnerSlot],
) -> None:
    for turn in range(2):
        for name, (module, limits) in GUESTS.items():
            walled, bare = [await run(slot, module, b"input", limits, turn) for slot in both]
            assert walled == bare, name
        for slot in both:
            await slot._runner.end()  # the next runner finds what this one compiled


async def test_whatever_a_guest_calls_is_answered_alike_with_walls_and_without(
    both: tuple[RunnerSlot, RunnerSlot],
) -> None:
    """INV-TASK-32"""
    for seed in range(SCRIPTS):
        script = written(random.Random(seed))
        walled, bare = [
            await run(slot, scripted.MODULE, script.encode(), Limits(), seed) for slot in both
        ]
        assert walled == bare, seed
        assert walled["exit"] == (0, None, ""), seed


def written(rng: random.Random) -> Script:
    """A script of calls that mostly make sense."""
    script = Script()
    for _ in range(CALLS):
        rng.choice(_CALLS)(script, rng)
    return script


def _folder(rng: random.Random) -> int:
    return rng.choice((WORK, WORK, WORK, TMP, 5, 6))


def _fd(rng: random.Random) -> int:
    return rng.choice((0, 1, 3, 4, 5, 5, 5, 6, 6, 7, 99))


def _path(rng: random.Random) -> tuple[bytes, int]:
    name = rng.choice(NAMES)
    return name, len(name)


def _open(script: Script, rng: random.Random) -> None:
    name, length = _path(rng)
    rights = rng.choice((2, 64, 66, 0x1FFFFFFF))
    script.call(
        "path_open",
        *(_folder(rng), rng.randrange(2), name, length, rng.randrange(16), rights, 2),
        *(rng.choice((0, 0, 1, 4)), OUT),
        dump=(OUT, 4),
    )


def _one_path(script: Script, rng: random.Random) -> None:
    name = rng.choice(("path_create_directory", "path_remove_directory", "path_unlink_file"))
    script.call(name, _folder(rng), *_path(rng))


def _two_paths(script: Script, rng: random.Random) -> None:
    match rng.randrange(4):
        case 0:
            script.call("path_rename", _folder(rng), *_path(rng), _folder(rng), *_path(rng))
        case 1:
            script.call("path_link", *(_folder(rng), 0), *_path(rng), _folder(rng), *_path(rng))
        case 2:
            script.call("path_symlink", *_path(rng), _folder(rng), *_path(rng))
        case _:
            script.call("path_readlink", _folder(rng), *_path(rng), BUFFER, 64, OUT, dump=(OUT, 4))


def _stat(script: Script, rng: random.Random) -> None:
    if rng.randrange(2):
        script.call("fd_filestat_get", _fd(rng), OUT, dump=(OUT, 64))
    else:
        script.call(
            "path_filestat_get", _folder(rng), rng.randrange(2), *_path(rng), OUT, dump=(OUT, 64)
        )


def _times(script: Script, rng: random.Random) -> None:
    when = (rng.choice((0, 5 * 10**9, 2**63)), 7, rng.randrange(16))
    if rng.randrange(2):
        script.call("fd_filestat_set_times", _fd(rng), *when)
    else:
        script.call("path_filestat_set_times", _folder(rng), rng.randrange(2), *_path(rng), *when)


def _list(script: Script, rng: random.Random) -> None:
    length = rng.choice((0, 10, 40, 100, 4096))
    script.read_folder(_folder(rng), cookie=rng.choice((0, 0, 0, 1, 2, 77)), length=length)


def _bytes(script: Script, rng: random.Random) -> None:
    fd, data = _fd(rng), Vector(rng.randbytes(rng.randrange(50)))
    fd = 5 if fd in (0, 1) else fd  # the script is read and told there
    match rng.randrange(4):
        case 0:
            script.call("fd_write", fd, data, 1, OUT, dump=(OUT, 4))
        case 1:
            script.call("fd_pwrite", fd, data, 1, rng.randrange(99), OUT, dump=(OUT, 4))
        case 2:
            script.call("fd_read", fd, Vector(bytes(40)), 1, OUT, dump=(OUT, 4))
        case _:
            script.call("fd_pread", fd, Vector(bytes(40)), 1, rng.randrange(99), OUT, dump=(OUT, 4))


def _fds(script: Script, rng: random.Random) -> None:
    fd = rng.choice((3, 4, 5, 5, 6, 7, 99))
    match rng.randrange(9):
        case 0:
            script.call("fd_seek", fd, rng.randrange(-5, 50), rng.randrange(3), OUT, dump=(OUT, 8))
        case 1:
            script.call("fd_tell", fd, OUT, dump=(OUT, 8))
        case 2 if fd > TMP:
            script.call("fd_close", fd)
        case 3:
            script.call("fd_filestat_set_size", fd, rng.choice((0, 10, 5000)))
        case 4:
            script.call("fd_advise", fd, 0, 10, rng.randrange(8))
        case 5:
            script.call(rng.choice(("fd_sync", "fd_datasync")), fd)
        case 6:
            script.call("fd_fdstat_get", fd, OUT, dump=(OUT, 24))
        case 7:
            script.call("fd_prestat_get", fd, OUT, dump=(OUT, 8))
        case _:
            script.call("fd_fdstat_set_flags", fd, rng.choice((0, 1)))


def _time(script: Script, rng: random.Random) -> None:
    clock, wait = rng.randrange(5), rng.choice((0, 1, 10**6, 2**62))
    match rng.randrange(3):
        case 0:
            script.call("clock_time_get", clock, 0, OUT, dump=(OUT, 8))
        case 1:
            script.call("clock_res_get", clock, OUT, dump=(OUT, 8))
        case _:
            asked = [(rng.randrange(4), rng.choice((0, 1, 3, 5, 99))) for _ in range(3)]
            polled = b"".join(
                struct.pack("<QB7xI4xQQH6x", 7, tag, subject, wait, 0, rng.randrange(2))
                for tag, subject in asked
            )
            count = rng.choice((0, 1, 3, 3, 3))
            script.call("poll_oneoff", polled, BUFFER, count, OUT, dump=(BUFFER, 32 * count))


def _random(script: Script, rng: random.Random) -> None:
    where, length = rng.choice(((BUFFER, 40), (OUT, 0), (2**32 - 9, 40), (BUFFER, 2**31)))
    script.call("random_get", where, length, dump=(BUFFER, 40))


_CALLS: list[Callable[[Script, random.Random], None]] = [
    *(_open, _open, _open, _one_path, _two_paths, _stat, _stat, _times, _list, _bytes, _bytes),
    *(_fds, _fds, _time, _random),
]
