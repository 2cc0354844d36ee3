"""Groups over the mesh: between programs of ours, and with somebody who has the app."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fog_compute.p2p.bitchat.ble_groups import GroupTalk, Way
from fog_compute.p2p.bitchat.ble_peers import NearPeers
from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkUp, SendFrame, Wake, WakeAt
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent
from fog_compute.p2p.bitchat.mesh.news import GroupHeard, HeardPrivately, SayGroup, SayTo
from fog_compute.p2p.bitchat.wire.announce import Capability
from fog_compute.p2p.bitchat.wire.groups import GroupEnvelope, GroupMessage
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import decode
from fog_compute.p2p.bitchat.wire.private import PrivateKind, within
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity, fingerprint_of
from fog_compute.p2p.core.messages import MAX_LIFE_MS, DecentralizedMessage, MessageKind
from fog_compute.p2p.core.rosters import NO_KEY, ROSTER, Member, Roster
from fog_compute.p2p.core.transport import Arrival, Outcome, OutcomeState
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW
from tests.unit.fog_compute.p2p.bitchat.wired import Wired, wired

pytestmark = pytest.mark.asyncio

GROUP = "0f" * 16
NONCE = b"nonce of 12."


class AppKeys:
    """Two keys that say nothing of each other."""

    def __init__(self) -> None:
        noise = X25519PrivateKey.from_private_bytes(b"\x0b" * 32)
        self._signing = Ed25519PrivateKey.from_private_bytes(b"\x0c" * 32)
        self.noise_secret = noise.private_bytes_raw()
        self.noise_public = noise.public_key().public_bytes_raw()
        self.signing_public = self._signing.public_key().public_bytes_raw()
        self.sign = self._signing.sign
        self.fingerprint = fingerprint_of(self.noise_public)


class App:
    """Somebody with the app: takes a group's state from its creator, and keeps the key."""

    def __init__(self) -> None:
        self.keys = AppKeys()
        self.now = NOW
        self.mesh = Mesh(self.keys, "zoe", Random(5))
        self.mesh._station.capabilities = Capability.GROUPS | Capability.PREKEYS  # as the app's
        self.sent: list[tuple[int, bytes]] = []
        self.states: list[Roster] = []
        self.said: list[GroupMessage] = []
        self.private: list[int] = []
        self._wake = 0.0

    def do(self, event: MeshEvent) -> None:
        for action in self.mesh.handle(event, self.now):
            match action:
                case SendFrame(link, data, token):
                    self.sent.append((link, data))
                    self.do(FrameSent(link, token, ok=True))
                case WakeAt(at):
                    self._wake = at
                case HeardPrivately(_, noise_key, kind, body):
                    self.private.append(kind)
                    if kind in (PrivateKind.GROUP_INVITE, PrivateKind.GROUP_KEY_UPDATE):
                        self._take(fingerprint_of(noise_key), Roster.parse(body))
                case GroupHeard(payload):
                    envelope = GroupEnvelope.decode(payload)
                    for state in self.states:
                        if (envelope.group_id.hex(), envelope.epoch) == (state.id, state.epoch):
                            said = envelope.open(state.key)
                            assert state.by_key(said.signing_key) is not None
                            self.said.append(said)

    def _take(self, sender: str, state: Roster) -> None:
        assert sender == state.maker
        self.states = [state] if state.member(self.keys.fingerprint) else []

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self._wake <= self.now:
            self.do(Wake())

    def tell_state(self, to: Wired, roster: Roster, kind: PrivateKind) -> None:
        self.do(SayTo("s", to.me.peer_id, within(kind, roster.encoded)))

    def say(
        self, text: str, roster: Roster, message_id: str, keys: AppKeys | Identity | None = None
    ) -> None:
        signer = keys or self.keys
        said = GroupMessage(message_id, signer.signing_public, "z", int(self.now * 1000), text)
        group = bytes.fromhex(roster.id)
        sealed = said.seal(group, roster.epoch, roster.key, NONCE, signer)
        self.do(SayGroup("g", sealed.encode()))


class Street:
    """Bob, Ann and Zoe, who has the app: Ann is near both."""

    def __init__(self, bob: Wired, ann: Wired, groups: dict[str, Groups]) -> None:
        self.bob, self.ann, self.zoe = bob, ann, App()
        self.groups = groups
        self.in_air: list[int] = []
        self.told: dict[str, list[object]] = {"ann": [], "bob": []}

    async def run(self, seconds: float = 3.0) -> None:
        for _ in range(round(seconds / 0.25)):
            while self._carry():
                pass
            await self.bob.wait(0.25)
            await self.ann.wait(0.25)
            self.zoe.wait(0.25)
        while self._carry():
            pass
        self.told["ann"] += await self.ann.told()
        self.told["bob"] += await self.bob.told()

    def _carry(self) -> bool:
        ann, self.ann.sent = self.ann.sent, []
        bob, self.bob.sent = self.bob.sent, []
        zoe, self.zoe.sent = self.zoe.sent, []
        for link, packet in ann:
            self.in_air.append(packet.kind)
            if link == 1:
                self.bob.get(1, packet)
            else:
                self.zoe.do(FrameReceived(1, packet.on_air))
        for _, packet in bob:
            self.ann.get(1, packet)
        for _, data in zoe:
            self.ann.get(2, decode(data))
        return bool(ann or bob or zoe)

    def arrivals(self, who: str) -> list[Arrival]:
        return [one for one in self.told[who] if isinstance(one, Arrival)]

    def texts(self, who: str) -> list[str]:
        return [
            one.message.text
            for one in self.arrivals(who)
            if one.message.room == GROUP and one.message.kind is MessageKind.TEXT
        ]

    def outcomes(self, who: str) -> list[Outcome]:
        return [one for one in self.told[who] if isinstance(one, Outcome)]

    def roster(self, epoch: int = 1, *, maker: Identity | AppKeys | None = None) -> Roster:
        """Bob and Zoe in a group that Ann made, or all three in one of somebody else's."""
        members = [
            *(Member(one.me.keys.fingerprint, one.me.keys.signing_public) for one in self.ours),
            Member(self.zoe.keys.fingerprint, self.zoe.keys.signing_public, "zoe"),
        ]
        return Roster.make(maker or self.ann.me.keys, GROUP, "us", members, epoch)  # type: ignore[arg-type]

    @property
    def ours(self) -> tuple[Wired, Wired]:
        return self.bob, self.ann

    def sends(self, text: str, message_id: str = "1a" * 16) -> DecentralizedMessage:
        created = int(self.ann.now * 1000)
        return DecentralizedMessage(
            body=text.encode(),
            room=GROUP,
            id=message_id,
            sender=self.ann.me.keys.fingerprint,
            created_ms=created,
            expires_ms=created + MAX_LIFE_MS,
        )

    async def send(self, message: DecentralizedMessage, *, attempt: int = 0) -> list[Outcome]:
        """Ann sends to Bob, and to Zoe."""
        to = (self.bob.me.keys.fingerprint, self.zoe.keys.fingerprint)
        return [await self.ann.transport.send(message, one, attempt=attempt) for one in to]


async def street(stack: AsyncExitStack) -> Street:
    groups = {
        "ann": Groups(Identity(bytes([1]) * 32).fingerprint),
        "bob": Groups(Identity(bytes([2]) * 32).fingerprint),
    }
    bob = await stack.enter_async_context(wired(1, person=2, groups=groups["bob"]))
    ann = await stack.enter_async_context(wired(1, 2, person=1, groups=groups["ann"]))
    made = Street(bob, ann, groups)
    made.zoe.do(LinkUp(1, 512, initiated=True))
    await made.run(4.0)
    return made


def states(outcomes: list[Outcome]) -> list[tuple[OutcomeState, bool]]:
    return [(one.state, one.unanswered) for one in outcomes]


async def test_a_group_of_ours_is_one_of_the_apps_and_a_text_floods_once() -> None:
    """INV-BITCHAT-96, INV-BITCHAT-97."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        roster = here.roster()
        here.groups["ann"].put(roster)
        here.groups["bob"].put(roster)
        told = msgspec.structs.replace(
            roster.message(), id="0a" * 16, sender=roster.maker, created_ms=1, expires_ms=2
        )
        await here.ann.transport.send(told, here.zoe.keys.fingerprint)
        # Her session is not there yet: nothing goes out under a key that she has not.
        early = await here.send(here.sends("too early"))
        await here.run()
        here.in_air.clear()
        sent = await here.send(here.sends("hello", "2b" * 16))
        await here.run(1.0)

        assert early[1] == Outcome(
            "1a" * 16,
            here.zoe.keys.fingerprint,
            OutcomeState.FAILED,
            "the group's key is on its way to them",
        )
        assert here.zoe.states == [roster]
        assert states(here.outcomes("ann")) == [(OutcomeState.ACCEPTED, True)]
        assert states(sent) == [(OutcomeState.ACCEPTED, False), (OutcomeState.ACCEPTED, True)]
        assert here.in_air.count(Kind.GROUP_MESSAGE) == 2  # a link each
        (heard,) = here.zoe.said
        assert (heard.id, heard.text) == ("2b" * 16, "hello")
        arrival = here.arrivals("bob")[-1]
        assert (arrival.message.id, arrival.message.text) == ("2b" * 16, "hello")
        assert (arrival.message.sender, arrival.sender_verified) == (roster.maker, True)
        assert PrivateKind.FILE not in here.zoe.private


async def test_who_gave_no_receipt_is_asked_alone_and_who_gives_none_is_not() -> None:
    """INV-BITCHAT-97."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        here.groups["ann"].put(here.roster())
        message = here.sends("again")
        await here.send(message)
        again = await here.send(message, attempt=1)
        await here.run()

        assert states(again)[1] == (OutcomeState.ACCEPTED, True)
        # Bob does not know the group yet: what came for him alone he has all the same.
        assert here.texts("bob") == ["again"]
        assert here.in_air.count(Kind.GROUP_MESSAGE) == 2


async def test_an_invitation_of_the_app_is_taken_and_what_its_members_say_is_heard() -> None:
    """INV-BITCHAT-96, INV-BITCHAT-98."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        roster = here.roster(maker=here.zoe.keys)
        here.zoe.tell_state(here.ann, roster, PrivateKind.GROUP_INVITE)
        await here.run()
        (invited,) = here.arrivals("ann")
        assert (invited.message.media_type, invited.message.room) == (ROSTER, GROUP)
        assert (invited.message.sender, invited.sender_verified) == (roster.maker, True)
        assert here.groups["ann"].newer(invited.message) == roster
        here.groups["ann"].put(roster)
        here.groups["bob"].put(roster)

        here.zoe.states = [roster]
        here.zoe.say("from the app", roster, "5F0C-UUID")
        await here.run(1.0)
        await here.send(here.sends("from ann"))
        await here.run(1.0)

        assert here.texts("ann") == ["from the app"]
        # Her session with Ann shows her signing key; Bob has it from the roster alone.
        shown = [here.arrivals(who)[-2 if who == "bob" else -1] for who in ("ann", "bob")]
        assert [(one.message.id, one.sender_verified) for one in shown] == [
            ("5F0C-UUID", True),
            ("5F0C-UUID", False),
        ]
        assert here.texts("bob") == ["from the app", "from ann"]
        assert [one.text for one in here.zoe.said] == ["from ann"]


async def test_nobody_speaks_as_another_and_nobody_from_outside_or_before() -> None:
    """INV-BITCHAT-98."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        roster = here.roster(2)
        here.groups["ann"].put(roster)
        other = here.roster(3)
        outside = Identity(b"\x21" * 32)
        as_bob = GroupMessage("x", here.bob.me.keys.signing_public, "bob", 1, "not bob")
        group = bytes.fromhex(GROUP)
        forged = as_bob.seal(group, 2, roster.key, NONCE, outside)
        tries = (
            forged.encode(),
            msgspec.structs.replace(forged, group_id=b"of another group").encode(),
            b"no envelope",
        )

        for number, payload in enumerate(tries):
            here.zoe.do(SayGroup(f"{number}", payload))
        here.zoe.say("from outside", roster, "y", outside)
        here.zoe.say("of another epoch", other, "z")
        here.zoe.say("a bad\nid", roster, "i\nd")
        here.zoe.say("an echo", roster, "e", here.ann.me.keys)
        here.zoe.say("good", roster, "w")
        await here.run(1.0)

        assert here.texts("ann") == ["good"]
        dropped = here.ann.transport.dropped
        assert {name: count for name, count in dropped.items() if name.startswith("group-")} == {
            "group-signature": 2,
            "group-truncated": 1,
            "group-version": 1,
            "group-field": 1,
        }


async def test_who_is_put_out_is_told_and_reads_nothing_more() -> None:
    """INV-BITCHAT-96."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        first = here.roster()
        here.groups["ann"].put(first)
        here.zoe.states = [first]
        ann, bob = here.ann.me.keys, here.bob.me.keys
        without = Roster.make(ann, GROUP, "us", [Member(bob.fingerprint, bob.signing_public)], 2)
        notice = Roster.make(ann, GROUP, "us", without.people, 2, key=NO_KEY)
        here.groups["ann"].put(without)
        here.groups["bob"].put(without)
        out = msgspec.structs.replace(
            notice.message(here.zoe.keys.fingerprint),
            id="0b" * 16,
            sender=ann.fingerprint,
            created_ms=1,
            expires_ms=2,
        )
        await here.ann.transport.send(out, here.zoe.keys.fingerprint)
        await here.ann.transport.send(here.sends("among us"), bob.fingerprint)
        await here.run()

        assert here.zoe.states == []
        assert here.zoe.said == []
        assert here.texts("bob") == ["among us"]
        said = GroupMessage("x", ann.signing_public, "", 1, "hi")
        sealed = said.seal(bytes.fromhex(GROUP), 2, without.key, NONCE, ann)
        with pytest.raises(ValueError, match="of another key"):
            sealed.open(first.key)


async def test_what_cannot_flood_goes_to_each_and_who_is_away_waits() -> None:
    """INV-BITCHAT-97."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        away = Member("ab" * 32, b"\x33" * 32)
        roster = Roster.make(here.ann.me.keys, GROUP, "us", [*here.roster().people[1:], away])
        here.groups["ann"].put(roster)
        here.groups["bob"].put(roster)
        here.in_air.clear()
        long = await here.send(here.sends("long " * 4_000))
        await here.run(12.0)
        gone = await here.ann.transport.send(here.sends("hello", "2b" * 16), away.fingerprint)
        late = await here.ann.transport.send(
            msgspec.structs.replace(roster.message(), id="0c" * 16, body=b""),
            here.zoe.keys.fingerprint,
        )
        wrong = await here.ann.transport.send(
            msgspec.structs.replace(here.sends("", "3c" * 16), body=b"\xff"),
            here.zoe.keys.fingerprint,
        )

        assert Kind.GROUP_MESSAGE not in here.in_air
        assert not any(one.unanswered for one in long)
        assert here.texts("bob") == ["long " * 4_000]
        assert (gone.state, gone.reason) == (OutcomeState.FAILED, "they are not near")
        assert (late.state, late.unanswered) == (OutcomeState.ACCEPTED, True)
        assert (wrong.state, wrong.permanent) == (OutcomeState.FAILED, True)


async def test_a_roster_for_somebody_of_ours_goes_as_any_message_and_text_waits_behind_it() -> None:
    """INV-BITCHAT-97."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        roster = here.roster()
        here.groups["ann"].put(roster)
        bob = here.bob.me.keys.fingerprint
        told = msgspec.structs.replace(
            here.sends("", "4d" * 16),
            body=roster.encoded,
            kind=MessageKind.CONTROL,
            media_type=ROSTER,
        )
        here.in_air.clear()
        first = await here.ann.transport.send(told, bob)
        behind = await here.ann.transport.send(here.sends("behind it"), bob)
        await here.run()

        assert (first.state, behind.state) == (OutcomeState.QUEUED, OutcomeState.QUEUED)
        # What is short passes what goes in pieces; the router puts them in order.
        arrived = {one.message.id: one.message for one in here.arrivals("bob")}
        assert arrived.keys() == {"4d" * 16, "1a" * 16}
        assert here.groups["bob"].newer(arrived["4d" * 16]) == roster
        assert Kind.GROUP_MESSAGE not in here.in_air
        here.groups["bob"].put(roster)
        # The session is there: now it floods.
        await here.ann.transport.send(here.sends("now", "2b" * 16), bob)
        await here.run(1.0)
        assert here.texts("bob") == ["behind it", "now"]
        assert here.in_air.count(Kind.GROUP_MESSAGE) == 2


async def test_a_creator_cannot_give_a_key_of_his_own_to_somebody_who_is_known() -> None:
    """INV-BITCHAT-98."""
    async with AsyncExitStack() as stack:
        here = await street(stack)
        eve = Identity(b"\x31" * 32)
        bob = Member(here.bob.me.keys.fingerprint, eve.signing_public)
        ann = Member(here.ann.me.keys.fingerprint, here.ann.me.keys.signing_public)
        roster = Roster.make(here.zoe.keys, GROUP, "us", [ann, bob])  # type: ignore[arg-type]
        here.groups["ann"].put(roster)

        here.zoe.say("as bob", roster, "b", eve)
        here.zoe.say("as herself", roster, "z")
        await here.run(1.0)

        assert here.texts("ann") == ["as herself"]
        assert here.ann.transport.dropped["group-signature"] == 1


async def test_mesh_that_begins_anew_is_told_what_the_one_before_was_told() -> None:
    """INV-BITCHAT-97: nobody can ask for it there, who was not near then."""
    near = NearPeers(PeerBook(), lambda _: None, lambda: 0, Counter())
    talk = GroupTalk(Identity(b"a" * 32), "ann", Groups(), near)
    message = DecentralizedMessage(body=b"hello", room=GROUP, id="1")

    gone = [talk.has_gone(message, Way.FLOOD, 1_000)]
    talk.asked(message, Outcome("1", "ab" * 32, OutcomeState.ACCEPTED), Way.FLOOD, 1_000)
    gone.append(talk.has_gone(message, Way.FLOOD, 2_000))
    talk.clear()

    assert [*gone, talk.has_gone(message, Way.FLOOD, 2_000)] == [False, True, False]
