"""The end of a backend that was asked to stop: whoever waits for an answer gets one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fog_compute.server.problem_types import ENDING
from fog_compute.server.problems import problem

__all__ = ["Stopping"]


class Stopping:
    """Answers a request that the end of the server cuts short."""

    def __init__(self, app: ASGIApp, *, stopping: Callable[[], bool]) -> None:
        """Wrap ``app``; ``stopping`` says whether a cancelled request is cut short by the end."""
        self._app: Final = app
        self._stopping: Final = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if begun or scope["type"] != "http" or not self._stopping():
                raise
            answer = problem(ENDING, "the fog is stopping, and what was asked may be done or not")
            await answer(scope, receive, send)
