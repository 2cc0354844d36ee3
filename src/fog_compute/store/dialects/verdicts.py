"""What an error of a database means, whichever database it is."""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError

from fog_compute.errors import StoreError

__all__ = ["ChangedMeanwhile", "Verdict", "judge", "sqlstate", "words"]

AWAY: Final = "it is away, or ended the connection"


EMPTIED: Final = (
    "it has no such table, as one that was dropped and made anew: `fog down` and `fog up` make its"
    " tables"
)


class ChangedMeanwhile(StoreError):
    """A row is no longer as it was read in the same transaction, of which nothing was written."""


class Verdict(enum.Enum):
    """What whoever met an error can do."""

    AGAIN = "again"
    """Do the whole transaction again at once: another one was in its way, or came before."""
    AWAY = "away"
    """Nobody is there now, or the connection died: later, on another connection."""
    DAMAGED = "damaged"
    """What is on its disk cannot be read."""
    REFUSED = "refused"
    """Anything else, such as a full disk: it may go later."""
    UNSTORABLE = "unstorable"
    """It has no form for a value: text that is no Unicode, a number out of its range."""
    UNUSABLE = "unusable"
    """This user, or no user, may have it so: somebody must change something first."""


_OF_SQLITE: Final = {
    sqlite3.SQLITE_NOTADB: Verdict.DAMAGED,
    sqlite3.SQLITE_CORRUPT: Verdict.DAMAGED,
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html; of several the longest counts.
_OF_POSTGRES: Final[Mapping[str, Verdict]] = {
    "08": Verdict.AWAY,  # connection exception
    "22": Verdict.UNSTORABLE,  # data exception
    "23505": Verdict.AGAIN,  # unique violation: another process has made the same meanwhile
    "25P03": Verdict.AWAY,  # idle in a transaction for too long: the process was frozen
    "28": Verdict.UNUSABLE,  # wrong user or password
    "3D000": Verdict.UNUSABLE,  # no such database
    "3F000": Verdict.UNUSABLE,  # no such schema
    "40001": Verdict.AGAIN,  # serialization failure
    "40P01": Verdict.AGAIN,  # deadlock
    "42501": Verdict.UNUSABLE,  # no permission
    "42P01": Verdict.UNUSABLE,  # no such table: another database has its name now
    "57P": Verdict.AWAY,  # shut down, crashed, or starting
    "XX001": Verdict.DAMAGED,  # data corrupted
    "XX002": Verdict.DAMAGED,  # index corrupted
}
_CODE_LENGTHS: Final = (5, 3, 2)


def judge(error: BaseException) -> Verdict:
    """Say what an error of a visit to the database means."""
    if isinstance(error, ChangedMeanwhile):
        return Verdict.AGAIN
    original = error.orig if isinstance(error, DBAPIError) else error
    code = sqlstate(original)
    if code is not None:
        found = (_OF_POSTGRES.get(code[:length]) for length in _CODE_LENGTHS)
        return next((verdict for verdict in found if verdict is not None), Verdict.REFUSED)
    if isinstance(original, sqlite3.Error):
        # The lowest byte is the kind, what is above only tells more of it.
        kind = getattr(original, "sqlite_errorcode", 0) & 0xFF
        refused = Verdict.UNSTORABLE if isinstance(error, DataError) else Verdict.REFUSED
        return _OF_SQLITE.get(kind, refused)
    if isinstance(original, ConnectionError | TimeoutError):
        return Verdict.AWAY
    if isinstance(error, DBAPIError):
        return (
            Verdict.AWAY
            if error.connection_invalidated or _is_interface(error)
            else (Verdict.REFUSED)
        )
    if isinstance(error, ValueError | OverflowError):
        return Verdict.UNSTORABLE
    return Verdict.REFUSED


def words(error: BaseException) -> str:
    """The database's own words, without the statement, its values and links to manuals."""
    if not isinstance(error, DBAPIError):
        return AWAY if isinstance(error, ConnectionError | TimeoutError) else str(error)
    fields = _fields(error.orig)
    if fields is not None:
        if fields.get("C") == "42P01":
            return EMPTIED
        return fields.get("M", "an error without words")
    if _is_interface(error):
        return AWAY
    return str(error if error.orig is None else error.orig)


def sqlstate(original: BaseException | None) -> str | None:
    """The five characters by which Postgres names an error; None of any other error."""
    fields = _fields(original)
    return None if fields is None else fields.get("C", "XX000")


def _fields(original: BaseException | None) -> Mapping[str, str] | None:
    """The fields of an answer of Postgres, which its driver hands over as they came."""
    if original is not None and _of_driver(original):
        first = next(iter(original.args), None)
        if isinstance(first, dict):
            return first
    return None


def _is_interface(error: DBAPIError) -> bool:
    """Whether the driver of Postgres says that there is no connection: its server said nothing."""
    return _of_driver(error.orig) and _fields(error.orig) is None


def _of_driver(original: BaseException | None) -> bool:
    return type(original).__module__.startswith("pg8000")
