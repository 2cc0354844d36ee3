"""Compiling and running WASI commands inside a runner process.

Nothing here trusts the module.  Compiled code is only ever read back from the worker's own folder;
what comes over the network is WebAssembly and is compiled here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import stat
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wasmtime import (
    Config,
    Engine,
    ExitTrap,
    Func,
    FuncType,
    InstancePre,
    Linker,
    Memory,
    Module,
    Store,
    Trap,
    TrapCode,
    WasiConfig,
    WasmtimeError,
)

from fog_compute.tasks.model import DETAIL_LENGTH
from fog_compute.text import one_line
from fog_compute.worker.protocol import NEVER_EXITED, Ran, Run
from fog_compute.worker.wasi import DeterministicWasi, GuestExit

MAGIC: Final = b"\0asm"
CORE_VERSION: Final = b"\x01\0\0\0"
MODULES_IN_MEMORY: Final = 16
CACHE_BYTES: Final = 1024 * 1024 * 1024
TABLE_ELEMENTS: Final = 1_000_000
PROFILE: Final = "fuel,canonical-nan,deterministic-simd,1"  # part of the cache's names

_TRAP_FAULTS: Final = {
    TrapCode.OUT_OF_FUEL: "out_of_fuel",
    TrapCode.ALLOCATION_TOO_LARGE: "out_of_memory",
}


class ModuleFault(Exception):
    """What is wrong with a module: the fault's name and one line."""

    def __init__(self, fault: str, detail: str) -> None:
        self.fault = fault
        self.detail = one_line(detail, DETAIL_LENGTH)  # parts of it are the module's own words
        super().__init__(self.detail)


@dataclass(slots=True)
class _Usage:
    exit_code: int = NEVER_EXITED
    fuel_used: int = 0
    peak_memory: int = 0


class Sandbox:
    """Compiles modules, keeps them, and runs each task in a store of its own."""

    def __init__(self, cache: Path, stdout: int, stderr: int) -> None:
        """Keep compiled modules in ``cache``; guests write to the two file descriptors."""
        self._engine = Engine(_config())
        self._outputs = (f"/proc/self/fd/{stdout}", f"/proc/self/fd/{stderr}")
        self._linker = Linker(self._engine)
        self._linker.define_wasi()
        self._linker.allow_shadowing = True
        self._wasi = DeterministicWasi(self._engine, self._linker)
        self._cache = _CompiledCache(cache)
        self._ready: OrderedDict[str, InstancePre] = OrderedDict()

    def known(self, module_id: str) -> bool:
        """Say whether the module can run without its bytes."""
        if module_id in self._ready:
            self._ready.move_to_end(module_id)
            return True
        module = self._cache.load(self._engine, module_id)
        if module is None:
            return False
        self._keep(module_id, self._link(module))
        return True

    def compile(self, module_id: str, data: bytes) -> None:
        """Compile a module and keep it; raise `ModuleFault` if it cannot run here."""
        if data[:4] != MAGIC:
            start = data[:4].hex(" ") or "nothing"
            raise ModuleFault("not_wasm", f"the module is not WebAssembly: it starts with {start}")
        if data[4:8] != CORE_VERSION:
            raise ModuleFault(
                "not_wasm",
                "the module is a component or of an unknown version: build a WASI"
                " preview 1 command (target wasm32-wasip1)",
            )
        try:
            module = Module(self._engine, data)
        except WasmtimeError as err:
            line = _line(err)
            fault = "out_of_memory" if "memory size must be at most" in str(err) else "not_wasm"
            raise ModuleFault(fault, f"the module is not valid: {line}") from None
        linked = self._link(module)
        self._keep(module_id, linked)
        self._cache.save(module_id, module)

    def run(self, run: Run) -> Ran:
        """Run a known module; every outcome that the module can cause is in the answer."""
        usage = _Usage()
        fault: str | None = None
        detail = ""
        began = time.monotonic()
        try:
            self._execute(run, usage)
        except ModuleFault as err:
            fault, detail = err.fault, err.detail
        return Ran(
            exit_code=usage.exit_code,
            trap=fault,
            detail=detail,
            fuel_used=usage.fuel_used,
            wall_ms=round((time.monotonic() - began) * 1000),
            peak_memory=usage.peak_memory,
        )

    def _execute(self, run: Run, usage: _Usage) -> None:
        store = Store(self._engine)
        store.set_limits(
            memory_size=run.memory_bytes,
            table_elements=TABLE_ELEMENTS,
            instances=2,  # the guest, and ours that stands between it and the host's files
            tables=16,
            memories=2,
        )
        store.set_fuel(run.fuel)
        store.set_wasi(self._wasi_config(run))
        self._wasi.begin(run.seed, store)
        memory: Memory | None = None
        try:
            try:
                instance = self._ready[run.module_id].instantiate(store)
            except WasmtimeError as err:
                raise _instantiation_fault(err, run.memory_bytes) from None
            exports = instance.exports(store)
            exported = exports.get("memory")
            memory = exported if isinstance(exported, Memory) else None
            start = exports["_start"]
            if isinstance(start, Func):
                start(store)
            usage.exit_code = 0
        except GuestExit as end:
            usage.exit_code = end.code
        except ExitTrap as end:
            usage.exit_code = end.code
        except Trap as trap:
            raise _trap_fault(trap, run.fuel) from None
        except WasmtimeError as err:
            raise ModuleFault("trap", f"the module stopped: {_line(err)}") from None
        finally:
            self._wasi.end()
            usage.fuel_used = run.fuel - store.get_fuel()
            if memory is not None:
                usage.peak_memory = memory.data_len(store)

    def _wasi_config(self, run: Run) -> WasiConfig:
        wasi = WasiConfig()
        wasi.argv = ["main.wasm", *run.argv]
        wasi.stdin_file = run.stdin
        wasi.stdout_file, wasi.stderr_file = self._outputs
        wasi.preopen_dir(run.inputs, "/", False)
        if run.scratch is not None:
            wasi.preopen_dir(run.scratch, "/tmp", True)  # noqa: S108  # the guest's, not the host's
        return wasi

    def _link(self, module: Module) -> InstancePre:
        start = next((e.type for e in module.exports if e.name == "_start"), None)
        if not isinstance(start, FuncType) or start.params or start.results:
            raise ModuleFault(
                "no_start",
                "the module is no command: it exports no function _start without"
                " parameters (build a program, not a library)",
            )
        try:
            return self._linker.instantiate_pre(module)
        except WasmtimeError as err:
            raise ModuleFault(
                "missing_import", f"the module needs what no worker has: {_line(err)}"
            ) from None

    def _keep(self, module_id: str, linked: InstancePre) -> None:
        self._ready[module_id] = linked
        if len(self._ready) > MODULES_IN_MEMORY:
            self._ready.popitem(last=False)


class _CompiledCache:
    """Compiled modules in a folder that only this user can write: the only ones ever read back."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
        self._usable = (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.getuid()
            and stat.S_IMODE(status.st_mode) == 0o700
        )
        self._folder = folder
        self._suffix = f"\0{importlib.metadata.version('wasmtime')}\0{PROFILE}".encode()

    def load(self, engine: Engine, module_id: str) -> Module | None:
        """Return a compiled module, or None if there is none that fits this engine."""
        if not self._usable:
            return None
        path = self._path(module_id)
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
                return None
            module = Module.deserialize_file(engine, str(path))
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, WasmtimeError):
            path.unlink(missing_ok=True)
            return None
        return module

    def save(self, module_id: str, module: Module) -> None:
        """Keep a compiled module; a full disk only means that it is compiled again."""
        if not self._usable:
            return
        temporary = self._folder / f".new-{os.urandom(8).hex()}"
        with contextlib.suppress(OSError):
            try:
                with temporary.open("xb") as file:
                    file.write(module.serialize())
                temporary.replace(self._path(module_id))
            finally:
                temporary.unlink(missing_ok=True)
            self._prune()

    def _path(self, module_id: str) -> Path:
        name = hashlib.sha256(module_id.encode() + self._suffix).hexdigest()
        return self._folder / f"{name}.cwasm"

    def _prune(self) -> None:
        files = sorted(
            ((p.stat().st_mtime, p.stat().st_size, p) for p in self._folder.glob("*.cwasm")),
            reverse=True,
        )
        total = 0
        for _, size, path in files:
            total += size
            if total > CACHE_BYTES:
                path.unlink(missing_ok=True)


def _config() -> Config:
    config = Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd_deterministic = True
    config.wasm_threads = False
    config.wasm_multi_memory = False
    config.wasm_memory64 = True
    return config


def _instantiation_fault(error: WasmtimeError, memory_bytes: int) -> ModuleFault:
    text = str(error)
    if "exceeds memory limits" in text or "exceeds table limits" in text:
        return ModuleFault(
            "out_of_memory",
            f"the module wants more than its limit of {memory_bytes} bytes of memory",
        )
    return ModuleFault("trap", f"the module could not start: {_line(error)}")


def _trap_fault(trap: Trap, fuel: int) -> ModuleFault:
    code = trap.trap_code
    fault = "trap" if code is None else _TRAP_FAULTS.get(code, "trap")
    if fault == "out_of_fuel":
        return ModuleFault(fault, f"the module used up its budget of {fuel} fuel")
    name = "a trap" if code is None else code.name.lower().replace("_", " ")
    frames = trap.frames
    where = frames[0].func_name if frames else None
    return ModuleFault(fault, f"the module trapped: {name}" + (f" in {where}" if where else ""))


def _line(error: Exception) -> str:
    """Return what an error of wasmtime says, as one line of any length."""
    lines = [part.strip() for part in str(error).splitlines() if part.strip()]
    return "; ".join(lines) or type(error).__name__
