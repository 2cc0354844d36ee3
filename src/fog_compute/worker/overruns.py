"""The limits of a task that only its slot can hold it to, and what is said of who went over one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fog_compute.tasks.folder import FOLDER_DEPTH, FOLDER_ENTRIES, OUT
from fog_compute.tasks.model import Fault, Limits
from fog_compute.units import GIB, format_bytes
from fog_compute.worker.folders import Excess

__all__ = [
    "RUNNER_BYTES",
    "Overrun",
    "of_memory",
    "of_out",
    "of_output",
    "of_scratch",
    "of_time",
]

RUNNER_BYTES: Final = GIB  # for a runner beside its guest's memory, above all to compile


@dataclass(frozen=True, slots=True)
class Overrun:
    """A limit that a module went over: which fault that is, and one line with what helps."""

    fault: Fault
    detail: str


def of_memory(limits: Limits) -> Overrun:
    """It took more memory than it may."""
    return Overrun(
        Fault.OUT_OF_MEMORY,
        f"the module took more than its limit of {format_bytes(limits.memory_bytes)} of memory and"
        f" {format_bytes(RUNNER_BYTES)} to compile it: `limits.memory_bytes` allows more",
    )


def of_time(limits: Limits) -> Overrun:
    """It took longer than it may."""
    return Overrun(
        Fault.TIMEOUT,
        f"the module took longer than its limit of {limits.wall_s:g} s to compile and run:"
        " `limits.wall_s` allows more",
    )


def of_output(limits: Limits, stream: str) -> Overrun:
    """It wrote more to standard output or error than it may."""
    return Overrun(
        Fault.OUTPUT_LIMIT,
        f"the module wrote more to {stream} than its limit of"
        f" {format_bytes(limits.output_bytes)}: `limits.output_bytes` allows more",
    )


def of_out(limits: Limits, excess: Excess) -> Overrun:
    """It keeps more below the folder for output than may come back."""
    if excess is not Excess.BYTES:
        return of_scratch(limits, excess)
    return Overrun(
        Fault.OUTPUT_LIMIT,
        f"the module wrote more below {OUT}/ than its limit of"
        f" {format_bytes(limits.output_bytes)}: `limits.output_bytes` allows more",
    )


def of_scratch(limits: Limits, excess: Excess) -> Overrun:
    """It keeps more in its working directory than it may."""
    over = {
        Excess.BYTES: (
            f"more than its limit of {format_bytes(limits.scratch_bytes)} in its working"
            " directory, inputs included: `limits.scratch_bytes` allows more"
        ),
        Excess.FILES: (
            f"more than {FOLDER_ENTRIES} files and folders in its working directory, inputs"
            " included, and no task may: pack them into fewer"
        ),
        Excess.DEPTH: (
            f"folders more than {FOLDER_DEPTH} deep in its working directory, and no task may:"
            " nest them less"
        ),
    }
    return Overrun(Fault.SCRATCH_LIMIT, f"the module kept {over[excess]}")
