"""What the pages are, and what they are compared with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {
    ".fog",
    ".git",
    ".hypothesis",
    ".venv",
    "__pycache__",
    "build",
    "data",
    "dist",
    "node_modules",
    "target",
}


def _tracked() -> list[Path]:
    """Every file of the repository, or of an unpacked source distribution."""
    if (ROOT / ".git").exists():
        names = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True, text=True
        ).stdout
        return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file() and not SKIPPED.intersection(path.relative_to(ROOT).parts)
    ]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file that belongs to the repository."""
    return sorted(_tracked())


@pytest.fixture(scope="session")
def pages(tracked: list[Path]) -> dict[str, str]:
    """Every page of prose by its path from the root."""
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for path in tracked
        if path.suffix == ".md"
    }


@pytest.fixture(scope="session")
def sources(tracked: list[Path]) -> dict[str, str]:
    """Every source file of the product and its tests by its path from the root."""
    folders = {"crates", "src", "tests", "examples", "packaging"}
    return {
        str(name): path.read_text("utf-8")
        for path in tracked
        if path.suffix in {".rs", ".py", ".pyi"}
        and (name := path.relative_to(ROOT)).parts[0] in folders
    }
