"""How long a person waits for the shortest command, beside an interpreter that does nothing.

Prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

TIMES = 21


def seconds(*command: str | Path) -> float:
    """How long a command takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure both in turn, so that what else the machine does meets them alike."""
    fog = Path(sys.executable).with_name("fog")
    seconds(fog, "--version")  # files are read from the disk once
    pairs = [(seconds(fog, "--version"), seconds(sys.executable, "-c", "")) for _ in range(TIMES)]
    version, empty = (round(1000 * statistics.median(side), 1) for side in zip(*pairs, strict=True))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(TIMES):
        seconds(fog, "--version")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    summary = {"fog_version_ms": version, "fog_version_cpu_ms": round(1000 * spent / TIMES, 1)}
    details = {"empty_python_ms": empty, "times_s": [round(pair[0], 4) for pair in pairs]}
    print(json.dumps({"summary": summary, "details": details}))


if __name__ == "__main__":
    main()
