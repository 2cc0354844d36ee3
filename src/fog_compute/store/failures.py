"""What a database says about a failure, for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from fog_compute.errors import EXHAUSTED, StoreAway, StoreError, is_exhaustion
from fog_compute.store.dialects import Verdict, judge, words

__all__ = ["plain", "refusal", "refusals"]


def plain(error: BaseException) -> str:
    """The database's own words, without the statement, its values and links to manuals."""
    return EXHAUSTED if is_exhaustion(error) else words(error)


def refusal(what: str, error: BaseException) -> StoreError:
    """What the database refuses, as an error that begins with ``what``."""
    # All connections are taken where each waits for a server that is silent.
    away = isinstance(error, NoConnection) or judge(error) is Verdict.AWAY
    return (StoreAway if away else StoreError)(f"{what}: {plain(error)}")


@contextlib.contextmanager
def refusals(what: str) -> Iterator[None]:
    """Raise what the database or the machine refuses as a `StoreError` that begins so.

    It is a `StoreAway` where the database is not there now.
    """
    try:
        yield
    except (SQLAlchemyError, ConnectionError, TimeoutError) as err:
        raise refusal(what, err) from err
    except OSError as err:
        # Not the database's own, which are errors of SQLAlchemy: there is no thread for it.
        raise StoreError(f"{what}: {EXHAUSTED}") from err
    except (RuntimeError, MemoryError) as err:
        # A connection has a thread of its own.
        if not is_exhaustion(err):
            raise
        raise StoreError(f"{what}: {plain(err)}") from err
