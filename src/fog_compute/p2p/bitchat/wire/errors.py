"""What is wrong with bytes that somebody sent, or with a record that does not fit its format."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Malformed", "Reason"]


class Reason(StrEnum):
    """Why bytes were refused: few, and known beforehand, so that each is a counter's label."""

    TRUNCATED = "truncated"
    """They end before a field does that they announce."""
    VERSION = "version"
    """Neither version 1 nor 2."""
    TOO_LONG = "too-long"
    """More than the format, or this program, takes; seen before anything is allocated for it."""
    COMPRESSION = "compression"
    """What is said to be DEFLATE is not, or gives another number of bytes than is said."""
    TEXT = "text"
    """What has to be UTF-8 is not."""
    FIELD = "field"
    """A field's value or length is not one that it may have."""
    MISSING = "missing"
    """A field is absent without which the rest means nothing."""
    KIND = "kind"
    """It is of another kind than what it was taken for, or of one that is not known."""
    SIGNATURE = "signature"
    """It is not signed by whom it says it is from."""


class Malformed(ValueError):
    """Bytes are not what they are said to be, or a record has no bytes.

    The text names the thing and the field, and shows nothing of what was sent.

    Attributes:
        reason: which of the few things it is.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
