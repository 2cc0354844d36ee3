"""A script as a slot runs it: the interpreter is the module, the script one of its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from fog_compute.worker.job import Job
from fog_compute.worker.python.runtime import PythonRuntime

__all__ = ["script_job"]

OPTIONS: Final = ("-B", "-X", "utf8")
"""No bytecode is written beside modules that came as inputs; text is UTF-8 everywhere."""

ENVIRONMENT: Final[Mapping[str, str]] = {"PYTHONHASHSEED": "0"}
"""Sets of strings have one order on all workers, and with all seeds."""


def script_job(runtime: PythonRuntime, job: Job, name: str) -> Job:
    """Return ``job``, among whose inputs is the script ``name``, as one of the interpreter's."""
    return dataclasses.replace(
        job,
        module_id=runtime.module_id,
        shared=True,
        program=("python", *OPTIONS, f"/{name}"),
        env={**ENVIRONMENT, **job.env},
    )
