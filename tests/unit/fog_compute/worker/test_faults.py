"""Whose fault it is: what the machine refused is never told of the module."""

from __future__ import annotations

import pytest
import wasmtime

from fog_compute.worker import wall
from fog_compute.worker.engine import PROFILES
from fog_compute.worker.engine import _config as config_of
from fog_compute.worker.faults import (
    MachineFault,
    ModuleFault,
    compile_fault,
    instantiation_fault,
    stop_fault,
)
from fog_compute.worker.wall.rooms import Rooms

GOOD = bytes(wasmtime.wat2wasm("(module)"))
REFUSALS = (
    "failed to map memory: Cannot allocate memory (os error 12)",
    "cannot create a memfd",
)


def error(text: str) -> wasmtime.WasmtimeError:
    return wasmtime.WasmtimeError(text)


@pytest.mark.parametrize("text", REFUSALS)
def test_what_the_machine_refused_is_no_fault_of_the_module(text: str) -> None:
    engine = wasmtime.Engine(config_of(PROFILES[0]))

    for fault in (
        compile_fault(error(text), engine, GOOD),
        instantiation_fault(error(f"while starting\n\n{text}"), 4096),
        stop_fault(error(text)),
    ):
        assert isinstance(fault, MachineFault)
        assert text in fault.detail


def test_what_a_module_wants_too_much_of_or_does_wrong_is_its_own() -> None:
    engine = wasmtime.Engine(config_of(PROFILES[0]))
    faults = [
        compile_fault(error("memory size must be at most 4 GiB"), engine, GOOD),
        compile_fault(error("nobody knows"), engine, GOOD),
        compile_fault(error("threads must be enabled"), engine, GOOD[:-1] + b"\x7f"),
        instantiation_fault(error("forcing 9 exceeds memory limits"), 4096),
        instantiation_fault(error("forcing 9 exceeds table limits"), 4096),
        instantiation_fault(error("an import is missing"), 4096),
        stop_fault(error("it gave up")),
    ]

    assert all(isinstance(fault, ModuleFault) for fault in faults)
    assert [fault.fault for fault in faults if isinstance(fault, ModuleFault)] == [
        *("out_of_memory", "not_wasm", "not_wasm"),
        *("out_of_memory", "out_of_memory", "trap", "trap"),
    ]
    assert "compile for wasm32-wasip1, not for wasm32-wasip1-threads" in str(faults[2])
    assert "4.0 KiB of memory: `limits.memory_bytes` allows more" in str(faults[3])


def test_an_error_of_the_engine_is_told_by_its_cause_alone() -> None:
    """INV-WORDS-04."""
    engine = wasmtime.Engine(config_of(PROFILES[0]))
    bad = GOOD[:-1] + b"\x7f"
    layers = "failed to compile: wasm[0]\n\nCaused by:\n    0: translation error\n    1: {}"

    said = {
        cause: str(compile_fault(error(layers.format(cause)), engine, bad))
        for cause in ("unexpected end-of-file", "type mismatch", "the x proposal is not enabled")
    }

    assert list(said.values()) == [
        "the module is cut off or damaged: unexpected end-of-file",
        "the module is not valid: type mismatch",
        (
            "the module is not valid: the x proposal is not enabled (it needs a proposal that no"
            " worker takes: compile for wasm32-wasip1, without it)"
        ),
    ]
    assert str(stop_fault(error("one\n\nCaused by:\n    two"))) == "the module stopped: one; two"


def test_wall_that_the_machine_refuses_is_said_and_the_others_are_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised = []

    def stands(rooms: Rooms) -> str:
        raised.append(rooms)
        return "keeps out"

    def refuses(_: Rooms) -> str:
        raise PermissionError(1, "Operation not permitted")

    def lacks(_: Rooms) -> str:
        raise FileNotFoundError(2, "No such file or directory", "/proc/self/ns")

    walls = {"a": stands, "b": refuses, "c": lacks, "d": stands}
    monkeypatch.setattr(wall, "_WALLS", walls)
    rooms = Rooms((), ())

    found = {one.name: (one.stands, one.says) for one in wall.raise_walls(rooms)}

    assert raised == [rooms, rooms]
    assert found["a"] == found["d"] == (True, "keeps out")
    assert found["b"] == (False, "this machine refuses it: Operation not permitted")
    assert not found["c"][0]
    assert "/proc/self/ns" in found["c"][1]
