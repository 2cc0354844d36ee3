"""Files that a task left, written into a folder; what is missing is told."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Final

from fog_compute.cli.client import Backend
from fog_compute.cli.common import LINE_LENGTH, note
from fog_compute.client.answers import OutputFile
from fog_compute.client.asking import file_of
from fog_compute.client.folders import AlreadyThere, NotWritten, OutputFolder
from fog_compute.errors import NotFound
from fog_compute.text import as_named, counted, one_line

__all__ = ["in_words", "tell_unwritten", "write_files"]

TOLD: Final = 10
"""Missing files that are named; of the others the number is told."""


def in_words(why: NotWritten) -> str:
    """Say why a file is missing, and what to do."""
    return f"{why}: --force replaces it" if isinstance(why, AlreadyThere) else str(why)


def write_files(
    backend: Backend, task_id: str, files: Iterable[OutputFile], folder: OutputFolder
) -> dict[str, str]:
    """Write files of a task one by one; return why each that is missing is."""
    unwritten: dict[str, str] = {}
    for file in files:
        path = file["path"]
        url = file_of(task_id, path)
        try:
            folder.write(path, functools.partial(backend.stream, url, most=file["size"]))
        except NotWritten as why:
            unwritten[path] = in_words(why)
        except NotFound as error:
            unwritten[path] = error.message
    return unwritten


def tell_unwritten(unwritten: Mapping[str, str]) -> None:
    """Say which files are missing, and why; not more lines than one reads."""
    for path, why in itertools.islice(unwritten.items(), TOLD):
        note(one_line(f"not written: {as_named(path)}: {why}", LINE_LENGTH))
    if len(unwritten) > TOLD:
        more = len(unwritten) - TOLD
        note(f"{counted(more, 'more file')} {'was' if more == 1 else 'were'} not written")
