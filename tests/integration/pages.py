"""Runs what a page shows: its blocks of Python or of commands, in their order, as they stand.

``python -m tests.integration.pages PAGE`` does so for the Python of a page or a notebook, in a
folder that has ``examples`` and with a fog that runs; a block with ``await`` has a connected
``fog``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fog_compute

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page, or the cells of a notebook."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text())["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def commands(page: Path) -> list[str]:
    """What follows a prompt, without the comment behind it."""
    lines = [line for text in blocks(page, "console") for line in text.splitlines()]
    return [line[2:].partition("  #")[0].strip() for line in lines if line.startswith("$ ")]


def run_python(
    page: Path, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the Python of a page in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.pages", page],
        cwd=folder,
        env={
            **environment,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error,default::UserWarning",
        },
        capture_output=True,
        text=True,
        timeout=110,
    )


def run_commands(
    lines: Iterable[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run commands in one shell, each of which must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env={**environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )


async def _with_fog(code: Any, names: dict[str, Any]) -> None:
    async with fog_compute.connect() as fog:
        names["fog"] = fog
        await eval(code, names)


def main(page: Path) -> None:
    """Run all blocks; the first that fails ends it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate(blocks(page, "python")):
        code = compile(text, f"{page.name}, block {number}", "exec", flags=WITH_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(_with_fog(code, names))
        else:
            exec(code, names)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
