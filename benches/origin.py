"""Where and when figures were found, as every file of results says it."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from pathlib import Path

__all__ = ["origin"]

ROOT = Path(__file__).resolve().parents[1]


def origin(*measured: str) -> dict[str, str]:
    """The machine, the time and the commit; of that, whether files below ``measured`` differ."""
    return {
        "machine": _machine(),
        "commit": _commit(measured),
        "measured": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
    }


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else "unknown processor"
    return f"{model}, {os.cpu_count()} threads, {platform.machine()}"


def _commit(measured: tuple[str, ...]) -> str:
    changes = _git("status", "--porcelain", "--", *measured)
    return _git("rev-parse", "HEAD").strip() + (" with changes" if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
