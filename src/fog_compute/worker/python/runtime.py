"""Finding the interpreter: a file of an installed package, of which nothing is imported or run."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fog_compute.errors import FogError
from fog_compute.reading import read_file
from fog_compute.tasks.runtimes import PYTHON, Interpreter
from fog_compute.worker.threads import beside

__all__ = ["PythonRuntime", "PythonUnusable"]


class PythonUnusable(FogError):
    """This machine cannot run scripts; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class PythonRuntime:
    """The interpreter's file on this machine."""

    path: Path
    interpreter: Interpreter = PYTHON

    @classmethod
    def found(cls, interpreter: Interpreter = PYTHON) -> Self:
        """Return the file of the installed package; its bytes are checked when they are read.

        Raises:
            PythonUnusable: the package is not installed, or is not the one that is known here.
        """
        try:
            distribution = importlib.metadata.distribution(interpreter.package)
        except importlib.metadata.PackageNotFoundError:
            raise PythonUnusable(
                f"the package {interpreter.package} is not installed: install {interpreter.extra}"
            ) from None
        path = Path(str(distribution.locate_file(interpreter.file)))
        try:
            size = path.stat().st_size
        except OSError as err:
            raise PythonUnusable(
                f"{interpreter.file} of {interpreter.package} cannot be read ({err.strerror}):"
                f" install {interpreter.extra} again"
            ) from None
        if size != interpreter.size:
            raise _foreign(interpreter)
        return cls(path, interpreter)

    @property
    def module_id(self) -> str:
        """Names the compiled interpreter; no module of a task can have this name."""
        return f"python {self.interpreter.sha256}"

    async def load(self) -> bytes:
        """Read it beside the event loop; see `read`."""
        return await beside(self.interpreter.size, self.read)

    def read(self) -> bytes:
        """Return the interpreter, checked against the hash that is known.

        Raises:
            PythonUnusable: it cannot be read, or it is another file.
        """
        try:
            data = read_file(self.path, self.interpreter.size)
        except (OSError, FogError) as err:
            raise PythonUnusable(f"{self.interpreter.file} cannot be read: {err}") from err
        if hashlib.sha256(data).hexdigest() != self.interpreter.sha256:
            raise _foreign(self.interpreter)
        return data


def _foreign(interpreter: Interpreter) -> PythonUnusable:
    return PythonUnusable(
        f"{interpreter.file} is not the file that scripts run in everywhere: install"
        f" {interpreter.extra} again"
    )
