"""Compiling and running WASI commands inside a runner process.

Nothing here trusts the module.  Compiled code is only ever read back from the worker's own folder;
what comes over the network is WebAssembly and is compiled here.
"""

from __future__ import annotations

import mmap
import os
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
    WasiConfig,
    WasmtimeError,
    wat2wasm,
)

from fog_compute.tasks.wasm import IMPORT_ADVICE, begin_objection
from fog_compute.units import KIB, MIB
from fog_compute.worker.compiled import CompiledCache
from fog_compute.worker.early import EARLY, with_early_start
from fog_compute.worker.faults import (
    MachineFault,
    ModuleFault,
    advice,
    compile_fault,
    instantiation_fault,
    line_of,
    stop_fault,
    trap_fault,
)
from fog_compute.worker.folders import nameless_bytes
from fog_compute.worker.protocol import NEVER_EXITED, Ran, Run
from fog_compute.worker.wasi import DeterministicWasi, GuestExit

MODULES_IN_MEMORY: Final = 16
TABLE_ELEMENTS: Final = 1_000_000
PROFILE: Final = "fuel,canonical-nan,deterministic-simd,2"  # part of the cache's names

_PAGE_BYTES: Final = 64 * KIB
STACK_BYTES: Final = 512 * KIB  # of the guest; the thread that it runs on has far more
COMPILE_BYTES: Final = 256 * MIB  # what must be left beside a guest's memory, to compile it
_MAKING_FUEL: Final = 2**40  # more than filling all memories and tables of an instance burns
LEAST_LENT_BYTES: Final = 16 * MIB
GROWTH_BYTES: Final = 16 * MIB  # memory that grows is reserved in such steps if room is short


@dataclass(frozen=True, slots=True)
class Profile:
    """How wasmtime uses the machine; what a module computes and burns is equal under all.

    Attributes:
        roomy: memories are reserved at their largest, which is fastest and takes 4 GiB of
            addresses each.
        images: instances share the pages that their modules fill, over files in memory.
    """

    roomy: bool = True
    images: bool = True

    @property
    def name(self) -> str:
        """Part of the names of what was compiled so."""
        return PROFILE + ("" if self.roomy else ",small") + ("" if self.images else ",copied")


PROFILES: Final = (
    Profile(),
    Profile(images=False),
    Profile(roomy=False),
    Profile(roomy=False, images=False),
)
"""From the best to the one that needs least of the machine."""


@dataclass(slots=True)
class _Usage:
    exit_code: int = NEVER_EXITED
    fuel_used: int = 0
    peak_memory: int = 0
    nameless_bytes: int = 0


class Sandbox:
    """Compiles modules, keeps them, and runs each task in a store of its own."""

    def __init__(self, cache: Path, stdout: int, stderr: int, profile: Profile) -> None:
        """Look for compiled modules in ``cache``; guests write to the two file descriptors."""
        self._engine = Engine(_config(profile))
        self._outputs = (f"/proc/self/fd/{stdout}", f"/proc/self/fd/{stderr}")
        self._linker = Linker(self._engine)
        self._linker.define_wasi()
        self._linker.allow_shadowing = True
        self._wasi = DeterministicWasi(self._engine, self._linker)
        self._cache = CompiledCache(cache, profile.name)
        self._ready: OrderedDict[str, InstancePre] = OrderedDict()

    def known(self, module_id: str) -> bool:
        """Say whether the module can run without its bytes."""
        if module_id in self._ready:
            self._ready.move_to_end(module_id)
            return True
        path = self._cache.find(module_id)
        if path is None:
            return False
        try:
            module = Module.deserialize_file(self._engine, str(path))
        except (OSError, WasmtimeError):  # damaged, or of another processor
            return False
        self._keep(module_id, self._link(module))
        return True

    def compile(self, module_id: str, data: bytes) -> Module:
        """Compile a module and keep it in memory; raise `ModuleFault` if it cannot run here."""
        if (found := begin_objection(data)) is not None:
            raise ModuleFault(found.fault.value, found.detail)
        try:
            module = Module(self._engine, with_early_start(data))
        except WasmtimeError as err:
            raise compile_fault(err, self._engine, data) from None
        self._keep(module_id, self._link(module))
        return module

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
            fault=fault,
            detail=detail,
            fuel_used=usage.fuel_used,
            wall_ms=round((time.monotonic() - began) * 1000),
            peak_memory=usage.peak_memory,
            nameless_bytes=usage.nameless_bytes,
        )

    def probe(self, stdin: str, folder: str, memory_bytes: int) -> int:
        """Try all that a task needs of the machine; return how much memory one can have.

        Raises:
            MachineFault: what it refused.
        """
        place = os.fsencode(folder)
        run = Run("", (), os.fsencode(stdin), place, memory_bytes, _MAKING_FUEL, 0, 0, b"")
        try:
            # Not out of the cache: that this machine can compile is tried too.
            linked = self._link(Module(self._engine, bytes(wat2wasm(_PROBE))))
            with Store(self._engine) as store:
                self._prepare(store, run)
                self._wasi.begin(run.seed, store)
                exports = linked.instantiate(store).exports(store)
                start, grow = exports["_start"], exports["grow"]
                if not (isinstance(start, Func) and isinstance(grow, Func)):
                    raise MachineFault("the module that tries the machine is damaged")
                start(store)
                return _lendable(store, grow, memory_bytes)
        except ModuleFault as err:
            raise MachineFault(err.detail) from None
        except (Trap, WasmtimeError) as err:
            raise MachineFault(f"a task cannot run here: {line_of(err)}") from None
        finally:
            self._wasi.end()

    def _execute(self, run: Run, usage: _Usage) -> None:
        store = Store(self._engine)
        try:
            self._prepare(store, run)
            self._start(store, run, usage)
        finally:
            usage.nameless_bytes = nameless_bytes("self", os.fsdecode(run.work))
            # Not left to the collection of garbage, which may come many tasks later.
            store.close()

    def _prepare(self, store: Store, run: Run) -> None:
        store.set_limits(
            memory_size=run.memory_bytes,
            table_elements=TABLE_ELEMENTS,
            instances=2,  # the guest, and ours that stands between it and the host's files
            tables=16,
            memories=2,
        )
        store.set_fuel(_MAKING_FUEL)
        try:
            store.set_wasi(self._wasi_config(run))
        except WasmtimeError as err:
            raise MachineFault(f"the task's files cannot be opened: {line_of(err)}") from None

    def _start(self, store: Store, run: Run, usage: _Usage) -> None:
        self._wasi.begin(run.seed, store)
        memory: Memory | None = None
        try:
            try:
                instance = self._ready[run.module_id].instantiate(store)
            except WasmtimeError as err:
                raise instantiation_fault(err, run.memory_bytes) from None
            finally:
                store.set_fuel(run.fuel)
            exports = instance.exports(store)
            exported = exports.get("memory")
            memory = exported if isinstance(exported, Memory) else None
            for start in (exports.get(EARLY), exports["_start"]):
                if isinstance(start, Func):
                    start(store)
            usage.exit_code = 0
        except GuestExit as end:
            usage.exit_code = end.code
        except ExitTrap as end:
            usage.exit_code = end.code
        except Trap as trap:
            raise trap_fault(trap, run.fuel) from None
        except WasmtimeError as err:
            raise stop_fault(err) from None
        finally:
            self._wasi.end()
            usage.fuel_used = run.fuel - store.get_fuel()
            if memory is not None:
                usage.peak_memory = memory.data_len(store)

    def _wasi_config(self, run: Run) -> WasiConfig:
        wasi = WasiConfig()
        wasi.argv = run.argv
        wasi.env = run.env
        wasi.stdin_file = os.fsdecode(run.stdin)
        wasi.stdout_file, wasi.stderr_file = self._outputs
        # Libraries take both "a.txt" and "/a.txt" for a file in the first folder named so.
        wasi.preopen_dir(os.fsdecode(run.work), "/", True)
        return wasi

    def _link(self, module: Module) -> InstancePre:
        start = next((e.type for e in module.exports if e.name == "_start"), None)
        if not isinstance(start, FuncType) or start.params or start.results:
            raise ModuleFault(
                "no_start",
                "the module is no command: it exports no function _start without"
                " parameters (build a program, not a library)",
            )
        early = next((e.type for e in module.exports if e.name == EARLY), None)
        if isinstance(early, FuncType) and (early.params or early.results):
            raise ModuleFault("not_wasm", "the module is not valid: its start function has a type")
        try:
            return self._linker.instantiate_pre(module)
        except WasmtimeError as err:
            raise ModuleFault(
                "missing_import",
                f"the module needs what no worker has: {line_of(err)}"
                + advice(line_of(err), IMPORT_ADVICE),
            ) from None

    def _keep(self, module_id: str, linked: InstancePre) -> None:
        self._ready[module_id] = linked
        if len(self._ready) > MODULES_IN_MEMORY:
            self._ready.popitem(last=False)


_PROBE: Final = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\40\\00\\00\\00\\01\\00\\00\\00")
  (data (i32.const 64) ".")
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "_start")
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)) (then unreachable))
    (if (call $stat (i32.const 3) (i32.const 128)) (then unreachable))
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 2)
      (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 24)) (then unreachable))
    (drop (call $close (i32.load (i32.const 24))))))"""


def _lendable(store: Store, grow: Func, wanted: int) -> int:
    """Grow a memory as far as the machine lets it, with room left to compile."""
    try:
        room = mmap.mmap(-1, COMPILE_BYTES)
    except OSError as err:
        raise MachineFault(
            f"the machine refuses {COMPILE_BYTES // MIB} MiB to compile in (ulimit -v, ulimit -d):"
            f" {err.strerror}"
        ) from None
    try:
        pages = wanted // _PAGE_BYTES
        while pages > 1 and grow(store, pages - 1) == -1:
            pages = pages * 7 // 8
    finally:
        room.close()
    if (lent := pages * _PAGE_BYTES) < min(LEAST_LENT_BYTES, wanted // _PAGE_BYTES * _PAGE_BYTES):
        raise MachineFault(
            f"the machine lets a task have {lent} bytes of memory (ulimit -v, ulimit -d)"
        )
    return lent if lent < wanted // _PAGE_BYTES * _PAGE_BYTES else wanted


def _config(profile: Profile) -> Config:
    config = Config()
    config.max_wasm_stack = STACK_BYTES
    config.memory_init_cow = profile.images
    if not profile.roomy:
        config.memory_reservation = 0
        config.memory_guard_size = 0
        config.memory_reservation_for_growth = GROWTH_BYTES
        config.parallel_compilation = False
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd_deterministic = True
    config.wasm_threads = False
    config.wasm_multi_memory = False
    config.wasm_memory64 = True
    return config
