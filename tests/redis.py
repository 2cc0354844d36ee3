"""A Redis of the tests' own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest


class PrivateRedis:
    """A Redis of the test's own: a socket in its folder, nothing on a disk."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
        self._socket: Final = folder / "redis"
        self._words: Final = [
            *(program, "--port", "0", "--unixsocket", str(self._socket)),
            *("--save", "", "--dir", str(folder)),
        ]
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        self._server = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def say(self, *words: str) -> str:
        """Give it a command; return the first line of its answer."""
        said = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
        with socket.socket(socket.AF_UNIX) as line, line.makefile("rwb") as file:
            line.connect(str(self._socket))
            file.write(b"*%d\r\n%s" % (len(words), said))
            file.flush()
            return file.readline().decode().strip()

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._socket.unlink(missing_ok=True)
