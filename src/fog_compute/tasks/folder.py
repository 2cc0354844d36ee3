"""The working directory of a task: what may stand in it, and how much room its inputs take.

The same rules hold for who submits, for the worker, and for files that come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fog_compute.errors import InvalidTask
from fog_compute.text import one_line
from fog_compute.units import KIB, format_beyond

__all__ = [
    "FOLDER_DEPTH",
    "FOLDER_ENTRIES",
    "MAX_INPUTS",
    "MAX_PATH_BYTES",
    "OUT",
    "PAGE_BYTES",
    "TMP",
    "check_guest_path",
    "check_output_paths",
    "check_room",
    "check_tree",
    "disk_bytes",
    "flaw_of",
    "is_plain_path",
]

MAX_INPUTS: Final = 256
MAX_PATH_BYTES: Final = 1024
NAME_BYTES: Final = 255

FOLDER_ENTRIES: Final = 4096
"""Files and folders that a working directory may hold, inputs among them."""

FOLDER_DEPTH: Final = 64
"""Folders within folders."""

PAGE_BYTES: Final = 4 * KIB
"""What the smallest file takes on a disk, and each folder."""

OUT: Final = "out"
"""The folder whose files come back with the result."""

TMP: Final = "tmp"
"""The folder that programs know as ``/tmp``."""

_OWN: Final = (OUT, TMP)


def is_plain_path(path: str) -> bool:
    """Say whether a path is relative, stays where it is, and can be shown and stored anywhere."""
    return not flaw_of(path)


def flaw_of(path: str) -> str:
    """Say what keeps a path from being a plain one, in a few words; nothing if it is one."""
    size = len(path.encode("utf-8", "surrogatepass"))
    parts = path.split("/")
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in parts)
    if size > MAX_PATH_BYTES:
        return f"it has {size} bytes, and a path may have {MAX_PATH_BYTES}"
    if longest > NAME_BYTES:
        return f"a name in it has {longest} bytes, and a name may have {NAME_BYTES}"
    if (depth := len(parts) - 1) > FOLDER_DEPTH:
        return f"it lies {depth} folders deep, and {FOLDER_DEPTH} are allowed"
    if any(c < " " or c == "\x7f" for c in path):
        return "it holds a control character"
    if any("\ud800" <= c <= "\udfff" for c in path):
        return "it is no UTF-8 text"
    if path.startswith("/"):
        return "it begins with '/': give a relative path such as 'data/a.txt'"
    if not path:
        return "it is empty: give a relative path such as 'data/a.txt'"
    if odd := next((part for part in parts if part in ("", ".", "..")), None):
        return f"it holds {odd!r}: give a relative path such as 'data/a.txt'"
    return "it holds an empty name" if "" in parts else ""


def check_guest_path(path: str) -> None:
    """Raise `InvalidTask` unless an input may stand at ``path``."""
    if flaw := flaw_of(path):
        raise InvalidTask(f"the input path {_shown(path)} is not allowed: {flaw}")
    if path.split("/", 1)[0] in _OWN:
        raise InvalidTask(
            f"the input path {_shown(path)} is not allowed: 'out' and 'tmp' are empty when a task"
            " begins"
        )


def check_tree(paths: Mapping[str, object]) -> None:
    """Raise `InvalidTask` if one input path is a folder of another, or if there are too many."""
    if len(paths) > MAX_INPUTS:
        raise InvalidTask(f"{len(paths)} input files: at most {MAX_INPUTS} are allowed")
    folders = _folders(paths)
    if clash := sorted(folders & set(paths)):
        raise InvalidTask(f"the input path {_shown(clash[0])} is a file and a folder")
    if (entries := len(paths) + len(folders) + len(_OWN)) > FOLDER_ENTRIES:
        raise InvalidTask(
            f"the inputs are {entries} files and folders: at most {FOLDER_ENTRIES} are allowed"
        )


def check_output_paths(paths: Iterable[str]) -> None:
    """Raise `InvalidTask` unless files of these paths, in this order, can be a task's output."""
    before = b""
    given = list(paths)
    for path in given:
        if not is_plain_path(path):
            raise InvalidTask(f"the output path {_shown(path)} is not allowed")
        name = path.encode()
        if name <= before:
            raise InvalidTask(f"the output path {_shown(path)} is out of order")
        before = name
    if clash := sorted(_folders(given) & set(given)):
        raise InvalidTask(f"the output path {_shown(clash[0])} is a file and a folder")


def disk_bytes(sizes: Mapping[str, int]) -> int:
    """Return what inputs take on a disk: whole pages for each name, and one for each folder.

    ``sizes`` maps paths to bytes; the same bytes under two names count twice.
    """
    pages = sum(max(1, -(-size // PAGE_BYTES)) for size in sizes.values())
    return (pages + len(_folders(sizes))) * PAGE_BYTES


def check_room(sizes: Mapping[str, int], scratch_bytes: int) -> None:
    """Raise `InvalidTask` unless inputs of these sizes fit into a scratch, on any disk."""
    if sizes and (taken := disk_bytes(sizes)) > scratch_bytes:
        takes, allowed = format_beyond(taken, scratch_bytes)
        raise InvalidTask(
            f"the inputs take {takes} on a disk, and the task may have {allowed} there:"
            " `limits.scratch_bytes` allows more"
        )


def _folders(paths: Iterable[str]) -> set[str]:
    """Return every folder that these files need; bounded by the paths' own length."""
    folders = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders.add(path)
    return folders


def _shown(path: str) -> str:
    return one_line(repr(path), 80)
