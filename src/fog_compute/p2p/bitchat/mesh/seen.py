"""What has come before: duplicates are known for as long as any can still be on its way.

How many entries that takes depends on how much is said. The app's fixed thousand entries forget a
packet at 20 a second while copies of it still travel; here nothing younger than the oldest
possible duplicate is forgotten, unless a flood of packets fills a generous bound (facts: BitChat's
`BLEReceivePipeline.swift`, `MessageDeduplicator.swift`).

Enter a packet only once its signature was found good: forgeries would otherwise keep the real one
out. The key is a hash of all that no relay may change: not of TTL, flags of answers, or signature.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Seen", "SeenPolicy", "Shown"]


@dataclass(frozen=True, slots=True)
class SeenPolicy:
    """How much is remembered.

    Attributes:
        keep_s: seconds after which an entry is forgotten in any case.
        duplicates_s: age in seconds of the oldest copy that may still be on its way; younger
            entries stay, however many they are.
        smallest: entries that are kept up to ``keep_s`` whatever the rate.
        largest: entries beyond which even young ones go.
    """

    keep_s: float = 300.0
    duplicates_s: float = 60.0
    smallest: int = 1_000
    largest: int = 65_536


class Seen:
    """The keys of what came, oldest first.

    Attributes:
        forgotten_young: entries that had to go although copies could still come.
    """

    __slots__ = ("_entries", "_policy", "forgotten_young")

    def __init__(self, policy: SeenPolicy | None = None) -> None:
        self._policy = policy or SeenPolicy()
        self._entries: OrderedDict[bytes, float] = OrderedDict()
        self.forgotten_young = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: bytes, now: float) -> bool:
        """Enter a key; False if it was there. A repetition makes an entry no younger."""
        if key in self._entries:
            return False
        self._entries[key] = now
        self._trim(now)
        return True

    def _trim(self, now: float) -> None:
        policy = self._policy
        while True:
            age = now - next(iter(self._entries.values()))
            count = len(self._entries)
            old = age > policy.keep_s
            spare = count > policy.smallest and age > policy.duplicates_s
            if not old and not spare and count <= policy.largest:
                return
            self._entries.popitem(last=False)
            if age <= policy.duplicates_s:
                self.forgotten_young += 1


class Shown:
    """What was shown to a person: never twice, even where not everything can be remembered.

    When an entry has to go, whatever was made up to then counts as shown from now on.
    """

    __slots__ = ("_entries", "_horizon", "_largest")

    def __init__(self, largest: int = 65_536) -> None:
        """Remember up to ``largest`` entries."""
        self._largest = largest
        self._entries: OrderedDict[str, int] = OrderedDict()
        self._horizon = -1

    def admit(self, message_id: str, stamp: int) -> bool:
        """Enter a message made at ``stamp``; False if it was shown, or that cannot be told."""
        if message_id in self._entries or stamp <= self._horizon:
            return False
        self._entries[message_id] = stamp
        if len(self._entries) > self._largest:
            _, gone = self._entries.popitem(last=False)
            self._horizon = max(self._horizon, gone)
        return True
