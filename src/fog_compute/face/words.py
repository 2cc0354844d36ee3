"""What is said of a task, in the words of a call: once, where it comes in."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any, Final, TypeVar

import httpx2

from fog_compute.client.loops import AsyncBackend
from fog_compute.errors import FogError
from fog_compute.faces import Face, in_words_of

__all__ = ["PythonBackend", "in_python"]

T = TypeVar("T")

_SAID: Final = frozenset(("reason", "warning"))
"""Members of answers that may name fields of a task; what else there is may be anybody's text."""


@contextlib.contextmanager
def in_python() -> Generator[None]:
    """Let an error name the arguments of a call where it names fields of a task."""
    try:
        yield
    except FogError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (in_words_of(Face.PYTHON, error.args[0]), *error.args[1:])
        raise


class PythonBackend(AsyncBackend):
    """A running backend, whose errors, reasons and warnings name the arguments of a call."""

    async def get(self, path: str, shape: type[T], **query: str | float) -> T:
        """GET a JSON object of a shape."""
        answer = await super().get(path, shape, **query)
        _translate(answer)
        return answer

    async def post(
        self,
        path: str,
        shape: type[T],
        body: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
    ) -> T:
        """POST JSON and get a JSON object of a shape."""
        answer = await super().post(path, shape, body, key=key)
        _translate(answer)
        return answer

    async def _send(
        self, method: str, path: str, *, repeatable: bool = True, **options: Any
    ) -> httpx2.Response:
        with in_python():
            return await super()._send(method, path, repeatable=repeatable, **options)


def _translate(answer: object) -> None:
    """Put what an answer says into the words of a call, in its place."""
    if isinstance(answer, dict):
        for name, value in answer.items():
            if name in _SAID and isinstance(value, str):
                answer[name] = in_words_of(Face.PYTHON, value)
            else:
                _translate(value)
    elif isinstance(answer, list):
        for one in answer:
            _translate(one)
