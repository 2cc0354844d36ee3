"""A backend for commands that answers as it is told."""

from __future__ import annotations

import contextlib
import fcntl
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

from fog_compute.cli.monitoring.asking import Alert
from fog_compute.client.lock import HomeLock
from fog_compute.layout import HomeLayout

TOKEN: Final = "t" * 40

ALERT: Final = Alert(
    name="CircuitFailures",
    state="firing",
    severity="warning",
    service="fog-backend",
    instance="backend",
    since="2026-06-01T12:00:00.123Z",
    summary="circuits fail",
    description="circuits of PRIVATE fail",
    runbook="https://example.org/circuit-failures.md",
)

ID: Final = "01k" + "a" * 23
ROW: Final = {
    "id": ID,
    "state": "accepted",
    "privacy": "private",
    "tries": 0,
    "max_attempts": 3,
    "created_at": "2026-01-01T00:00:00Z",
    "reason": "",
}
RESULT: Final[dict[str, object]] = {
    "exit_code": 0,
    "fault": None,
    "stdout_bytes": 1,
    "stderr_bytes": 0,
    "fuel_used": 5,
    "wall_ms": 6,
    "compile_ms": 0,
    "peak_memory": 65_536,
    "receipt": "",
    "files": [],
}
TASK: Final = {
    **ROW,
    "final": True,
    "version": 4,
    "hops": 3,
    "kind": "wasm",
    "argv": ["a"],
    "seed": "5e" * 32,
    "stage": None,
    "result": RESULT,
    "log_tail": "",
    "attempts": [{"number": 1, "worker": "w", "state": "settled", "reason": "", "placement": "p"}],
}
STATUS: Final = {
    "services": [{"name": "store", "state": "starting", "detail": ""}],
    "net": {
        "name": "n",
        "epoch": 3,
        "nodes": {"mix": 3},
        "mean_delay_ms": 1.5,
        "paths": [{"hops": 3, "tries": 9, "lost": 1, "round_trip_ms": None}],
        "excluded": [{"id": "0f", "tries": 9, "lost": 8, "expected": 1, "seconds_left": 7.5}],
        "warnings": ["x"],
    },
    "workers": [
        {
            "name": "w",
            "level": "private",
            "state": "ready",
            "kinds": ["wasi"],
            "slots": 1,
            "leased": 0,
            "memory_bytes": 1,
            "wall_s": 3600,
            "scratch_bytes": 2 * 2**30,
            "output_bytes": None,
            "groups": [],
        }
    ],
    "tasks": {"accepted": 1},
    "damaged": [],
    "circuits": {
        "private": {"circuits": 3, "sessions": 2, "in_flight": 1},
        "secret": {"circuits": 1, "sessions": 1, "in_flight": 0},
    },
}
NODES: Final[dict[str, Any]] = {
    "network": "n",
    "epoch": 3,
    "revision": 1,
    "valid_until": "2026-01-01T00:00:07Z",
    "in_force": True,
    "roles": {"entry": 2, "middle": 8},
    "one_operator": True,
    "nodes": [
        {
            "id": "e1" * 32,
            "role": None,
            "operator": None,
            "prefix": None,
            "link_address": None,
            "key_epochs": [],
            "expires_at": None,
            "edge": {"current": True, "attached": False, "reason": "refused"},
            "excluded": None,
        },
        {
            "id": "0f" * 32,
            "role": "middle",
            "operator": "ann",
            "prefix": "10.1.0.0/16",
            "link_address": "10.1.2.3:900",
            "key_epochs": [3, 4],
            "expires_at": "2026-01-01T00:00:09Z",
            "edge": None,
            "excluded": {"id": "0f", "tries": 9, "lost": 8, "expected": 1, "seconds_left": 7.5},
        },
    ],
    "next": None,
}
CLIENT: Final = {
    "tries": 40,
    "lost": 3,
    "round_trip_ms": 150,
    "loop_ms": None,
    "trouble": "no edge answers",
    "edges": [
        {"id": "e1", "current": True, "attached": True, "reason": None},
        {"id": "e2", "current": False, "attached": False, "reason": "refused"},
    ],
    "excluded": [{"id": "0f", "tries": 9, "lost": 8, "expected": 1, "seconds_left": 7.5}],
}
LEVEL: Final = {
    "level": "private",
    "hops": 3,
    "sessions": 2,
    "by_token": 1,
    "circuits": {"fresh": 1, "active": 2, "draining": 1, "closed": 0},
    "in_flight": 1,
    "made": 9,
    "rotations": 5,
    "bytes_sent": 2048,
    "bytes_received": 100,
    "packets_sent": 12,
    "surbs_sent": 4,
    "client": CLIENT,
}
CIRCUIT: Final = {
    "id": "c" * 32,
    "state": "active",
    "age_s": 8.2,
    "idle_s": 0.5,
    "in_flight": 1,
    "bytes_sent": 1024,
    "bytes_received": 7,
    "packets_sent": 2,
}

PEER: Final[dict[str, Any]] = {
    "fingerprint": "ad" * 32,
    "shown": "ada",
    "name": "Ada",
    "petname": "ada",
    "trust": "contact",
    "blocked": False,
    "words": ["abbey", "zodiac"],
    "levels": ["private"],
    "last_seen_at": "2026-01-01T08:09:10Z",
    "key_refused_at": None,
}
ME: Final[dict[str, Any]] = {
    "fingerprint": "b0" * 32,
    "name": "Bob",
    "words": ["oboe", "gem"],
    "card": "fogcard1aaaa",
    "level": "private",
    "transports": [
        {"name": "htx", "available": True, "reason": ""},
        {"name": "ble", "available": False, "reason": "there is no adapter"},
    ],
    "waiting": 2,
    "outbox": {"queued": 1, "stored": 1},
    "max_file_bytes": 2048,
}
SENT: Final[dict[str, Any]] = {
    "id": "5" * 32,
    "receivers": ["ad" * 32],
    "reasons": {},
}
MESSAGE: Final[dict[str, Any]] = {
    "position": 7,
    "id": "5" * 32,
    "sender": "ad" * 32,
    "shown": "ada",
    "outgoing": False,
    "to": "b0" * 32,
    "room": "",
    "kind": "text",
    "text": "see you at eight",
    "name": "",
    "size": 16,
    "at": "2026-01-01T08:09:10Z",
    "verified": True,
    "known": True,
    "states": {},
    "reasons": {},
}
GROUP: Final[dict[str, Any]] = {
    "id": "9" * 32,
    "name": "lab",
    "maker": "b0" * 32,
    "members": ["ad" * 32, "b0" * 32],
    "names": {"b0" * 32: "bob"},
}
TRACE: Final[dict[str, Any]] = {
    "peer": PEER,
    "ways": {"htx": "address"},
    "hops": None,
    "round_trip_ms": None,
    "reasons": {"ble": "there is no adapter"},
}

Answer = tuple[int, bytes] | tuple[int, bytes, str] | None
"""A status and a body, and when to ask again; or a connection that breaks."""

WORDCOUNT: Final = str(Path(__file__).parents[4] / "examples" / "wordcount" / "wordcount.wasm")


@contextlib.contextmanager
def announced(home: Path, url: str) -> Iterator[Path]:
    """What a backend leaves in its home for commands, as long as it lives; hold the file."""
    daemon = home / "daemon"
    daemon.mkdir(exist_ok=True)
    (daemon / "token").write_text(TOKEN)
    path = daemon / "server.json"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"url": url, "pid": 1}, file)
        file.flush()
        yield path


@contextlib.contextmanager
def backend(home: Path, *answers: Answer) -> Iterator[list[str]]:
    """A backend that gives these answers, one to each request; hold what was asked."""
    asked: list[str] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key = self.headers.get("idempotency-key", "")
            asked.append(f"{self.command} {self.path} {key}".rstrip())
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = left.pop(0)
            if answer is None:
                self.close_connection = True
                return
            status, body, *later = answer
            self.send_response(status)
            for seconds in later:
                self.send_header("retry-after", seconds)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def do_DELETE(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    lock = HomeLock(HomeLayout(home))
    assert lock.take()
    with (
        HTTPServer(("127.0.0.1", 0), Handler) as server,
        announced(home, f"http://127.0.0.1:{server.server_port}"),
    ):
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield asked
        finally:
            server.shutdown()
            serving.join()
            lock.give_back()
