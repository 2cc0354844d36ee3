"""Commands in a container of their own, where the machine allows one."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

import pytest

__all__ = ["in_pid_namespace"]


@functools.cache
def _prefix() -> tuple[str, ...]:
    """What goes before a command that is to be process 1; empty where the machine has no way."""
    if shutil.which("unshare") is None:
        return ()
    rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    prefix = ("unshare", *rights, "--pid", "--fork", "--kill-child", "--mount-proc")
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if tried.returncode == 0 else ()


def in_pid_namespace(*command: str) -> list[str]:
    """The command that runs ``command`` as process 1 of a space of processes; skip without one."""
    if not _prefix():
        pytest.skip("this machine lets no process have a space of processes of its own")
    return [*_prefix(), *command]
