"""Where commands print. What is not taken whole raises: lost output is an error."""

from __future__ import annotations

import sys

__all__ = ["is_terminal", "speaks_unicode", "write", "write_bytes", "write_error_bytes"]


def write(text: str) -> None:
    """Write text to standard output, all of it and now.

    Raises:
        LostOutput: nobody takes it.
    """
    sys.stdout.write(text)
    sys.stdout.flush()


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output, all of them and now; nothing is nothing to lose.

    Raises:
        LostOutput: nobody takes them.
    """
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def write_error_bytes(data: bytes) -> None:
    """Write bytes to standard error, all of them and now; nothing is nothing to lose.

    Raises:
        LostOutput: nobody takes them.
    """
    if data:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def is_terminal() -> bool:
    """Say whether a person sees standard output."""
    return sys.stdout.isatty()


def speaks_unicode() -> bool:
    """Say whether standard output can take any character."""
    return sys.stdout.encoding.lower().startswith("utf")
