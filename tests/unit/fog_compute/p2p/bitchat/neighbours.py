"""A neighbour of an engine under test: makes packets of its own, and looks at what it is sent."""

from __future__ import annotations

from random import Random

from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkUp, SendFrame, Wake, WakeAt
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent, MeshPolicy
from fog_compute.p2p.bitchat.wire.announce import Announce
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode, packet
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.p2p.core.identity import Identity

NOW = 1_800_000_000.0


class Person:
    """Somebody with keys, who makes packets."""

    def __init__(self, number: int) -> None:
        self.keys = Identity(bytes([number]) * 32)
        self.peer_id = bytes.fromhex(self.keys.peer_id)

    def announce(self, now: float, *, ttl: int = 7) -> Packet:
        payload = Announce("ann", self.keys.noise_public, self.keys.signing_public).encode()
        return self.make(Kind.ANNOUNCE, payload, now, ttl=ttl)

    def text(self, text: str, now: float, *, packed: bool = True) -> Packet:
        return self.make(Kind.MESSAGE, text.encode(), now, packed=packed)

    def make(
        self, kind: int, payload: bytes, now: float, *, signed: bool = True, **changed: object
    ) -> Packet:
        made = packet(
            kind,
            self.peer_id,
            int(now * 1000),
            payload,
            **changed,  # type: ignore[arg-type]  # fields by name
        )
        return sign(made, self.keys) if signed else made


class Tried:
    """An engine with links to a test, on a clock that the test moves."""

    def __init__(
        self, *links: int, person: int = 99, policy: MeshPolicy | None = None, **more: object
    ) -> None:
        self.now = NOW
        self.mesh = Mesh(
            Person(person).keys,
            "me",
            Random(3),
            policy=policy,
            **more,  # type: ignore[arg-type]  # fields by name
        )
        self.sent: list[tuple[int, Packet]] = []
        self.frames: list[int] = []
        self.news: list[object] = []
        self.wake: float | None = None
        # Links whose radio says of no frame yet that it left.
        self.busy: set[int] = set()
        self.held: list[SendFrame] = []
        for link in links:
            self.do(LinkUp(link, 512, True))
        self.wait(0.2)

    def do(self, event: MeshEvent) -> list[object]:
        """Let something happen; what the application hears of it."""
        heard: list[object] = []
        for action in self.mesh.handle(event, self.now):
            if isinstance(action, SendFrame):
                self.sent.append((action.link, decode(action.data)))
                self.frames.append(len(action.data))
                if action.link in self.busy:
                    self.held.append(action)
                else:
                    heard += self.do(FrameSent(action.link, action.token, True))
            elif isinstance(action, WakeAt):
                self.wake = action.at
            else:
                heard.append(action)
                self.news.append(action)
        return heard

    def free(self, link: int) -> None:
        """Let a busy radio say that its frames left, and be as quick as others from now on."""
        self.busy.discard(link)
        held, self.held = self.held, []
        for one in held:
            self.do(FrameSent(one.link, one.token, True))

    def get(self, link: int, *packets: Packet) -> list[object]:
        """Let packets come in."""
        return [one for each in packets for one in self.do(FrameReceived(link, each.on_air))]

    def wait(self, seconds: float) -> list[object]:
        """Let time pass, waking the engine when it wants to be."""
        until, heard = self.now + seconds, list[object]()
        while self.wake is not None and self.wake <= until:
            self.now, self.wake = max(self.now, self.wake), None
            heard += self.do(Wake())
        self.now = until
        return heard

    def take(self, kind: Kind | None = None) -> list[tuple[int, Packet]]:
        """What was sent since this was last asked."""
        sent, self.sent = self.sent, []
        return [one for one in sent if kind is None or one[1].kind == kind]

    def dropped(self) -> dict[str, int]:
        return {
            name.removeprefix("dropped_"): count
            for name, count in self.mesh.counts.items()
            if name.startswith("dropped_")
        }
