"""The second wall: what the kernel takes from a runner before it sees a module.

The first wall is WebAssembly itself.  Who breaks out of it finds a process that has no powers, sees
no files but its task's and Python's, has no network, and can make few system calls.  Each part
stands on its own; one that the machine refuses is said, and the others stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fog_compute.descriptors import why
from fog_compute.kernel import give_up_privileges
from fog_compute.worker.protocol import Wall
from fog_compute.worker.wall import capabilities, landlock, namespaces, seccomp
from fog_compute.worker.wall.rooms import Rooms, of_python

__all__ = ["Rooms", "of_python", "raise_walls"]


def raise_walls(rooms: Rooms) -> tuple[Wall, ...]:
    """Raise all walls that this machine has around this process, which has one thread yet.

    The order matters: mounting needs powers, and a filter forbids what raises the others.
    """
    return tuple(_raised(name, raise_it, rooms) for name, raise_it in _WALLS.items())


def _raised(name: str, raise_it: Callable[[Rooms], str], rooms: Rooms) -> Wall:
    try:
        return Wall(name, stands=True, says=raise_it(rooms))
    except OSError as error:
        reason = why(error) if error.filename is not None else error.strerror
        return Wall(name, stands=False, says=f"this machine refuses it: {reason}")


def _namespaces(rooms: Rooms) -> str:
    namespaces.enter(rooms)
    return "own users, mounts, network, IPC and names; no files but the task's and Python's"


def _landlock(rooms: Rooms) -> str:
    return f"no other files, connections or signals (version {landlock.restrict(rooms)})"


def _capabilities(rooms: Rooms) -> str:
    capabilities.drop(rooms.changed)
    return "none are left"


def _privileges(_: Rooms) -> str:
    if not give_up_privileges():
        raise OSError(0, "prctl")
    return "no program gives any back"


def _seccomp(_: Rooms) -> str:
    seccomp.raise_filter()
    return f"{len(seccomp.ALLOWED)} system calls and no others"


_WALLS: Final = {
    "no_new_privs": _privileges,
    "namespaces": _namespaces,
    "landlock": _landlock,
    "capabilities": _capabilities,
    "seccomp": _seccomp,
}
