"""What a slot and its runner process say to each other over two pipes.

Each frame is a length of four bytes, big-endian, and one MessagePack message.  The slot writes
`Run` or `Prepare`, and when asked `ModuleBytes` and then `Kept`; the runner writes `Ready` once,
and for each of the two, if it must compile, `NeedBytes` and then `Compiled`, and at the end `Ran`
or `Prepared`.
Instead of any of its messages it may write `Refused`, and then it ends.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

FRAME_LIMIT: Final = 256 * 1024 * 1024
LENGTH_BYTES: Final = 4
NEVER_EXITED: Final = -1  # the exit code beside a fault


class Run(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """Run a module once.  Paths are the host's and were made by the slot for this task alone.

    They are bytes, because the two processes need not read the names of files in one encoding.
    """

    module_id: str  # names the compiled module in the caches
    argv: tuple[str, ...]  # the program's name first
    stdin: bytes  # a file
    work: bytes  # a folder, the guest's "/", which it may change
    memory_bytes: int
    fuel: int
    cpu_s: int
    file_bytes: int  # no file, output included, grows beyond this
    seed: bytes
    env: tuple[tuple[str, str], ...] = ()  # names and values, by name


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag="prepare"):
    """Compile a module that a task will run, and run nothing."""

    module_id: str
    cpu_s: int


class ModuleBytes(msgspec.Struct, frozen=True, array_like=True, tag="module"):
    """The module that the runner asked for, not compiled."""

    data: bytes


class Kept(msgspec.Struct, frozen=True, array_like=True, tag="kept"):
    """What was compiled is kept, or will not be: the module may run."""


class Wall(msgspec.Struct, frozen=True, array_like=True):
    """One of the walls that a runner raises around itself, or tried to."""

    name: str
    stands: bool
    says: str  # one line: what it keeps out, or why it does not stand


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The runner has tried the machine and can take its first task."""

    memory_bytes: int  # what a task can have, at most what was asked for
    file_bytes: int  # the largest file that the machine lets anybody write
    notes: tuple[str, ...] = ()  # what it does without, one line each
    walls: tuple[Wall, ...] = ()
    profile: str = ""  # how it compiles: what another way compiled, it cannot use


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The machine, and no module, keeps the runner from its work."""

    reason: str  # one line


class NeedBytes(msgspec.Struct, frozen=True, array_like=True, tag="need"):
    """The module of this `Run` or `Prepare` is in no cache."""


class Compiled(msgspec.Struct, frozen=True, array_like=True, tag="compiled"):
    """The module is compiled, and its code lies in the file for that."""

    size: int  # bytes; none where the machine lets no file be so large


class Ran(msgspec.Struct, frozen=True, array_like=True, tag="ran"):
    """The task is over; what it wrote is in the output files."""

    exit_code: int
    fault: str | None
    detail: str
    fuel_used: int
    wall_ms: int
    peak_memory: int
    nameless_bytes: int = 0  # in files of the folder that were removed and still open at the end
    left: str = ""  # what the task left in the runner, which must then be replaced


class Prepared(msgspec.Struct, frozen=True, array_like=True, tag="prepared"):
    """The module can run at once, or cannot be compiled, which its task will be told."""


ToRunner: TypeAlias = Run | Prepare | ModuleBytes | Kept
FromRunner: TypeAlias = Ready | NeedBytes | Compiled | Ran | Prepared | Refused

_to_runner: Final = msgspec.msgpack.Decoder(ToRunner)
_from_runner: Final = msgspec.msgpack.Decoder(FromRunner)
_encoder: Final = msgspec.msgpack.Encoder()


def frame(message: ToRunner | FromRunner) -> bytes:
    """Return one message with its length."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def parse_to_runner(body: bytes) -> ToRunner:
    """Read what a slot wrote, or raise `msgspec.MsgspecError`."""
    message: ToRunner = _to_runner.decode(body)
    return message


def parse_from_runner(body: bytes) -> FromRunner:
    """Read what a runner wrote, or raise `msgspec.MsgspecError`."""
    message: FromRunner = _from_runner.decode(body)
    return message
