"""Whose fault it is that a task did not run to its end: the module's, or the machine's."""

from __future__ import annotations

import re
from typing import Final

from wasmtime import Engine, Module, Trap, TrapCode, WasmtimeError

from fog_compute.tasks.model import DETAIL_LENGTH
from fog_compute.text import one_line
from fog_compute.units import format_bytes

# How wasmtime ends a line about what the operating system refused; a module has no say in it.
_REFUSED: Final = re.compile(r"(\(os error \d+\)|cannot create a memfd)$")

_UNCAUGHT: Final = "thrown Wasm exception"

_TRAP_FAULTS: Final = {
    TrapCode.OUT_OF_FUEL: "out_of_fuel",
    TrapCode.ALLOCATION_TOO_LARGE: "out_of_memory",
}

# Compilers keep what has an address on a stack of their own, below all else in the memory.
_TRAP_ADVICE: Final = {
    TrapCode.MEMORY_OUT_OF_BOUNDS: " (recursion that is too deep ends so, too)",
}


_THROWN: Final = ": catch it, or compile for wasm32-wasip1 without exceptions"


class ModuleFault(Exception):
    """What is wrong with a module: the fault's name and one line."""

    def __init__(self, fault: str, detail: str) -> None:
        self.fault = fault
        self.detail = one_line(detail, DETAIL_LENGTH)  # parts of it are the module's own words
        super().__init__(self.detail)


class MachineFault(Exception):
    """What the machine refused, in one line: nothing that a module did."""

    def __init__(self, detail: str) -> None:
        self.detail = one_line(detail, DETAIL_LENGTH)
        super().__init__(self.detail)


def compile_fault(error: WasmtimeError, engine: Engine, data: bytes) -> Exception:
    """Say whose fault it is that a module does not compile."""
    line = line_of(error)
    try:
        Module.validate(engine, data)
    except WasmtimeError:
        cause = cause_of(error)
        if _CUT_OFF in cause:
            return ModuleFault("not_wasm", f"the module is cut off or damaged: {cause}")
        return ModuleFault("not_wasm", f"the module is not valid: {cause}{advice(line)}")
    if _REFUSED.search(line):
        return MachineFault(f"the module cannot be compiled here: {line}")
    fault = "out_of_memory" if "memory size must be at most" in line else "not_wasm"
    return ModuleFault(fault, f"the module cannot be compiled: {line}")


def instantiation_fault(error: WasmtimeError, memory_bytes: int) -> Exception:
    """Say whose fault it is that no instance of a module can be made."""
    text = str(error)
    if _REFUSED.search(line_of(error)):
        return MachineFault(f"no instance can be made here: {line_of(error)}")
    if "exceeds memory limits" in text or "exceeds table limits" in text:
        return ModuleFault(
            "out_of_memory",
            f"the module wants more than its limit of {format_bytes(memory_bytes)} of memory:"
            " `limits.memory_bytes` allows more",
        )
    return ModuleFault("trap", f"the module could not start: {line_of(error)}")


# How wasmtime lays out an error: what failed, a heading, and numbered causes, the deepest last.
_HEADING: Final = "Caused by:"
_NUMBER: Final = re.compile(r"^[0-9]+: ")
_CUT_OFF: Final = "unexpected end"

_UNKNOWN: Final = "a proposal that no worker takes: compile for wasm32-wasip1, without it"

# Words of wasmtime's about what is switched off here, and what helps.
_ADVICE: Final = (
    (
        "threads must be enabled",
        "threads: compile for wasm32-wasip1, not for wasm32-wasip1-threads",
    ),
    (
        "threads support",
        "threads: compile for wasm32-wasip1, without -matomics",
    ),
    ("shared-everything-threads", "shared tables or globals: compile without threads"),
    ("multiple memories", "several memories: compile without -mmultimemory"),
    ("exceptions proposal", "exceptions: compile without -fwasm-exceptions"),
    ("legacy exceptions", "exceptions of the old kind: compile with -wasm-use-legacy-eh=false"),
    ("gc proposal", "garbage collection: compile for linear memory (target wasm32-wasip1)"),
    ("stack switching", "stack switching: compile without it"),
    ("custom page sizes", "pages of another size: compile with pages of 64 KiB"),
    ("not enabled", _UNKNOWN),
    ("disabled", _UNKNOWN),
    ("illegal opcode", _UNKNOWN),
    ("subopcode", _UNKNOWN),
)


def advice(line: str, table: tuple[tuple[str, str], ...] = ()) -> str:
    """Name the feature that a module needs and no worker has, and what to compile for."""
    lower = line.lower()
    for words, advice in table or _ADVICE:
        if words in lower:
            return f" (it needs {advice})"
    return ""


def stop_fault(error: WasmtimeError) -> Exception:
    """Say whose fault it is that a module stopped without a trap."""
    line = line_of(error)
    if _REFUSED.search(line):
        return MachineFault(f"the task was stopped here: {line}")
    return ModuleFault("trap", f"the module stopped: {line}")


def trap_fault(trap: Trap, fuel: int) -> ModuleFault:
    """Say why a module trapped, and where."""
    code = trap.trap_code
    fault = "trap" if code is None else _TRAP_FAULTS.get(code, "trap")
    if fault == "out_of_fuel":
        return ModuleFault(
            fault, f"the module used up its budget of {fuel} fuel: `limits.fuel` allows more"
        )
    advice = "" if code is None else _TRAP_ADVICE.get(code, "")
    name = cause_of(trap) if code is None else code.name.lower().replace("_", " ")
    if code is None and _UNCAUGHT in name:
        name, advice = "it threw an exception that nothing caught", _THROWN
    frames = trap.frames
    where = frames[0].func_name if frames else None
    return ModuleFault(
        fault, f"the module trapped: {name}" + (f" in {where}" if where else "") + advice
    )


def line_of(error: Exception) -> str:
    """Return what an error of wasmtime says, as one line of any length, its cause last."""
    return "; ".join(_said(error)) or type(error).__name__


def cause_of(error: Exception) -> str:
    """Return what lies behind an error of wasmtime, without what that kept it from."""
    return (_said(error) or [type(error).__name__])[-1]


def _said(error: Exception) -> list[str]:
    """The lines of an error without its headings and numbers."""
    lines = (_NUMBER.sub("", part.strip()) for part in str(error).splitlines())
    return [line for line in lines if line and line != _HEADING]
