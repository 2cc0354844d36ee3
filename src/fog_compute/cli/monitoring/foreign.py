"""A child that is a program of others: it tells nothing, and is asked whether it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fog_compute import spawn
from fog_compute.cli.children import Child, Event
from fog_compute.cli.common import CommandError

__all__ = ["ForeignChild"]

LOOK_S: Final = 0.1
ANSWER_S: Final = 2.0
_OK: Final = b" 200 "
STATUS_BYTES: Final = 1024
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


class ForeignChild(Child):
    """Kept running as every child, and ready once its page for that answers.

    It is tied to this process by the kernel alone: it reads no standard input. What it writes goes
    to its log as it is.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        log: Path,
        environment: dict[str, str],
        on_event: Callable[[Child, Event], None],
        *,
        folder: Path,
        ready_page: Callable[[], str],
    ) -> None:
        """It runs in ``folder``; ``ready_page`` is the URL that it answers once it is ready."""

        def bound() -> list[str]:
            return spawn.bound_command(*command(), folder=str(folder))

        super().__init__(name, bound, log, environment, on_event)
        self._ready_page: Final = ready_page

    async def keep(self) -> None:
        """Keep it running; one that cannot run at all is told of and left out: it only watches."""
        try:
            await super().keep()
        except CommandError as error:
            self.ready.set()  # nobody waits for it any more
            reason = f"{error.message}; the fog runs without it until it is started anew"
            self._on_event(self, {"event": "trouble", "reason": reason})

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        looking = asyncio.create_task(self._look(), name=f"{self.name}-ready")
        try:
            await super()._listen(process)
        finally:
            looking.cancel()

    def _last_line(self) -> str:
        """The last line of the log without URLs, in which there may be a password or a token."""
        return _URL.sub("[address]", super()._last_line())

    async def _look(self) -> None:
        """Say that it is ready as soon as it is."""
        while not await _answers(self._ready_page()):  # noqa: ASYNC110  # it cannot tell
            await asyncio.sleep(LOOK_S)
        self.ready.set()
        self._on_event(self, {"event": "ready"})


async def _answers(page: str) -> bool:
    """Whether a page on this machine answers with 200."""
    url = urlsplit(page)
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            try:
                writer.write(f"GET {url.path} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode())
                return _OK in await reader.read(STATUS_BYTES)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
