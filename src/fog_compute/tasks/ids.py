"""Names for tasks and attempts, and the seed that a task's randomness starts from."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

TASK_ID_LENGTH: Final = 26

NAME_PATTERN: Final = f"^(@last|@[1-9][0-9]{{0,5}}|[0-9a-z]{{1,{TASK_ID_LENGTH}}})$"
"""What a person may call a task: the last one, the n-th from the last, an id, its begin or end."""

SHOWN_IDS: Final = 3
"""So many of the ids that a name could mean are shown."""

_NAME: Final = re.compile(NAME_PATTERN)
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_RANDOM_BYTES: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SEED: Final = re.compile(r"[0-9A-Fa-f]{64}")
_MILLISECOND: Final = timedelta(milliseconds=1)  # divided exactly, unlike a float timestamp

RandomBytes = Callable[[int], bytes]


def new_task_id(now: datetime, random: RandomBytes = secrets.token_bytes) -> str:
    """Return 26 characters that sort by time: 48 bits of milliseconds, then 80 random bits."""
    milliseconds = (now - _EPOCH) // _MILLISECOND & (1 << 48) - 1
    value = milliseconds << 8 * _RANDOM_BYTES | int.from_bytes(random(_RANDOM_BYTES), "big")
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def time_of(task_id: str) -> datetime:
    """Return the time that a task's id says, to the millisecond."""
    value = 0
    for letter in task_id:
        value = value << 5 | _ALPHABET.index(letter)
    return _EPOCH + (value >> 8 * _RANDOM_BYTES) * _MILLISECOND


def is_name(text: str) -> bool:
    """Whether a person may call a task so."""
    return _NAME.fullmatch(text) is not None


def is_whole(text: str) -> bool:
    """Whether a text has the form of a task's id."""
    return len(text) == TASK_ID_LENGTH and is_name(text) and not text.startswith("@")


def place_of(name: str) -> int | None:
    """Return the place that a name says, 0 for what was made last; None if it is of an id."""
    if not name.startswith("@"):
        return None
    return 0 if name == "@last" else int(name[1:]) - 1


def named(name: str, newest_first: Sequence[str]) -> list[str]:
    """Return those of some ids that a name can mean; an id itself means nothing else."""
    if (place := place_of(name)) is not None:
        return list(newest_first[place : place + 1])
    if name in newest_first:
        return [name]
    return [one for one in newest_first if one.startswith(name) or one.endswith(name)]


def several(kind: str, name: str, ids: Sequence[str]) -> str:
    """Say that a name could mean several things of a kind, and show some of their ids."""
    shown = ", ".join(ids[:SHOWN_IDS]) + (", …" if len(ids) > SHOWN_IDS else "")
    return f"ids of several {kind} begin or end with {name}: {shown}: give more of one"


def new_handle(random: RandomBytes = secrets.token_bytes) -> str:
    """Return a fresh attempt handle: 128 random bits in hex, unrelated to any other name."""
    return random(16).hex()


def seed_of(task_id: str) -> str:
    """Return the seed of a task that was given none: 64 hex digits, equal for all its attempts.

    It is a hash, so a worker that sees it learns nothing about the task's id.
    """
    return hashlib.sha256(b"fog-compute task seed\0" + task_id.encode()).hexdigest()


def seed_from(text: str) -> str:
    """Return the seed that a person's words stand for: 64 hex digits as they are, else a hash."""
    if _SEED.fullmatch(text):
        return text.lower()
    return hashlib.sha256(b"fog-compute seed\0" + text.encode()).hexdigest()
