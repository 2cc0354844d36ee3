"""Run a big task as a user would: 20 MB of CSV through a Go program of 3 MB, on a fog of its own.

Each level gets a fog of its own, so that the task is its first submission: the program crosses the
network and is compiled on the way. Prints JSON; nothing where `go` is missing.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOG = Path(sys.executable).with_name("fog")
PROGRAM = Path(__file__).with_name("aggregate")
BYTES = 20_000_000
LEVELS = ("private", "secret")
STOP_S = 60
CITIES = tuple(f"city-{number:03}" for number in range(400))


def write_table(path: Path, size: int, seed: int = 8) -> Counter[str]:
    """Write about ``size`` bytes of CSV; return how many rows each city has."""
    draw = random.Random(seed)
    rows: Counter[str] = Counter()
    written = 0
    with path.open("w", encoding="ascii") as file:
        file.write("id,city,amount,note\n")
        while written < size:
            city = draw.choice(CITIES)
            number = draw.getrandbits(40)
            written += file.write(f"{number:x},{city},{number / 997:.2f},{number * 31:x}\n")
            rows[city] += 1
    return rows


def build(folder: Path) -> Path:
    """Compile the program; return the module's file."""
    module = folder / "aggregate.wasm"
    command = ["go", "build", "-ldflags=-s", "-o", str(module), "."]
    environment = {**os.environ, "GOOS": "wasip1", "GOARCH": "wasm"}
    subprocess.run(command, check=True, cwd=PROGRAM, env=environment)
    return module


@contextmanager
def fog(home: Path) -> Iterator[dict[str, str]]:
    """Run a fog of one's own; give the environment in which its commands find it."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("FOG_")},
        "FOG_HOME": str(home),
    }
    up: list[str | Path] = [FOG, "up", "--detach", "--port", "0"]
    subprocess.run(up, check=True, env=environment, stdout=sys.stderr)
    try:
        yield environment
    finally:
        down: list[str | Path] = [FOG, "down"]
        subprocess.run(down, check=True, env=environment, stdout=sys.stderr, timeout=STOP_S)


def measure() -> dict[str, Any]:
    """Return seconds from the command to its result at each level, as a ``summary``."""
    if shutil.which("go") is None:
        sys.stderr.write("the big task is left out: there is no `go` to compile its program\n")
        return {"summary": {}}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        module, table = build(folder), folder / "table.csv"
        rows = write_table(table, BYTES)
        for level in LEVELS:
            with fog(folder / level) as environment:
                command: list[str | Path] = [FOG, "run", module, "/table.csv"]
                command += ["--input", f"{table}=table.csv", "--privacy", level]
                begun = time.monotonic()
                ran = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE)
                seconds = time.monotonic() - begun
            counted = {city: one["rows"] for city, one in json.loads(ran.stdout).items()}
            if counted != rows:
                sys.exit(f"the result at {level} is wrong")
            found[f"big_task_{level}_s"] = round(seconds, 2)
    return {"summary": found}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
