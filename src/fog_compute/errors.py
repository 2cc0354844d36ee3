"""Every error that this package raises on purpose.

A message says what failed, on which object, and what to do about it. Nothing here imports
anything else of the package.
"""

# a name says what is the case, not that it is an error

from __future__ import annotations

from typing import Final

__all__ = [
    "EXHAUSTED",
    "PROBLEM",
    "STOPPING",
    "BackendError",
    "ChannelDown",
    "ChannelError",
    "ChannelTimeout",
    "ChannelUnanswered",
    "CircuitError",
    "ConfigError",
    "FogError",
    "FolderUnusable",
    "HomeUnusable",
    "InvalidTask",
    "NoWorker",
    "NotFound",
    "NotReady",
    "NotRunning",
    "PrivacyUnavailable",
    "QuotaExceeded",
    "ServiceUnavailable",
    "SessionError",
    "StoreAway",
    "StoreError",
    "StoreUnusable",
    "Unauthorised",
    "Unreadable",
    "is_exhaustion",
]

PROBLEM: Final = "urn:fog-compute:problem:"
"""What the type of every problem begins with, in the backend's answers and in commands' JSON."""

NO_REDIS: Final = "Redis is not supported yet: install fog-compute[redis]"
NOT_REDIS: Final = (
    "the URL of Redis (FOG_REDIS_URL) cannot be read: give redis://user:password@host:port/number"
)
STOPPING: Final = f"{PROBLEM}stopping"
"""The kind of the problem with which a backend answers that is on its way out."""


EXHAUSTED: Final = (
    "this machine gives no more threads or memory (ulimit -u, ulimit -v, or a container's limits):"
    " raise them, or try again later"
)
"""What to tell of an error for which `is_exhaustion` holds."""

_NO_THREAD: Final = "can't start new thread"


def is_exhaustion(error: BaseException) -> bool:
    """Say whether an error only means that the machine gives no more threads or memory."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_exhaustion(one) for one in error.exceptions)
    # Python has no kind of its own for a thread that cannot be had.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and str(error) == _NO_THREAD
    )


class FogError(Exception):
    """The root of all errors of this package; its text is one line meant for a person."""

    @property
    def message(self) -> str:
        """The one line."""
        return str(self)

    @property
    def problem(self) -> str:
        """The type of problem that it is, for programs."""
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(self).__name__)
        return PROBLEM + words.lstrip("-")


class ConfigError(FogError):
    """A setting, a path or a port cannot be used as it is."""


class NotFound(FogError):
    """The named object does not exist here."""


class InvalidTask(FogError):
    """A task is described in a way that can never run."""


class NoWorker(FogError):
    """No listed worker can take a task as it is, and it is not to wait for one."""


class PrivacyUnavailable(FogError):
    """The network cannot give the asked level of privacy.

    Attributes:
        needed: nodes that a path of this level needs, or None where unknown.
        available: nodes that the current view of the network offers, or None where unknown.
    """

    def __init__(
        self, message: str, *, needed: int | None = None, available: int | None = None
    ) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class CircuitError(FogError):
    """A circuit is unknown, closed, or of another level than the caller says."""


class SessionError(FogError):
    """A session's token is not good, or its quota is used up."""


class ChannelError(FogError):
    """A message could not be handed over or answered."""


class ChannelDown(ChannelError):
    """This machine cannot use the network now; that says nothing about who was to be asked."""


class ChannelTimeout(ChannelError):
    """No answer came in time; the other side may or may not have acted."""


class ChannelUnanswered(ChannelTimeout):
    """No answer came in time to a message that has arrived: with its recipient, or at an edge."""

    @property
    def problem(self) -> str:
        """To who asked, it is the same."""
        return f"{PROBLEM}channel-timeout"


class HomeUnusable(FogError):
    """A file of a home folder cannot be read or locked; the text names it and the reason."""


class FolderUnusable(FogError):
    """A folder that files are to be written into cannot be; the text names it and the reason."""


class NotRunning(FogError):
    """No fog runs where one was asked for."""


class NotReady(FogError):
    """A fog runs, and its backend is not there yet."""


class Unauthorised(FogError):
    """The backend takes no key that came with a request, or not for this."""


class BackendError(FogError):
    """A backend cannot be reached, or what it answers cannot be used; the text says why."""

    def __init__(self, message: str, problem: str = "") -> None:
        """``problem`` is the type that the backend's own answer gave."""
        super().__init__(message)
        self._problem = problem

    @property
    def problem(self) -> str:
        """The type of problem that it is, for programs."""
        return self._problem or super().problem


class Unreadable(FogError):
    """A file that goes with a task cannot be read, or changed while it was sent."""


class StoreError(FogError):
    """The database refused, is locked by another process, or is damaged."""


class StoreAway(StoreError):
    """Nobody is at the database now, or its server ended a connection: ask again later."""


class StoreUnusable(StoreError):
    """The database is damaged, of a newer version or has no place; trying again will not help."""


class QuotaExceeded(StoreError):
    """What was brought does not fit beside what is kept already; nothing of it was kept.

    Attributes:
        limit_bytes: how much may be kept.
        used_bytes: how much is.
    """

    def __init__(self, message: str, *, limit_bytes: int, used_bytes: int) -> None:
        super().__init__(message)
        self.limit_bytes = limit_bytes
        self.used_bytes = used_bytes


class ServiceUnavailable(FogError):
    """A service is not running, and the text says why."""
