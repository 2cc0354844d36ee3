"""Measure tasks through a fog of its own: a network of ten nodes, a backend and two workers.

Prints what `fog bench tasks` found, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOG = Path(sys.executable).with_name("fog")
WORKERS = "2"
STOP_S = 60


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

        fog("up", "--detach", "--port", "0", stdout=sys.stderr)
        try:
            done = fog("bench", "tasks", "--seconds", seconds, "--json", stdout=subprocess.PIPE)
        finally:
            fog("down", stdout=sys.stderr, timeout=STOP_S)
        report: dict[str, Any] = json.loads(done.stdout)
        return report


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(*sys.argv[1:]), indent=2) + "\n")
