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
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fog_compute.cli.client import Backend
from fog_compute.client.places import Home
from fog_compute.layout import HomeLayout

FOG = Path(sys.executable).with_name("fog")
PROGRAM = Path(__file__).with_name("aggregate")
BYTES = 20_000_000
LEVELS = ("private", "secret")
STOP_S = 60
LOOK_S = 0.1
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


def followed(
    command: list[str | Path], environment: dict[str, str]
) -> tuple[bytes, float, dict[str, float]]:
    """Run a task; return its output, its seconds, and those of each stage that was seen of it."""
    spent: defaultdict[str, float] = defaultdict(float)
    begun = looked = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    with Backend(Home(HomeLayout(Path(environment["FOG_HOME"])))) as backend:
        while process.poll() is None:
            for task in backend.get("/api/v1/tasks", dict[str, Any])["tasks"]:
                stage = backend.get(f"/api/v1/tasks/{task['id']}", dict[str, Any])["stage"]
                now = time.monotonic()
                if stage is not None:
                    spent[stage["doing"]] += now - looked
                looked = now
            time.sleep(LOOK_S)
    seconds = time.monotonic() - begun
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"the task ended with {process.returncode}")
    return output, seconds, spent


def measure() -> dict[str, Any]:
    """Return a ``summary``: seconds from the command to its result at each level.

    Those in which its worker compiled and did nothing else for it are among them; the rate is that
    of its program and its table, from the first byte to the worker's last answer.
    """
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
                output, seconds, spent = followed(command, environment)
            counted = {city: one["rows"] for city, one in json.loads(output).items()}
            if counted != rows:
                sys.exit(f"the result at {level} is wrong")
            found[f"big_task_{level}_s"] = round(seconds, 2)
            size = module.stat().st_size + table.stat().st_size
            found[f"big_task_{level}_mb_per_s"] = round(size / 1e6 / spent["sending"], 2)
            found[f"big_task_{level}_compiling_s"] = round(spent.get("compiling", 0.0), 2)
            sys.stderr.write(f"{level}: {dict(spent)}\n")
    return {"summary": found}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
