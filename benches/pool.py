"""Run the tasks of `fog bench tasks` without a fog: in a pool of two warm processes.

The peer of tasks: Python's own pool runs the same module on the same input with the same runtime,
and hides nothing, keeps nothing on disk, limits nothing. What a fog adds is seen beside it in the
same run. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.resources import files
from pathlib import Path

from wasmtime import Engine, Func, Linker, Module, Store, WasiConfig

PROCESSES = 2
SECONDS = 5.0
ALONE = 100
UNDER_WAY = 300
INPUT = b"echo\n" * 20


class Runner:
    """What stays warm in one process: the compiled module, linked."""

    def __init__(self, module: bytes) -> None:
        self._engine = Engine()
        self._linker = Linker(self._engine)
        self._linker.define_wasi()
        self._module = Module(self._engine, module)
        self._folder = tempfile.TemporaryDirectory()

    def run(self, stdin: bytes) -> bytes:
        """What the module prints."""
        into, out = (Path(self._folder.name, name) for name in ("in", "out"))
        into.write_bytes(stdin)
        store, wasi = Store(self._engine), WasiConfig()
        wasi.stdin_file, wasi.stdout_file = str(into), str(out)
        store.set_wasi(wasi)
        begin = self._linker.instantiate(store, self._module).exports(store)["_start"]
        if not isinstance(begin, Func):
            raise TypeError("the module is no command")
        begin(store)
        return out.read_bytes()


_warm: list[Runner] = []


def _start(module: bytes) -> None:
    _warm.append(Runner(module))


def _run(stdin: bytes) -> bytes:
    return _warm[0].run(stdin)


def main() -> None:
    """Measure and print."""
    module = (files("fog_compute.cli") / "echo.wasm").read_bytes()
    with ProcessPoolExecutor(PROCESSES, initializer=_start, initargs=(module,)) as pool:

        def take(task: Future[bytes]) -> None:
            if task.result() != INPUT:
                sys.exit("a task did not echo, so these numbers would mean nothing")

        times = []
        for _ in range(ALONE):
            begun = time.monotonic()
            take(pool.submit(_run, INPUT))
            times.append(time.monotonic() - begun)
        under_way = deque(pool.submit(_run, INPUT) for _ in range(UNDER_WAY))
        begun, done = time.monotonic(), 0
        while (seconds := time.monotonic() - begun) < SECONDS:
            take(under_way.popleft())
            under_way.append(pool.submit(_run, INPUT))
            done += 1
        pool.shutdown(cancel_futures=True)
    summary = {
        "task_peer_p50_ms": round(1000 * statistics.median(times), 3),
        "task_peer_per_s": round(done / seconds, 1),
    }
    json.dump({"summary": summary, "details": {"processors": os.cpu_count()}}, sys.stdout)


if __name__ == "__main__":
    main()
