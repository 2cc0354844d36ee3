"""What is said of a module before it leaves, and that the worker says the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.tasks import Fault
from fog_compute.tasks.wasm import CORE_VERSION, HEAD_BYTES, MAGIC, Objection, _Cursor, objection
from fog_compute.units import GIB, KIB, MIB
from fog_compute.worker.engine import Profile, Sandbox
from fog_compute.worker.faults import ModuleFault
from tests.unit.fog_compute.worker import guests, scripted
from tests.unit.fog_compute.worker.guests import assemble

ROOT = Path(__file__).parents[4]

START = '(func (export "_start"))'


def wat(text: str) -> bytes:
    return assemble(f"(module {text} {START})")


THREADS = wat('(import "env" "memory" (memory 1 1 shared))')
REFUSED = {
    "nothing": (b"", Fault.NOT_WASM, "it starts with nothing"),
    "text": (b"#!/bin/sh", Fault.NOT_WASM, "it starts with 23 21 2f 62"),
    "component": (guests.COMPONENT, Fault.NOT_WASM, "a component: build a WASI preview 1 command"),
    "version": (b"\0asm\x02\0\0\0", Fault.NOT_WASM, "another version"),
    "four bytes": (b"\0asm", Fault.NOT_WASM, "cut off: it has 4 bytes, and the head alone has 8"),
    "seven bytes": (b"\0asm\1\0\0", Fault.NOT_WASM, "cut off: it has 7 bytes"),
    "a program": (b"\x7fELF\2\1", Fault.NOT_WASM, "a program for this machine: compile it for"),
    "packed": (b"\x1f\x8b\x08\0", Fault.NOT_WASM, "a file packed by gzip: unpack it"),
    "as text": (b"(module)", Fault.NOT_WASM, "WebAssembly as text: assemble it"),
    "cut off": (guests.ECHO[:-9], Fault.NOT_WASM, "cut off or damaged"),
    "threads": (THREADS, Fault.NOT_WASM, "needs threads"),
    "shared memory": (wat("(memory 1 1 shared)"), Fault.NOT_WASM, "needs threads"),
    "several memories": (wat("(memory 1) (memory 1)"), Fault.NOT_WASM, "several memories"),
    "page size": (wat("(memory 1 (pagesize 1))"), Fault.NOT_WASM, "pages of another size"),
    "host": (guests.NEEDS_A_HOST, Fault.MISSING_IMPORT, "the import env::secret, which no worker"),
    "two imports": (
        wat('(import "env" "a" (func)) (import "env" "b" (global i32))'),
        Fault.MISSING_IMPORT,
        "env::a and 1 more",
    ),
    "spawn": (
        wat('(import "wasi" "thread-spawn" (func (param i32) (result i32)))'),
        Fault.MISSING_IMPORT,
        "it needs threads",
    ),
    "an older API": (
        wat('(import "wasi_unstable" "fd_close" (func (param i32) (result i32)))'),
        Fault.MISSING_IMPORT,
        "before WASI preview 1",
    ),
    "a memory": (wat('(import "env" "memory" (memory 1))'), Fault.MISSING_IMPORT, "import-memory"),
    "signature": (guests.BAD_SIGNATURE, Fault.MISSING_IMPORT, "proc_exit as something else"),
    "kind": (
        wat('(import "wasi_snapshot_preview1" "fd_read" (global i32))'),
        Fault.MISSING_IMPORT,
        "fd_read as something else",
    ),
    "library": (guests.LIBRARY, Fault.NO_START, "exports no function _start"),
    "arguments": (guests.TAKES_ARGUMENTS, Fault.NO_START, "without parameters"),
    "no function": (
        assemble('(module (memory (export "_start") 1))'),
        Fault.NO_START,
        "exports no function _start",
    ),
    "empty": (MAGIC + CORE_VERSION, Fault.NO_START, "no command"),
    "memory": (wat("(memory 40000)"), Fault.OUT_OF_MEMORY, "at least 2.4 GiB of memory"),
    "wide memory": (guests.WANTS_10_GB, Fault.OUT_OF_MEMORY, "at least 10.0 GiB"),
}
TAKEN = {
    "echo": guests.ECHO,
    "hello": guests.HELLO,
    "word count": (ROOT / "examples/wordcount/wordcount.wasm").read_bytes(),
    "all imports": scripted.MODULE,
    "tail calls": assemble('(module (func $f (export "_start") (return_call $f)))'),
    "structures": wat("(type (struct (field i32) (field (mut i8))))"),
    "arrays": wat("(type (array (mut i16)))"),
    "recursion": wat("(rec (type $a (struct (field (ref null $a)))) (type (func)))"),
    "subtypes": wat("(type $a (sub (func))) (type (sub $a (func)))"),
    "references": wat("(type $t (func)) (func (param (ref $t) anyref externref exnref i31ref))"),
    "exceptions": wat("(tag (param i32))"),
    "wide memory": wat("(memory i64 1 5)"),
    "wide table": wat("(table i64 1 funcref)"),
    "vectors": wat("(func (param v128 f32 f64 i64) (result i32 i32) unreachable)"),
    "imported start": assemble(
        '(module (import "wasi_snapshot_preview1" "sched_yield" (func $f (result i32)))'
        ' (func (export "x")) (func (export "_start")))'
    ),
}


def judged(data: bytes, memory_bytes: int = 1 * GIB) -> Objection | None:
    return objection(data[:HEAD_BYTES], len(data), memory_bytes)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("compiled"), 1, 2, Profile())


def fault_of(sandbox: Sandbox, data: bytes) -> str | None:
    """What the worker says of a module, before it runs anything of it."""
    try:
        sandbox.compile("0" * 64, data)
    except ModuleFault as fault:
        return fault.fault
    return None


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_worker_can_run_is_refused_with_what_helps(name: str) -> None:
    """INV-TASK-119, INV-WORDS-04."""
    data, fault, words = REFUSED[name]

    found = judged(data)

    assert found is not None
    assert found.fault is fault
    assert words in found.detail
    assert "\n" not in found.detail


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_worker_can_run_is_taken(name: str, sandbox: Sandbox) -> None:
    """INV-TASK-119."""
    assert judged(TAKEN[name]) is None
    assert fault_of(sandbox, TAKEN[name]) is None


@pytest.mark.parametrize("name", REFUSED)
def test_the_worker_agrees(name: str, sandbox: Sandbox) -> None:
    """INV-TASK-119."""
    data, fault, _ = REFUSED[name]
    if fault is not Fault.OUT_OF_MEMORY:  # which it says when it makes an instance
        # Of two faults it names the other one first.
        assert fault_of(sandbox, data) in {fault.value, "not_wasm"}


def test_memory_that_fits_is_no_objection() -> None:
    module = wat("(memory 3)")

    assert judged(module, 3 * 64 * KIB) is None
    assert judged(module, 3 * 64 * KIB - 1) is not None


def test_a_strangers_name_is_shown_as_one_short_line() -> None:
    name = "\\1b[31m\\n" * 200
    found = judged(wat(f'(import "{name}" "x" (func))'))

    assert found is not None
    assert found.detail.isprintable()
    assert len(found.detail) <= 400


def test_a_module_is_judged_by_its_begin() -> None:
    filling = "x" * (HEAD_BYTES + 3 * MIB)
    data = assemble(f'(module {START} (memory 1) (data (i32.const 0) "{filling}"))')
    library = assemble(f'(module (func) (memory 1) (data (i32.const 0) "{filling}"))')

    assert judged(data) is None
    assert judged(library) is not None


ALL = (*TAKEN.values(), *(entry[0] for entry in REFUSED.values()))
SMALL = [data for data in ALL if len(data) < 4 * KIB]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SMALL)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["set", "cut", "insert", "swap"])):
            case "set" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 9))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=5))
            case _:
                begin = draw(st.integers(0, len(data)))
                data[at:at] = data[begin : begin + 12]
    return bytes(data)


@given(data=mutated())
def test_nothing_is_refused_that_the_worker_would_take(data: bytes, sandbox: Sandbox) -> None:
    """INV-TASK-119."""
    if judged(data, 2**64) is not None:
        assert fault_of(sandbox, data) is not None


def sections() -> Iterator[bytes]:
    """Sections that promise and repeat as much as fits."""
    full = HEAD_BYTES
    for number, piece in {
        0: b"\0\0",
        1: b"\x60\0\0",
        2: b"\1a\1b\0\0",
        3: b"\0",
        5: b"\0\0",
        7: b"\0\0\0",
    }.items():
        for count in (b"\xff\xff\xff\xff\x0f", b"\xd0\x86\x03"):
            body = count + piece * (full // len(piece))
            size = len(body)
            length = bytes((size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14)) + bytes(
                [size >> 21]
            )
            yield MAGIC + CORE_VERSION + bytes([number]) + length + body
    yield MAGIC + CORE_VERSION + b"\0\0" * full
    yield MAGIC + CORE_VERSION + b"\1\x80\x80\x04\1\x60\xff\xff\x03" + b"\x7f" * full


@pytest.mark.parametrize("data", list(sections()), ids=lambda data: data[8:13].hex())
def test_the_work_is_bounded_by_the_size_of_the_head(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    read = _Cursor.byte

    def count(cursor: _Cursor) -> int:
        nonlocal steps
        steps += 1
        return read(cursor)

    monkeypatch.setattr(_Cursor, "byte", count)
    judged(data[: HEAD_BYTES + 1])

    assert steps < 6 * HEAD_BYTES


@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda tail: MAGIC + CORE_VERSION + tail),
        st.lists(st.tuples(st.integers(0, 15), st.binary(max_size=40)), max_size=9).map(
            lambda parts: (
                MAGIC
                + CORE_VERSION
                + b"".join(bytes([number, len(body)]) + body for number, body in parts)
            )
        ),
    ),
    st.integers(0, 400),
    st.integers(0, 2**63),
)
def test_any_bytes_get_a_verdict(data: bytes, missing: int, memory_bytes: int) -> None:
    found = objection(data, len(data) + missing, memory_bytes)

    assert found is None or found.detail


def test_mutations_reach_all_verdicts() -> None:
    rng, seen = Random(4), set()
    for _ in range(4000):
        data = bytearray(rng.choice(SMALL))
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        found = judged(bytes(data))
        seen.add(found and found.fault)

    assert seen == {None, Fault.NOT_WASM, Fault.MISSING_IMPORT, Fault.NO_START, Fault.OUT_OF_MEMORY}
