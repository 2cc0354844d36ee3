"""Measure tasks through a fog of its own: a network of ten nodes, a backend and two workers.

Prints what `fog bench tasks` found, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOG = Path(sys.executable).with_name("fog")
WORKERS = "2"
STOP_S = 60
KINDS_S = 300
"""How long workers may take until they offer each kind: an interpreter is compiled first."""


def measure(seconds: str, kinds: str = "") -> dict[str, Any]:
    """Start a fog in a folder of its own, let it be measured, and stop it."""
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("FOG_")},
            "FOG_HOME": home,
            "FOG_WORKERS": WORKERS,
            **({"FOG_KINDS": kinds} if kinds else {}),
        }

        def fog(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
            command: list[str | Path] = [FOG, *arguments]
            return subprocess.run(command, check=True, env=environment, text=True, **more)

        def offered() -> list[list[str]]:
            listed = fog("worker", "ls", "--json", stdout=subprocess.PIPE).stdout
            return [worker["kinds"] for worker in json.loads(listed)]

        fog("up", "--detach", "--port", "0", stdout=sys.stderr)
        try:
            wanted = set(kinds.split(",") if kinds else ("wasm", "python"))
            give_up_at = time.monotonic() + KINDS_S
            while not all(wanted <= set(found) for found in offered() or [[]]):
                if time.monotonic() > give_up_at:
                    sys.exit(f"the workers do not offer {', '.join(sorted(wanted))}")
                time.sleep(0.5)
            done = fog("bench", "tasks", "--seconds", seconds, "--json", stdout=subprocess.PIPE)
        finally:
            fog("down", stdout=sys.stderr, timeout=STOP_S)
        report: dict[str, Any] = json.loads(done.stdout)
        return report


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(*sys.argv[1:]), indent=2) + "\n")
