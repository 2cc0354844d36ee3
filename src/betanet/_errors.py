"""What can go wrong, by name. The native module raises these classes."""

from __future__ import annotations

from typing import ClassVar, Final, Self


class BetanetError(Exception):
    """Anything that the mixnet core refuses or cannot do."""


class Closed(BetanetError):
    """The object was closed, or belongs to the process this one was forked from."""


class InvalidKey(BetanetError, ValueError):
    """Bytes that are no key: wrong length, not canonical, or not of prime order."""


class BuildError(BetanetError, ValueError):
    """A packet or reply block that cannot be made: path, payload or parity out of bounds."""


class InvalidProof(BetanetError, ValueError):
    """A VRF proof that is malformed, or does not hold for this key and input."""


class InvalidSurb(BetanetError, ValueError):
    """Bytes that are no single-use reply block, or one that was already used."""


class PacketError(BetanetError):
    """A packet that must be dropped. Each subclass is one ``reason`` of the drop counter."""

    reason: ClassVar[str] = "packet"


class WrongLength(PacketError):
    """Not exactly as long as the geometry says."""

    reason = "wrong_length"


class UnknownVersion(PacketError):
    """The first byte names no known format."""

    reason = "unknown_version"


class BadParity(PacketError):
    """The key-epoch parity is neither 0 nor 1."""

    reason = "bad_parity"


class NoKey(PacketError):
    """No key is held for the packet's epoch."""

    reason = "no_key"


class BadAlpha(PacketError):
    """The group element is not canonical."""

    reason = "bad_alpha"


class WeakSecret(PacketError):
    """The shared secret is all zero."""

    reason = "weak_secret"


class BadMac(PacketError):
    """The header was altered, or is meant for another key."""

    reason = "bad_mac"


class Replay(PacketError):
    """The packet was seen before."""

    reason = "replay"


class ReplayCacheFull(PacketError):
    """The replay cache can remember no more packets under this key."""

    reason = "replay_cache_full"


class BadCommand(PacketError):
    """The routing block holds no known command."""

    reason = "bad_command"


class BadPayload(PacketError):
    """The payload was altered on its way, or was never well formed."""

    reason = "bad_payload"


class NoiseError(BetanetError, ValueError):
    """A message, frame or seal of Noise that is refused; the session is as it was before.

    Attributes:
        reason: what to count it by: ``wrong_length``, ``out_of_turn``, ``weak_key``, ``bad_tag``,
            ``replayed``, ``too_old`` or ``exhausted``.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason: Final = reason

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        # Without it no other process could read the error.
        return type(self), (str(self), self.reason)


class QueueFull(BetanetError):
    """The pipeline holds as many packets as it may: receive some first."""


class NetworkError(BetanetError):
    """The mixnet cannot be reached, or refused."""


class Busy(NetworkError):
    """Too many messages are under way: a send would have to wait for some of them."""


class Offline(NetworkError):
    """This client itself cannot reach the network; the text begins with the cause.

    No edge is attached, or no consensus is in force by this machine's clock. It says nothing about
    whoever was to be reached, and ends by itself when the cause does.
    """


class NoNetworkFile(NetworkError, FileNotFoundError):
    """There is no bootstrap file at the path that was given."""


class InvalidAddress(BetanetError, ValueError):
    """A text that is no address, or one that was mistyped."""


class Timeout(NetworkError, TimeoutError):
    """No answer came in time."""


class Unanswered(Timeout):
    """No answer came in time to a request of which all was acknowledged: it has arrived."""


class NotEnoughNodes(NetworkError):
    """The network is too small for the path that was asked for.

    Attributes:
        needed: nodes that the path takes.
        available: nodes that the network has for it.
    """

    def __init__(self, message: str, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed: Final = needed
        self.available: Final = available

    def __reduce__(self) -> tuple[type[Self], tuple[str, int, int]]:
        # Without it no other process could read the error.
        return type(self), (str(self), self.needed, self.available)


PACKET_ERRORS: Final[dict[str, type[PacketError]]] = {
    kind.reason: kind
    for kind in (
        WrongLength,
        UnknownVersion,
        BadParity,
        NoKey,
        BadAlpha,
        WeakSecret,
        BadMac,
        Replay,
        ReplayCacheFull,
        BadCommand,
        BadPayload,
    )
}
