"""Tasks of the kind ``python``: the interpreter of this machine, and scripts in it."""

from fog_compute.worker.python.preparation import Preparation
from fog_compute.worker.python.runtime import PythonRuntime, PythonUnusable
from fog_compute.worker.python.script import script_job

__all__ = ["Preparation", "PythonRuntime", "PythonUnusable", "script_job"]
