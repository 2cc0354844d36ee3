"""Namespaces: a runner that sees no files but its rooms, no network, and nobody's objects.

All of it needs a user namespace, which some machines refuse to whom is not root, and which no
process with a root of its own (chroot) may have.  What was begun cannot be taken back, so a child
tries first.

A namespace of processes is not among them: it would hold only what the runner starts, and it starts
nothing.  Of `/proc` there is the runner's own folder alone, so it sees no other process.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fog_compute.worker.wall.calls import checked, libc, syscall
from fog_compute.worker.wall.rooms import NULL, OWN, Rooms

__all__ = ["enter"]

_NEW_USER: Final = 0x10000000
_NEW_MOUNTS: Final = 0x00020000
_NEW_OTHERS: Final = 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
"""Network, objects of IPC, names of the host, groups of control."""

_NOSUID: Final = 2
_NODEV: Final = 4
_NOEXEC: Final = 8
_RECURSIVE: Final = 16384
_PRIVATE: Final = 1 << 18
_DETACH: Final = 2

_LINE: Final = 200  # what the child says of a refusal is shorter
_ATTRIBUTES: Final = struct.Struct("=QQQQ")  # struct mount_attr: set, clear, propagation, user
_READ_ONLY: Final = 1
_HERE: Final = -100  # AT_FDCWD
_DESCRIPTOR: Final = 0x1000  # AT_EMPTY_PATH
_ALL_BELOW: Final = 0x8000  # AT_RECURSIVE
_CLONE: Final = 1  # OPEN_TREE_CLONE
_FROM_DESCRIPTOR: Final = 4  # MOVE_MOUNT_F_EMPTY_PATH


def enter(rooms: Rooms) -> None:
    """Put this process, which has one thread, into namespaces of its own.

    Raises:
        OSError: the machine refuses; nothing has changed.
    """
    _try_in_child(lambda: _enter(rooms))
    _enter(rooms)


def _enter(rooms: Rooms) -> None:
    user, group = os.geteuid(), os.getegid()
    checked(libc.unshare(_NEW_USER | _NEW_MOUNTS), "unshare")
    _write(OWN / "setgroups", "deny")
    _write(OWN / "uid_map", f"{user} {user} 1")
    _write(OWN / "gid_map", f"{group} {group} 1")
    checked(libc.unshare(_NEW_OTHERS), "unshare")
    _leave_files(rooms)


def _leave_files(rooms: Rooms) -> None:
    """Make a root of nothing but the rooms, in memory, and forget the one before."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    paths = sorted({*rooms.changed, *rooms.read, OWN, NULL}, key=lambda path: len(path.parts))
    kept = {path: _kept(path, rooms) for path in paths}  # a folder comes before what lies in it
    root = rooms.changed[0]  # any folder that is there
    _mount("root", root, "tmpfs", _NOSUID | _NODEV | _NOEXEC, "size=64k,nr_inodes=1k,mode=755")
    for path, mount in kept.items():
        target = Path(f"{root}{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path == NULL:
            target.touch()
        else:
            target.mkdir(exist_ok=True)
        syscall("move_mount", mount, _text(""), _HERE, _text(str(target)), _FROM_DESCRIPTOR)
        os.close(mount)
    os.chdir(root)
    _restrict(_HERE, ".", 0, _READ_ONLY)
    syscall("pivot_root", _text("."), _text("."))
    checked(libc.umount2(b".", _DETACH), "umount2")
    os.chdir("/")


def _kept(path: Path, rooms: Rooms) -> int:
    """Return a mount of a path and all below it that hangs nowhere yet."""
    tree = syscall("open_tree", _HERE, _text(str(path)), _CLONE | os.O_CLOEXEC | _ALL_BELOW)
    may = 0 if path in rooms.changed else _READ_ONLY
    _restrict(tree, "", _ALL_BELOW | _DESCRIPTOR, may | (0 if path == NULL else _NODEV))
    return tree


def _try_in_child(attempt: Callable[[], None]) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError as error:
            os.write(writing, f"{error.errno or 0} {error.strerror}".encode(errors="replace"))
        else:
            os.write(writing, b"done")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        answer = answers.read(_LINE).decode()
    os.waitpid(child, 0)
    if answer != "done":
        number, _, words = answer.partition(" ")
        raise OSError(int(number or 0), words or "the process that tried ended")


def _mount(
    source: str | None, target: str | Path, kind: str | None, flags: int, data: str | None = None
) -> None:
    checked(
        libc.mount(
            _bytes(source), os.fsencode(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)
        ),
        "mount",
    )


def _restrict(folder: int, path: str, how: int, attributes: int) -> None:
    """Take something from a mount, and always the powers that come with its files."""
    record = ctypes.create_string_buffer(_ATTRIBUTES.pack(attributes | _NOSUID, 0, 0, 0))
    pointer = ctypes.cast(record, ctypes.c_void_p)
    syscall("mount_setattr", folder, _text(path), how, pointer, _ATTRIBUTES.size)


def _write(path: Path, text: str) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(text.encode())


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _text(text: str) -> ctypes.c_void_p:
    return ctypes.cast(ctypes.c_char_p(os.fsencode(text)), ctypes.c_void_p)
