"""The compose files as Compose itself reads them: merged, filled in, fit for its schema."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
MAIN: Final = "docker-compose.yml"
BETANET: Final = "docker-compose.betanet.yml"

OURS: Final = {"fog-compute": "docker/fog.Dockerfile", "fog-betanet": "docker/betanet.Dockerfile"}
"""Our images, and what each is built from."""

SECRETS: Final = {"POSTGRES_PASSWORD": "a1b2c3", "GRAFANA_ADMIN_PASSWORD": "d4e5f6"}
"""Passwords that are set, for what is not about passwords."""


def compose_program() -> str | None:
    """Compose, as the environment of the tests has it."""
    return shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.defpath}")


def compose(
    files: Sequence[str], *words: str, profiles: str = "*", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of Compose over `files`; it knows `variables` and no others."""
    program = compose_program()
    assert program is not None
    named = [word for file in files for word in ("--file", file)]
    return subprocess.run(
        [program, "--project-directory", ".", "--profile", profiles, *named, *words],
        capture_output=True,
        check=False,
        cwd=ROOT,
        # An .env of whoever runs the tests is not what is tested.
        env={"PATH": os.defpath, "HOME": "/nonexistent", "COMPOSE_DISABLE_ENV_FILE": "1"}
        | variables,
        text=True,
        timeout=60,
    )


def merged(
    files: Sequence[str] = (MAIN, BETANET), profiles: str = "*", **variables: str
) -> dict[str, Any]:
    """What Compose makes of `files`."""
    given = tuple(sorted((SECRETS | variables).items()))
    project: dict[str, Any] = json.loads(_config(tuple(files), profiles, given))
    return project


@functools.cache
def _config(files: tuple[str, ...], profiles: str, given: tuple[tuple[str, str], ...]) -> str:
    done = compose(files, "config", "--format", "json", profiles=profiles, **dict(given))
    assert done.returncode == 0, done.stderr
    return done.stdout
