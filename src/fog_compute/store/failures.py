"""What a database says about a failure, for people."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

__all__ = ["plain"]


def plain(error: BaseException) -> str:
    """The database's own words, without the statement, its values and links to manuals."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return str(error if original is None else original)
