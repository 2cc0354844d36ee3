"""Folders of tasks: removing what a guest may have filled on purpose to be hard to remove."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Delete a folder, however deep; what does not exist or may not be deleted is left out."""
    with contextlib.suppress(OSError):
        empty_folder(folder)
        folder.rmdir()


def empty_folder(folder: Path) -> None:
    """Delete what is in a folder, however deep, or raise `OSError`.

    Nested folders are first moved up, so neither the stack nor a path ever grows with the depth.
    """
    numbers = itertools.count()
    while folders := _delete_files(folder):
        for nested in folders:
            for deeper in _delete_files(nested):
                _move_up(deeper, folder, numbers)
            nested.rmdir()


def is_empty(folder: Path) -> bool:
    """Say whether nothing is in a folder; one that does not exist is empty."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True


def _delete_files(folder: Path) -> list[Path]:
    """Delete what is no folder; return the folders."""
    nested = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                nested.append(Path(entry.path))
            else:
                Path(entry.path).unlink()
    return nested


def _move_up(nested: Path, folder: Path, numbers: itertools.count[int]) -> None:
    while (target := folder / f".moved-{next(numbers)}").exists():
        pass
    nested.rename(target)
