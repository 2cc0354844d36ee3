"""A backend by itself whose surroundings are poor: hardly any disk, and a certificate that ends."""

from __future__ import annotations

import json
import os
import queue
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

import pytest

from tests.certificates import write_pair
from tests.integration.monitoring.programs import READY_S

HOME_BYTES: Final = 1024**3
BLOBS_BYTES: Final = 1024**2
"""Sizes of file systems in memory: what is not written to them takes none."""

ENDS_SOON: Final = timedelta(days=5)
ENDS_NOW: Final = timedelta(days=1)

MOUNT: Final = """
mount -t tmpfs -o size={home_bytes} none "$1"
mkdir "$1/blobs"
mount -t tmpfs -o size={blobs_bytes} none "$1/blobs"
shift
exec "$@"
"""


def own_mounts() -> Sequence[str]:
    """What lets a program have file systems of its own; the test is skipped where nothing does."""
    for rights in ((), ("--user", "--map-root-user")):
        words = ["unshare", *rights, "--mount"]
        if shutil.which("unshare") is None:
            break
        tried = subprocess.run([*words, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return words
    pytest.skip("this machine lets no process have file systems of its own")


class SecondBackend:
    """A backend with TLS whose home is a small file system in memory.

    Attributes:
        key: the file of the key that it keeps for Prometheus.
        address: where it answers https.
    """

    def __init__(self, folder: Path, net: Path) -> None:
        """Start it; return once it is ready."""
        folder.mkdir()
        self._folder: Final = folder
        self._home: Final = folder / "home"
        self._home.mkdir()
        self.key: Final = folder / "metrics-key"
        cert, secret = write_pair(folder, "127.0.0.1", ends=ENDS_SOON)
        script = MOUNT.format(home_bytes=HOME_BYTES, blobs_bytes=BLOBS_BYTES)
        with (folder / "log").open("wb") as log:
            self._process: Final = subprocess.Popen(
                [
                    *own_mounts(),
                    *("sh", "-euc", script, "sh", self._home),
                    *(sys.executable, "-P", "-m", "fog_compute.server", "--die-with-parent"),
                    *("--home", self._home, "--port", "0", "--net", net, "--json-logs"),
                ],
                env={
                    "PATH": os.defpath,
                    "FOG_TLS_CERT": str(cert),
                    "FOG_TLS_KEY": str(secret),
                    "FOG_BLOBS": str(self._home / "blobs"),
                    "FOG_METRICS_KEY_FILE": str(self.key),
                    "FOG_CHAT_BLE": "0",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._events: Final[queue.Queue[bytes]] = queue.Queue()
        self._reader: Final = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._url: Final = self._await_ready()
        self.address: Final = urllib.parse.urlsplit(self._url).netloc

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(line)
        self._events.put(b"")

    def _await_ready(self) -> str:
        try:
            while line := self._events.get(timeout=READY_S):
                event = json.loads(line)
                if event["event"] == "ready":
                    return str(event["url"])
        except queue.Empty:
            pass
        self._process.kill()
        pytest.fail(
            f"the second backend is not ready: {(self._folder / 'log').read_text()[-3000:]}"
        )

    def renew(self) -> None:
        """Give it a certificate that ends even sooner."""
        write_pair(self._folder, "127.0.0.1", ends=ENDS_NOW)

    def upload(self, size: int = 2 * BLOBS_BYTES) -> int:
        """Give it what does not fit; return the status of its answer."""
        # Nobody else sees what is mounted there.
        seen = Path(f"/proc/{self._process.pid}/root{self._home}")
        token = (seen / "daemon" / "token").read_text().strip()
        headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/octet-stream",
        }
        request = urllib.request.Request(self._url + "/api/v1/blobs", bytes(size), headers)
        anybody = ssl.create_default_context()
        anybody.check_hostname = False
        anybody.verify_mode = ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, timeout=READY_S, context=anybody) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def __enter__(self) -> Self:
        """Have it already."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._reader.join()
