"""Output that nobody took: whose it was, that what it told is kept, and how to have it again."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator, Mapping

from fog_compute.cli.common import CommandError
from fog_compute.descriptors import LostOutput, drop_output, why

__all__ = ["not_lost", "spooled"]

KIND = "output-lost"


@contextlib.contextmanager
def not_lost(kept: str, *, beside: Mapping[str, object] | None = None) -> Iterator[None]:
    """Say of output that is lost in the block that what it told is ``kept``, and where.

    Of a pipe whose reader has gone nothing is said: he has read enough.

    Raises:
        CommandError: standard output or standard error took no more.
    """
    try:
        yield
    except LostOutput as error:
        if error.errno == errno.EPIPE:
            raise
        drop_output()
        raise CommandError(f"{why(error)}; {kept}", kind=KIND, beside=beside) from None


@contextlib.contextmanager
def spooled(what: str, kept: str, *, beside: Mapping[str, object] | None = None) -> Iterator[None]:
    """Say of a temporary file that cannot be written in the block what it was for.

    Raises:
        CommandError: the folder for temporary files takes no more.
    """
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"{what} cannot be put into {tempfile.gettempdir()} before it is printed:"
            f" {error.strerror or error} (TMPDIR names another folder); {kept}",
            kind=KIND,
            beside=beside,
        ) from None
