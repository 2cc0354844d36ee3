"""A module is compiled in the way that its machine allows; what it computes is always the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.units import MIB
from fog_compute.worker.early import EARLY, with_early_start
from fog_compute.worker.engine import PROFILES, Profile, Sandbox
from fog_compute.worker.faults import ModuleFault
from fog_compute.worker.protocol import Run

from . import guests

ROOT = Path(__file__).parents[4]
WORDS = b"the quick brown fox jumps over the lazy dog " * 500

# Floats whose bits depend on how they are computed, a call through a table, memory that grows.
COMPUTES = guests.command(
    """(local $i i32) (local $x f64) (local $y f32)
    (local.set $x (f64.const 1.5))
    (loop $again
      (local.set $x (f64.sqrt (f64.sub (f64.mul (local.get $x) (f64.const 1.37)) (f64.const 0.9))))
      (local.set $y (f32.div (f32.demote_f64 (local.get $x)) (f32.const -0)))
      (f64.store (i32.add (i32.const 2048) (i32.shl (local.get $i) (i32.const 3)))
        (f64.add (local.get $x) (f64.promote_f32 (local.get $y))))
      (call_indirect (param i32) (local.get $i) (i32.and (local.get $i) (i32.const 1)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 4000))))
    (memory.copy (i32.const 40000) (i32.const 2048) (i32.const 32000))
    (drop (call $write (i32.const 1) (i32.const 2048) (i32.const 72000)))
    (call $proc_exit (memory.size))""",
    definitions="""(table funcref (elem $adds $grows))
    (func $adds (param i32) (i32.store8 (i32.const 1024) (local.get 0)))
    (func $grows (param i32)
      (if (i32.eqz (i32.rem_u (local.get 0) (i32.const 97)))
        (then (drop (memory.grow (i32.const 1))))))""",
)


# Has data, which one host maps and another copies, and begins before its start.
BEGINS_EARLY = guests.command(
    """(i32.store8 (i32.const 1024) (i32.add (i32.const 64) (global.get $begun)))
    (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 3)))""",
    definitions=f"""(global $begun (mut i32) (i32.const 0))
    (data (i32.const 1024) "?!\\n") (data (i32.const 4096) "{"x" * 5000}")
    (table funcref (elem $early $early))
    (func $early (global.set $begun (i32.add (global.get $begun) (i32.const 1))))
    (start $early)""",
)


@contextmanager
def outputs() -> Iterator[tuple[int, int]]:
    opened = (os.memfd_create("stdout"), os.memfd_create("stderr"))
    try:
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


class Left(NamedTuple):
    """All that a task leaves."""

    exit_code: int
    fault: str | None
    detail: str
    fuel: int
    memory: int
    stdout: bytes
    stderr: bytes


def ran(home: Path, profile: Profile, module: bytes, fuel: int) -> Left:
    """Return what a task leaves on a machine that allows this profile."""
    work = home / "work"
    for folder in (work, home / "compiled"):
        folder.mkdir(mode=0o700, parents=True)
    (home / "stdin").write_bytes(WORDS)
    with outputs() as opened:
        sandbox = Sandbox(home / "compiled", *opened, profile)
        sandbox.compile("m", module)
        run = Run(
            module_id="m",
            argv=("main.wasm",),
            stdin=os.fsencode(home / "stdin"),
            work=os.fsencode(work),
            memory_bytes=16 * MIB,
            fuel=fuel,
            cpu_s=0,
            file_bytes=0,
            seed=bytes(32),
        )
        end = sandbox.run(run)
        stdout, stderr = (os.pread(one, 1 << 20, 0) for one in opened)
    return Left(
        end.exit_code, end.fault, end.detail, end.fuel_used, end.peak_memory, stdout, stderr
    )


@pytest.mark.parametrize("fuel", [10**10, 20_011])
@pytest.mark.parametrize("profile", PROFILES[1:], ids=lambda profile: profile.name)
def test_a_module_computes_and_burns_the_same_however_it_was_compiled(
    tmp_path: Path, profile: Profile, fuel: int
) -> None:
    """INV-TASK-84: also to the very instruction at which its fuel ends."""
    words = (ROOT / "examples/wordcount/wordcount.wasm").read_bytes()
    for name, module in (("computes", COMPUTES), ("words", words), ("early", BEGINS_EARLY)):
        best = ran(tmp_path / name / "best", PROFILES[0], module, fuel)
        other = ran(tmp_path / name / "other", profile, module, fuel)
        assert other == best
        assert best.fault == (None if fuel > 10**9 or name == "early" else "out_of_fuel")


def test_a_start_function_runs_once_before_the_start_and_its_fuel_counts(tmp_path: Path) -> None:
    """INV-TASK-84."""
    whole = ran(tmp_path / "whole", Profile(), BEGINS_EARLY, 10**6)
    assert (whole.exit_code, whole.fault, whole.stdout) == (0, None, b"A!\n")
    enough = ran(tmp_path / "enough", Profile(), BEGINS_EARLY, whole.fuel)
    assert enough == whole
    short = ran(tmp_path / "short", Profile(), BEGINS_EARLY, 3)
    assert (short.fault, short.fuel, short.stdout) == ("out_of_fuel", 3, b"")


def test_only_a_module_that_has_one_start_function_is_changed() -> None:
    early = with_early_start(BEGINS_EARLY)
    assert early != BEGINS_EARLY
    assert len(early) < len(BEGINS_EARLY) + 16
    assert EARLY.encode() in early
    assert with_early_start(early) == early
    assert with_early_start(COMPUTES) is COMPUTES
    twice = BEGINS_EARLY + b"\x08\x01\x00"
    for module in (twice, b"", b"\0asm", guests.COMPONENT, guests.NOT_VALID, bytes(100)):
        assert with_early_start(module) is module


@given(st.binary(max_size=64), st.integers(0, len(BEGINS_EARLY)))
def test_whatever_the_bytes_are_they_come_back(tail: bytes, at: int) -> None:
    """Cut off anywhere, with anything behind; sections that are whole are the same afterwards."""
    module = BEGINS_EARLY[:at] + tail
    assert len(with_early_start(module)) <= len(module) + 16


def test_a_start_function_with_a_type_is_no_valid_one(tmp_path: Path) -> None:
    plain = guests.assemble(
        '(module (func $early (param i32)) (func $other) (start $other) (func (export "_start")))'
    )
    at = plain.index(b"\x08\x01\x01")
    wrong = plain[: at + 2] + b"\x00" + plain[at + 3 :]
    with outputs() as opened, pytest.raises(ModuleFault, match="not valid") as caught:
        Sandbox(tmp_path, *opened, Profile()).compile("m", wrong)
    assert caught.value.fault == "not_wasm"
