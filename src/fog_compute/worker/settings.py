"""What a worker lends, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fog_compute.tasks.model import INPUT_BYTES, MAX_OUTPUT_BYTES, TaskKind
from fog_compute.units import GIB


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Bounds of one worker.

    Attributes:
        slots: tasks that run at once.
        queue: attempts that may wait for a slot; more are answered with ``Busy``.
        memory_bytes: linear memory that one task may have at most.
        scratch_bytes: what a task's working directory may hold at most, its inputs included.
        output_bytes: standard output, standard error and files of a task, each at most.
        wall_s: seconds that one task may run at most.
        cache_bytes: bound of the cache of modules and inputs.
        input_bytes: bound of all inputs of one task together, its module among them.
        kept_bytes: bound of results that wait for acknowledgement.
        kept_s: seconds that a result waits, and that the handle of an attempt that is over is
            remembered.
        hold_s: longest time that an answer is held back for news.
        publish_s: seconds between two publications of the offer.
        kinds: kinds of task that it runs, ``python`` only where it can.
        interpreters: folder in which this owner's workers share the compiled interpreter of
            scripts, if there is one.
    """

    slots: int = 1
    queue: int = 64
    memory_bytes: int = 1 * GIB
    scratch_bytes: int = 1 * GIB
    output_bytes: int = MAX_OUTPUT_BYTES
    wall_s: float = 3600.0
    cache_bytes: int = 1 * GIB
    input_bytes: int = INPUT_BYTES
    kept_bytes: int = 1 * GIB
    kept_s: float = 86400.0
    hold_s: float = 20.0
    publish_s: float = 30.0
    kinds: tuple[str, ...] = field(default=(TaskKind.WASM.value,))
    interpreters: Path | None = None
