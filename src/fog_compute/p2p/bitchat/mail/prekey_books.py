"""Prekeys of one's own, whose secrets are erased after use, and those of others, each used once.

What is sealed to a prekey can be read until its owner has erased the secret. That is two days after
the first message came that was sealed to it, and not at once: the same message may come by other
couriers later, and nothing tells it from another one before it is opened.

Source: ``Services/Prekeys/LocalPrekeyStore.swift`` and ``PrekeyBundleStore.swift`` of the app.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

import betanet
from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.wire.prekeys import MAX_PREKEYS, Prekey, PrekeyBundle

__all__ = ["OwnPrekey", "OwnPrekeys", "PeerBundle", "PeerPrekeys", "PrekeyPolicy", "PrekeyState"]

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class PrekeyPolicy:
    """All that can be chosen; the numbers are the app's.

    Attributes:
        low: unused prekeys of one's own below which the bundle is filled up.
        grace_ms: how long a secret lives after its first use;
        unused_ms: and how long without any.
        seal_ms: age of a bundle of somebody else up to which anything is sealed to it.
        peers: bundles of others.
        draw: draws a secret; simulations have one that is seeded.
    """

    low: int = 3
    grace_ms: int = 2 * DAY_MS
    unused_ms: int = 30 * DAY_MS
    seal_ms: int = 7 * DAY_MS
    peers: int = 200
    draw: Callable[[], betanet.NoiseSecret] = betanet.NoiseSecret.generate


class OwnPrekey(msgspec.Struct):
    """A prekey of one's own.

    Attributes:
        id: by which others name it.
        secret: X25519, 32 bytes.
        made_ms: when it was drawn.
        used_ms: when something came that was sealed to it.
    """

    id: int
    secret: bytes
    made_ms: int
    used_ms: int | None = None

    def __repr__(self) -> str:
        return f"OwnPrekey(id={self.id}, ..)"


class PeerBundle(msgspec.Struct):
    """Prekeys of somebody else.

    Attributes:
        bundle: the newest; its signature was found good.
        used: ids of those that something was sealed to.
    """

    bundle: PrekeyBundle
    used: set[int] = msgspec.field(default_factory=set)


class PrekeyState(msgspec.Struct, frozen=True):
    """All that has to survive a restart. There are secrets in it."""

    own: tuple[OwnPrekey, ...] = ()
    next_id: int = 0
    made_ms: int = 0
    peers: tuple[PeerBundle, ...] = ()


class OwnPrekeys:
    """The secrets of a node's prekeys."""

    __slots__ = ("_items", "_made_ms", "_next_id", "_policy")

    def __init__(self, policy: PrekeyPolicy, state: PrekeyState) -> None:
        self._policy: Final = policy
        self._items = {one.id: one for one in state.own}
        self._next_id = state.next_id
        self._made_ms = state.made_ms

    @property
    def items(self) -> tuple[OwnPrekey, ...]:
        """All of them."""
        return tuple(self._items.values())

    @property
    def next_id(self) -> int:
        """The id of the next one."""
        return self._next_id

    @property
    def made_ms(self) -> int:
        """When the bundle changed last; no two bundles have one time."""
        return self._made_ms

    def refresh(self, now_ms: int) -> bool:
        """Erase what is to be erased and fill up; True if the bundle is another one now."""
        policy = self._policy
        before = self._unused()
        for one in self.items:
            used = one.used_ms
            limit = policy.unused_ms if used is None else policy.grace_ms
            if now_ms - (one.made_ms if used is None else used) >= limit:
                del self._items[one.id]
        if len(self._unused()) < policy.low:
            while len(self._unused()) < MAX_PREKEYS:
                secret = policy.draw().to_bytes()
                self._items[self._next_id] = OwnPrekey(self._next_id, secret, now_ms)
                self._next_id = (self._next_id + 1) % (1 << 32)
        changed = self._unused() != before
        if changed:
            self._advance(now_ms)
        return changed

    def public(self) -> tuple[Prekey, ...]:
        """Those that nothing came for, by their ids."""
        return tuple(
            Prekey(one.id, betanet.NoiseSecret(one.secret).public)
            for one in sorted(self._items.values(), key=lambda one: one.id)
            if one.used_ms is None
        )

    def secret(self, prekey_id: int) -> betanet.NoiseSecret | None:
        """The secret of one, if there still is one."""
        one = self._items.get(prekey_id)
        return None if one is None else betanet.NoiseSecret(one.secret)

    def use(self, prekey_id: int, now_ms: int) -> bool:
        """Something came that was sealed to one; True if the bundle lost it by that."""
        one = self._items.get(prekey_id)
        if one is None or one.used_ms is not None:
            return False
        one.used_ms = now_ms
        self._advance(now_ms)
        return True

    @property
    def next_expiry_ms(self) -> int | None:
        """When the next secret is to be erased."""
        policy = self._policy
        return min(
            (
                one.made_ms + policy.unused_ms if one.used_ms is None
                else one.used_ms + policy.grace_ms
                for one in self._items.values()
            ),
            default=None,
        )  # fmt: skip

    def _unused(self) -> set[int]:
        return {one.id for one in self._items.values() if one.used_ms is None}

    def _advance(self, now_ms: int) -> None:
        self._made_ms = max(now_ms, self._made_ms + 1)


class PeerPrekeys:
    """Bundles of others.

    People whom the owner knows keep theirs; of others those stay that were heard of last, and
    whoever makes names up over a link pushes out what came over that link.
    """

    __slots__ = ("_bundles", "_known", "_policy", "_via")

    def __init__(
        self,
        policy: PrekeyPolicy,
        bundles: Iterable[PeerBundle],
        known: Callable[[bytes], bool] = lambda _noise_key: False,
    ) -> None:
        """Begin with those that were kept.

        Args:
            policy: all that can be chosen.
            bundles: those that were kept.
            known: whether the owner knows the holder of a Noise key.
        """
        self._policy: Final = policy
        self._known: Final = known
        self._bundles = {one.bundle.noise_key: one for one in bundles}
        self._via: dict[bytes, Link] = {}

    @property
    def items(self) -> tuple[PeerBundle, ...]:
        """All of them."""
        return tuple(self._bundles.values())

    def take(self, bundle: PrekeyBundle, via: Link | None = None) -> bool:
        """Keep a bundle whose signature was found good; False if there is one as new.

        Args:
            bundle: what came.
            via: the link that brought it; it counts for the first bundle of its owner.
        """
        key = bundle.noise_key
        before = self._bundles.pop(key, None)
        if before is not None and before.bundle.made_ms >= bundle.made_ms:
            self._bundles[key] = before
            return False
        offered = {prekey.id for prekey in bundle.prekeys}
        used = set() if before is None else before.used & offered
        self._bundles[key] = PeerBundle(bundle, used)
        if before is None and via is not None:
            self._via[key] = via
        if len(self._bundles) > self._policy.peers:
            self._drop_one()
        return True

    def _drop_one(self) -> None:
        shares = Counter(self._via.values())

        def worth(key: bytes) -> tuple[bool, int]:
            share = shares[self._via[key]] if key in self._via else 0
            return self._known(key), -share

        victim = min(self._bundles, key=worth)  # of those alike whoever was heard of first
        del self._bundles[victim]
        self._via.pop(victim, None)

    def assign(self, noise_key: bytes, now_ms: int) -> Prekey | None:
        """A prekey for one message to somebody, never again for another; None if there is none."""
        one = self._bundles.get(noise_key)
        if one is None or now_ms - one.bundle.made_ms > self._policy.seal_ms:
            return None
        unused = [prekey for prekey in one.bundle.prekeys if prekey.id not in one.used]
        if not unused:
            return None
        prekey = min(unused, key=lambda prekey: prekey.id)
        one.used.add(prekey.id)
        return prekey
