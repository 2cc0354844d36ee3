"""A guest that makes the WASI calls of a script and writes down what each gave.

The script comes as standard input: a head, records of calls, then bytes that calls point to.  For
each record the guest writes the errno and, if asked, a range of its memory to standard output.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

import wasmtime

from fog_compute.tasks.preview1 import PREVIEW1

WORK: Final = 3
TMP: Final = 4  # every script begins with opening it
OUT: Final = 0x400  # where most calls put their answer
BUFFER: Final = 0x1000

_SCRIPT: Final = 0x1_0000
_RECORD: Final = struct.Struct("<IIII9Q")  # function, dump, its length | arguments
_HEAD: Final = struct.Struct("<I12x")
_NUMBER: Final = {name: number for number, name in enumerate(PREVIEW1)}
_TYPES: Final = {"i": "i32", "I": "i64"}
_FILESTAT: Final = struct.Struct("<QQB7xQQQQQ")
_DIRENT: Final = struct.Struct("<QQIB3x")


def _module() -> bytes:
    imports, cases = [], []
    for name, parameters in PREVIEW1.items():
        types = " ".join(_TYPES[kind] for kind in parameters)
        result = "" if name == "proc_exit" else "(result i32)"
        imports.append(
            f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {types}) {result}))'
        )
        loads = " ".join(
            f"({_TYPES[kind]}.load offset={16 + 8 * i} (local.get $at))"
            for i, kind in enumerate(parameters)
        )
        call = f"(call ${name} {loads})"
        keep = call if name == "proc_exit" else f"(local.set $errno {call})"
        cases.append(
            f"(if (i32.eq (i32.load (local.get $at)) (i32.const {_NUMBER[name]})) (then {keep}))"
        )
    text = f"""(module {"".join(imports)} (memory (export "memory") 4)
      (func $out (param $pointer i32) (param $length i32)
        (i32.store (i32.const 0) (local.get $pointer))
        (i32.store (i32.const 4) (local.get $length))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func (export "_start") (local $at i32) (local $left i32) (local $errno i32) (local $n i32)
        (local.set $at (i32.const {_SCRIPT}))
        (loop $more
          (i32.store (i32.const 0) (local.get $at))
          (i32.store (i32.const 4) (i32.const 65536))
          (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
          (br_if $more (i32.load (i32.const 8))))
        (local.set $left (i32.load (i32.const {_SCRIPT})))
        (local.set $at (i32.const {_SCRIPT + _HEAD.size}))
        (loop $next
          (if (i32.eqz (local.get $left)) (then (return)))
          {"".join(cases)}
          (i32.store (i32.const 16) (local.get $errno))
          (call $out (i32.const 16) (i32.const 4))
          (call $out (i32.load offset=4 (local.get $at)) (i32.load offset=8 (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const {_RECORD.size})))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br $next))))"""
    return bytes(wasmtime.wat2wasm(text))


MODULE: Final = _module()


@dataclass(frozen=True, slots=True)
class Vector:
    """Bytes to which a call points by a vector."""

    data: bytes


@dataclass(slots=True)
class Script:
    """Calls to make; what a call points to is given as bytes and placed behind the records."""

    _calls: list[tuple[str, tuple[int | bytes | Vector, ...], int, int]] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        self.open(WORK, "tmp")

    def call(
        self, name: str, *arguments: int | bytes | Vector, dump: tuple[int, int] = (0, 0)
    ) -> None:
        """Add a call; ``dump`` is a range of memory to write down after it."""
        self._calls.append((name, arguments, *dump))

    def stat(self, folder: int, path: str, *, follow: bool = False) -> None:
        """Tell about a path."""
        name = path.encode()
        self.call("path_filestat_get", folder, int(follow), name, len(name), OUT, dump=(OUT, 64))

    def fstat(self, fd: int) -> None:
        """Tell about a descriptor."""
        self.call("fd_filestat_get", fd, OUT, dump=(OUT, 64))

    def open(self, folder: int, path: str, *, flags: int = 0, rights: int = 2) -> None:
        """Open a path; descriptors are given from 5 on, the lowest first."""
        name = path.encode()
        self.call(
            "path_open", *(folder, 0, name, len(name), flags, rights, 0, 0, OUT), dump=(OUT, 4)
        )

    def create(self, path: str) -> None:
        """Open a new file below /tmp for writing and reading."""
        self.open(TMP, path, flags=1, rights=64 | 2)

    def write(self, path: str, data: bytes) -> None:
        """Write a new file of the working directory, and the folders that it needs."""
        parts = path.split("/")
        for i in range(1, len(parts)):
            self.on_path("path_create_directory", "/".join(parts[:i]), WORK)
        self.open(WORK, path, flags=1, rights=64)  # descriptor 5
        self.call("fd_write", 5, Vector(data), 1, OUT)
        self.call("fd_close", 5)

    def on_path(self, name: str, path: str, folder: int = TMP) -> None:
        """Make a call whose arguments are a folder and a path."""
        data = path.encode()
        self.call(name, folder, data, len(data))

    def rename(self, old: str, new: str) -> None:
        """Rename within /tmp."""
        source, target = old.encode(), new.encode()
        self.call("path_rename", TMP, source, len(source), TMP, target, len(target))

    def read_folder(self, fd: int, *, cookie: int = 0, length: int = 8192) -> None:
        """List a folder into a buffer; the dump is the bytes used, then the buffer."""
        self.call(
            "fd_readdir", *(fd, BUFFER, length, cookie, BUFFER - 4), dump=(BUFFER - 4, 4 + length)
        )

    def encode(self) -> bytes:
        """Return the script as standard input."""
        records, data = bytearray(), bytearray()
        base = _SCRIPT + _HEAD.size + _RECORD.size * len(self._calls)
        for name, arguments, pointer, length in self._calls:
            assert len(arguments) == len(PREVIEW1[name]), name
            words = []
            for argument in arguments:
                if isinstance(argument, Vector):
                    words.append(base + len(data))
                    data += struct.pack("<II", base + len(data) + 8, len(argument.data))
                    data += argument.data + bytes(-len(argument.data) % 8)
                elif isinstance(argument, bytes):
                    words.append(base + len(data))
                    data += argument + bytes(-len(argument) % 8)  # vectors must be aligned
                else:
                    words.append(argument % 2**64)
            words += [0] * (9 - len(words))
            records += _RECORD.pack(_NUMBER[name], pointer, length, 0, *words)
        return _HEAD.pack(len(self._calls)) + bytes(records) + bytes(data)

    def decode(self, written: bytes) -> list[tuple[int, bytes]]:
        """Return each call's errno and dump."""
        answers, at = [], 0
        for _, _, _, length in self._calls:
            errno = int.from_bytes(written[at : at + 4], "little")
            answers.append((errno, written[at + 4 : at + 4 + length]))
            at += 4 + length
        assert at == len(written)
        assert answers[0] == (0, TMP.to_bytes(4, "little"))
        return answers[1:]


@dataclass(frozen=True, slots=True)
class Stat:
    """A record of a file."""

    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int
    mtim: int
    ctim: int

    @classmethod
    def of(cls, answer: tuple[int, bytes]) -> Stat:
        """Read an answer that must be a success."""
        assert answer[0] == 0
        return cls(*_FILESTAT.unpack(answer[1]))


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a folder."""

    next: int
    ino: int
    name: str
    filetype: int


def entries(answer: tuple[int, bytes]) -> list[Entry]:
    """The whole entries of an answer to `Script.read_folder`."""
    errno, dump = answer
    assert errno == 0
    used, data = int.from_bytes(dump[:4], "little"), dump[4:]
    found, at = [], 0
    while at + _DIRENT.size <= used:
        following, ino, length, filetype = _DIRENT.unpack_from(data, at)
        end = at + _DIRENT.size + length
        if end > used:
            break
        name = data[at + _DIRENT.size : end].decode()
        found.append(Entry(following, ino, name, filetype))
        at = end
    return found
