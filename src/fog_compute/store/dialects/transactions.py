"""A whole transaction in one visit, done again where another one was in its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from fog_compute.store.dialects.verdicts import ChangedMeanwhile, Verdict, judge

__all__ = ["TRIES", "transact"]

TRIES: Final = 5
"""How often a transaction is tried in all."""

T = TypeVar("T")


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in a transaction and commit it; what it did before the last try is undone.

    Raises:
        SQLAlchemyError: the database refused, or others were in the way at each try.
        ChangedMeanwhile: as the last.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            with engine.begin() as connection:
                return work(connection)
        except (SQLAlchemyError, ChangedMeanwhile) as err:
            if left and judge(err) is Verdict.AGAIN:
                continue
            raise
    raise AssertionError("the last try returns or raises")
