"""What is said of a task, in the words of a call."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from fog_compute.errors import FogError
from fog_compute.faces import Face, in_words_of

__all__ = ["in_python"]


@contextlib.contextmanager
def in_python() -> Generator[None]:
    """Let an error name the arguments of a call where it names fields of a task."""
    try:
        yield
    except FogError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (in_words_of(Face.PYTHON, error.args[0]), *error.args[1:])
        raise
