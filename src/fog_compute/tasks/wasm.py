"""What a WebAssembly module asks for, read from its first sections before anything of it is sent.

The sections that say it stand before the code, so the begin of a module is enough. Only what is
certain counts as an objection: what this parser does not know, or does not see, is left to the
worker's judgement, which decides in any case. Reading takes time and memory in proportion to
``HEAD_BYTES``, whatever the bytes are.

Format: WebAssembly core specification 3.0, chapter 5, with the threads, custom page sizes and
component proposals as far as they are recognized to be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias, TypeVar

from fog_compute.tasks.model import DETAIL_LENGTH, Fault
from fog_compute.tasks.preview1 import NAMESPACE, PREVIEW1, results_of
from fog_compute.text import one_line
from fog_compute.units import KIB, format_bytes

__all__ = [
    "CORE_VERSION",
    "HEAD_BYTES",
    "IMPORT_ADVICE",
    "MAGIC",
    "Objection",
    "begin_objection",
    "objection",
]

MAGIC: Final = b"\0asm"
CORE_VERSION: Final = b"\x01\0\0\0"
_COMPONENT_LAYER: Final = b"\x01\0"

HEAD_BYTES: Final = 256 * KIB
"""How much of a module is looked at."""

PAGE_BYTES: Final = 64 * KIB

IMPORT_ADVICE: Final = (
    ("wasi_unstable::", "the API before WASI preview 1: compile anew, for wasm32-wasip1"),
    ("wasi::thread-spawn", "threads: compile for wasm32-wasip1, not for wasm32-wasip1-threads"),
    ("env::memory", "a memory from outside: compile without --import-memory"),
    ("wasi:", "the component model: compile for wasm32-wasip1"),
    ("env::", "a host of its own: compile for wasm32-wasip1, without undefined functions"),
)
"""What an import that no worker gives tells of how a module was made, and what helps."""

_THREADS: Final = (
    "the module needs threads, and tasks have none: compile for wasm32-wasip1, not for"
    " wasm32-wasip1-threads"
)
_SEVERAL_MEMORIES: Final = "the module needs several memories: compile without -mmultimemory"
_PAGE_SIZES: Final = "the module needs pages of another size: compile with pages of 64 KiB"
_NO_START: Final = (
    "the module is no command: it exports no function _start without parameters (build a program,"
    " not a library)"
)

_OTHERS: Final = (
    (b"\x7fELF", ", a program for this machine: compile it for wasm32-wasip1"),
    (b"\x1f\x8b", ", a file packed by gzip: unpack it"),
    (b"PK\3\4", ", a file packed by zip: unpack it"),
    (b"(module", ", WebAssembly as text: assemble it"),
    (b"BC\xc0\xde", ", an object of LLVM: link it for wasm32-wasip1"),
    (b"!<arch>", ", a library of objects: link a program for wasm32-wasip1"),
)
"""What else is given for a module, by how it begins, and what helps."""

_TYPE, _IMPORT, _FUNCTION, _MEMORY, _EXPORT, _CODE = 1, 2, 3, 5, 7, 10  # sections
_FUNC_KIND: Final = 0

_NUMBERS: Final = {0x7F: "i", 0x7E: "I", 0x7D: "f", 0x7C: "F", 0x7B: "v"}
_ABSTRACT: Final = frozenset(range(0x68, 0x76))  # references that a byte names: funcref, anyref, …
_NULLABLE, _NOT_NULL = 0x63, 0x64

Signature: TypeAlias = tuple[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Objection:
    """Why no worker can run a module: what the worker would call the fault, and one line."""

    fault: Fault
    detail: str


class _Unknown(Exception):
    """Something that this parser cannot judge."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a memory or a table begins with, in pages or elements."""

    least: int
    shared: bool
    other_pages: bool


@dataclass(frozen=True, slots=True)
class _Import:
    """One thing that a module wants of its host."""

    module: str
    name: str
    kind: int
    type_index: int = 0
    memory: _Limits | None = None


class _Cursor:
    """Reads the bytes of a section, and nothing beyond its end."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    @property
    def at(self) -> int:
        return self._at

    def byte(self) -> int:
        if self._at >= self._end:
            raise _Unknown
        value = self._data[self._at]
        self._at += 1
        return value

    def peek(self) -> int:
        if self._at >= self._end:
            raise _Unknown
        return self._data[self._at]

    def number(self, bits: int = 32) -> int:
        """Read an unsigned LEB128 of so many bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise _Unknown
        if value >> bits:
            raise _Unknown
        return value

    def skip_number(self) -> None:
        """Pass over a LEB128, signed or not, of 33 bits at most."""
        for _ in range(5):
            if self.byte() < 0x80:
                return
        raise _Unknown

    def text(self) -> str:
        length = self.number()
        start, self._at = self._at, self._at + length
        if self._at > self._end:
            raise _Unknown
        try:
            return self._data[start : self._at].decode()
        except UnicodeDecodeError:
            raise _Unknown from None

    def times(self, read: Callable[[], _T]) -> Iterator[_T]:
        """Read a vector; its length is only believed as far as there are bytes."""
        for _ in range(self.number()):
            yield read()

    # Types

    def value_type(self) -> str:
        """Read a value type as one letter; all references are alike here."""
        code = self.byte()
        if letter := _NUMBERS.get(code):
            return letter
        if code in _ABSTRACT:
            return "r"
        if code in (_NULLABLE, _NOT_NULL):
            return self._heap_type()
        raise _Unknown

    def _heap_type(self) -> str:
        first = self.peek()
        if 0x40 <= first < 0x80 and first not in _ABSTRACT:
            raise _Unknown  # shared, exact, or something newer
        self.skip_number()
        return "r"

    def _field(self) -> None:
        if self.peek() in (0x78, 0x77):  # i8, i16
            self.byte()
        else:
            self.value_type()
        self.byte()  # whether it can be changed

    def _function_type(self) -> Signature:
        return "".join(self.times(self.value_type)), "".join(self.times(self.value_type))

    def _defined_type(self) -> Signature | None:
        code = self.byte()
        if code in (0x50, 0x4F):  # a subtype, open or final
            for _ in self.times(self.skip_number):
                pass
            code = self.byte()
        match code:
            case 0x60:
                return self._function_type()
            case 0x5F:
                for _ in self.times(self._field):
                    pass
            case 0x5E:
                self._field()
            case _:
                raise _Unknown
        return None

    def type_group(self) -> list[Signature | None]:
        """Read one entry of the type section, which defines one type or several."""
        if self.peek() == 0x4E:
            self.byte()
            return list(self.times(self._defined_type))
        return [self._defined_type()]

    # Imports, exports, memories

    def limits(self) -> _Limits:
        flags = self.byte()
        if flags > 0b1111:
            raise _Unknown
        wide = bool(flags & 4)
        least = self.number(64 if wide else 32)
        if flags & 1:
            self.number(64 if wide else 32)
        if flags & 8:
            self.number()
        return _Limits(least, bool(flags & 2), bool(flags & 8))

    def imported(self) -> _Import:
        module, name, kind = self.text(), self.text(), self.byte()
        match kind:
            case 0:
                return _Import(module, name, kind, type_index=self.number())
            case 1:
                self.value_type()
                self.limits()
            case 2:
                return _Import(module, name, kind, memory=self.limits())
            case 3:
                self.value_type()
                self.byte()
            case 4:
                self.byte()
                self.number()
            case _:
                raise _Unknown
        return _Import(module, name, kind)

    def exported(self) -> tuple[str, int, int]:
        return self.text(), self.byte(), self.number()


class _Sections:
    """The sections of a module, as far as its head shows them whole."""

    def __init__(self, head: bytes, size: int) -> None:
        self._data: Final = head
        self._found: Final[dict[int, tuple[int, int]]] = {}
        self.complete = False  # whether everything that stands before the code was seen
        self.cut_at: int | None = None
        cursor = _Cursor(head, len(MAGIC) + len(CORE_VERSION), len(head))
        try:
            while cursor.at < size:
                start = cursor.at
                section = cursor.byte()
                length = cursor.number()
                begin, end = cursor.at, cursor.at + length
                if end > size:
                    self.cut_at = start
                    return
                self.complete |= section == _CODE
                if end > len(head):
                    return
                self._found.setdefault(section, (begin, end))
                cursor = _Cursor(head, end, len(head))
        except _Unknown:
            return
        self.complete = True

    def open(self, section: int) -> _Cursor:
        """A section from its begin; an empty one for what is not there."""
        if section not in self._found:
            if not self.complete:
                raise _Unknown
            return _Cursor(b"\0", 0, 1)
        return _Cursor(self._data, *self._found[section])

    @cached_property
    def imports(self) -> tuple[_Import, ...]:
        cursor = self.open(_IMPORT)
        return tuple(cursor.times(cursor.imported))

    @cached_property
    def types(self) -> tuple[Signature | None, ...]:
        cursor = self.open(_TYPE)
        return tuple(one for group in cursor.times(cursor.type_group) for one in group)


def objection(head: bytes, size: int, memory_bytes: int) -> Objection | None:
    """Say why no worker can run a module; None where nothing is certain.

    Args:
        head: its first bytes, ``HEAD_BYTES`` of them if it has so many.
        size: how many it has.
        memory_bytes: linear memory that its task may have.
    """
    head = head[:HEAD_BYTES]
    if (found := begin_objection(head)) is not None:
        return found
    sections = _Sections(head, size)
    if sections.cut_at is not None:
        return Objection(
            Fault.NOT_WASM,
            f"the module is cut off or damaged: what begins at byte {sections.cut_at} ends behind"
            f" its {size} bytes",
        )
    for look in (_memory_objection, _import_objection, _start_objection):
        try:
            found = look(sections, memory_bytes)
        except _Unknown:
            continue
        if found is not None:
            return found
    return None


def begin_objection(head: bytes) -> Objection | None:
    """Say why bytes that begin so are no module of the one version that workers run."""
    if head[: len(MAGIC)] != MAGIC:
        start = head[:4].hex(" ") or "nothing"
        what = next((what for begin, what in _OTHERS if head.startswith(begin)), "")
        return Objection(
            Fault.NOT_WASM, f"the module is not WebAssembly: it starts with {start}{what}"
        )
    if len(head) < len(MAGIC) + len(CORE_VERSION):
        return Objection(
            Fault.NOT_WASM,
            f"the module is cut off: it has {len(head)} bytes, and the head alone has"
            f" {len(MAGIC) + len(CORE_VERSION)}",
        )
    if head[len(MAGIC) : len(MAGIC) + len(CORE_VERSION)] != CORE_VERSION:
        return Objection(Fault.NOT_WASM, _other_version(head))
    return None


def _other_version(head: bytes) -> str:
    if head[6:8] == _COMPONENT_LAYER:
        return "the module is a component: build a WASI preview 1 command (target wasm32-wasip1)"
    return (
        f"the module is of another version of WebAssembly ({head[4:8].hex(' ')}): build a WASI"
        " preview 1 command (target wasm32-wasip1)"
    )


def _memory_objection(sections: _Sections, memory_bytes: int) -> Objection | None:
    cursor = sections.open(_MEMORY)
    own = list(cursor.times(cursor.limits))
    foreign = [one.memory for one in sections.imports if one.memory is not None]
    memories = foreign + own
    if any(memory.shared for memory in memories):
        return Objection(Fault.NOT_WASM, _THREADS)
    if any(memory.other_pages for memory in memories):
        return Objection(Fault.NOT_WASM, _PAGE_SIZES)
    if len(memories) > 1:
        return Objection(Fault.NOT_WASM, _SEVERAL_MEMORIES)
    if own and own[0].least * PAGE_BYTES > memory_bytes:
        least = format_bytes(own[0].least * PAGE_BYTES)
        return Objection(
            Fault.OUT_OF_MEMORY,
            f"the module needs at least {least} of memory at its start, and its task may have"
            f" {format_bytes(memory_bytes)}: give more with `limits.memory_bytes`",
        )
    return None


def _import_objection(sections: _Sections, _memory_bytes: int) -> Objection | None:
    wanted = sections.imports
    absent = [one for one in wanted if one.module != NAMESPACE or one.name not in PREVIEW1]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        line = f"{absent[0].module}::{absent[0].name}"
        text = f"the module wants the import {one_line(line, 120)}{more}, which no worker has"
        return Objection(Fault.MISSING_IMPORT, one_line(text + _advice(line), DETAIL_LENGTH))
    types = sections.types
    for one in wanted:
        if one.kind == _FUNC_KIND and one.type_index < len(types):
            has = types[one.type_index]
        elif one.kind == _FUNC_KIND:
            raise _Unknown
        else:
            has = None
        if has != (PREVIEW1[one.name], results_of(one.name)):
            return Objection(
                Fault.MISSING_IMPORT,
                f"the module wants {NAMESPACE}::{one.name} as something else than it is: compile"
                " it anew, for wasm32-wasip1",
            )
    return None


def _advice(line: str) -> str:
    return next(
        (f" (it needs {advice})" for words, advice in IMPORT_ADVICE if line.startswith(words)), ""
    )


def _start_objection(sections: _Sections, _memory_bytes: int) -> Objection | None:
    cursor = sections.open(_EXPORT)
    start = next((one for one in cursor.times(cursor.exported) if one[0] == "_start"), None)
    if start is None or start[1] != _FUNC_KIND:
        return Objection(Fault.NO_START, _NO_START)
    has = _signature(sections, start[2])
    return Objection(Fault.NO_START, _NO_START) if has not in (None, ("", "")) else None


def _signature(sections: _Sections, index: int) -> Signature | None:
    """The type of a function by its number: those that are imported come first."""
    foreign = [one.type_index for one in sections.imports if one.kind == _FUNC_KIND]
    types = sections.types
    if index >= len(foreign):
        cursor = sections.open(_FUNCTION)
        if index - len(foreign) >= cursor.number():
            raise _Unknown
        for _ in range(index - len(foreign)):
            cursor.skip_number()
        type_index = cursor.number()
    else:
        type_index = foreign[index]
    if type_index >= len(types):
        raise _Unknown
    return types[type_index]
