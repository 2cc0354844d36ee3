"""A backend for commands that answers as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from fog_compute.cli.lock import HomeLock
from fog_compute.layout import HomeLayout

Answer = tuple[int, bytes] | None  # a status and a body, or a connection that breaks


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
            status, body = answer
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    lock = HomeLock(HomeLayout(home))
    assert lock.take()
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        daemon = home / "daemon"
        daemon.mkdir()
        (daemon / "token").write_text("t" * 40)
        url = f"http://127.0.0.1:{server.server_port}"
        (daemon / "server.json").write_text(json.dumps({"url": url, "pid": 1}))
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield asked
        finally:
            server.shutdown()
            serving.join()
            lock.give_back()
