"""Commands in a container of their own, where the machine allows one."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

import pytest

__all__ = ["in_net_namespace", "in_pid_namespace"]

_PID = ("--pid", "--fork", "--kill-child", "--mount-proc")
_NET = ("--net",)
_WITH_ADDRESSES = 'ip link set lo up && for a in $0; do ip addr add $a dev lo nodad; done && "$@"'


@functools.cache
def _prefix(kind: tuple[str, ...]) -> tuple[str, ...]:
    """What goes before a command that is to have a space; empty where the machine has no way."""
    if shutil.which("unshare") is None:
        return ()
    rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    prefix = ("unshare", *rights, *kind)
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if tried.returncode == 0 else ()


def in_pid_namespace(*command: str) -> list[str]:
    """The command that runs ``command`` as process 1 of a space of processes; skip without one."""
    if not (prefix := _prefix(_PID)):
        pytest.skip("this machine lets no process have a space of processes of its own")
    return [*prefix, *command]


def in_net_namespace(addresses: str, *command: str) -> list[str]:
    """The command that runs ``command`` on a network of its own with these addresses; or skip."""
    if not (prefix := _prefix(_NET)) or shutil.which("ip") is None:
        pytest.skip("this machine lets no process have a network of its own")
    return [*prefix, "sh", "-c", _WITH_ADDRESSES, addresses, *command]
