"""What a task's environment may hold: the same for who submits and for who runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fog_compute.errors import InvalidTask
from fog_compute.text import one_line
from fog_compute.units import KIB

__all__ = ["MAX_ENV", "MAX_ENV_BYTES", "check_env", "env_bytes"]

MAX_ENV: Final = 256
"""Variables of one task."""

MAX_ENV_BYTES: Final = 64 * KIB
"""All variables together, each as ``NAME=VALUE`` with a zero byte behind it."""


def env_bytes(env: Mapping[str, str]) -> int:
    """Return how much room variables take, each as ``NAME=VALUE`` and a zero byte."""
    return sum(
        len(name.encode("utf-8", "surrogatepass")) + len(value.encode("utf-8", "surrogatepass")) + 2
        for name, value in env.items()
    )


def check_env(env: Mapping[str, str]) -> None:
    """Raise `InvalidTask` unless a program can be given these variables."""
    if len(env) > MAX_ENV:
        raise InvalidTask(f"`env` has {len(env)} variables: at most {MAX_ENV} are allowed")
    for name, value in env.items():
        shown = one_line(repr(name), 80)
        if not name or "=" in name:
            raise InvalidTask(f"`env` has a variable named {shown}: give a name without '='")
        if any(c < " " or c == "\x7f" for c in name):
            raise InvalidTask(
                f"`env` has a variable named {shown}: give one without control characters"
            )
        if "\0" in value:
            raise InvalidTask(f"`env`: the value of {shown} holds a zero byte: give text without")
        if any("\ud800" <= c <= "\udfff" for c in name + value):
            raise InvalidTask(f"`env`: {shown} holds half a character: variables are Unicode text")
    if (size := env_bytes(env)) > MAX_ENV_BYTES:
        largest = max(env, key=lambda name: env_bytes({name: env[name]}))
        raise InvalidTask(
            f"`env` takes {size} bytes, over {MAX_ENV_BYTES}, most of them"
            f" {one_line(repr(largest), 80)}: pass large data with `inputs`"
        )
