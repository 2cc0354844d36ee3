"""Messages between people over the HTTP interface: two backends and a mixnet in memory."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fog_compute.config import Settings
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.bitchat.mesh.news import Traced
from fog_compute.p2p.bitchat.radio.off import OffRadio
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.inbox import Refusal
from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.p2p.core.transport import Reach, TransportType, TransportUnavailable
from fog_compute.scopes import Scope
from fog_compute.server import chat_feed
from fog_compute.server.chat_feed import ChatFeed, Cursor
from fog_compute.server.chat_schemas import MessageOut
from fog_compute.testing.mixnet import MemoryMixnet
from fog_compute.vpn.clients import MESSAGES
from tests.unit.fog_compute.server.conftest import DEADLINE_S, Api, Backbone, running_api

pytestmark = pytest.mark.asyncio

CHAT = "/api/v1/chat"
PEERS = "/api/v1/peers"


@dataclass
class Person:
    """Somebody with a backend of their own."""

    api: Api
    settings: Settings

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = await self.api.http.get(path, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, body: object, status: int = 200) -> Any:
        answer = await self.api.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def card(self) -> str:
        me: dict[str, Any] = {}

        async def there() -> bool:
            me.update(await self.get(CHAT))
            return me["card"] is not None

        await self.api.until(there)
        return str(me["card"])

    async def fingerprint(self) -> str:
        return str((await self.get(CHAT))["fingerprint"])

    async def knows(self, other: Person, petname: str = "") -> str:
        card = {"card": await other.card(), "petname": petname}
        return str((await self.post(PEERS, card, 201))["fingerprint"])

    async def reaches(self, other: str) -> None:
        async def there() -> bool:
            near = (await self.get(f"{CHAT}/near", check="true"))["peers"]
            return {"htx": "address"} in [
                one["ways"] for one in near if one["peer"]["fingerprint"] == other
            ]

        await self.api.until(there)

    async def hears(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            found[:] = (await self.get(f"{CHAT}/messages"))["messages"]
            return len(found) >= count

        await self.api.until(there)
        return found

    async def state(self, sent: str, state: str) -> None:
        async def there() -> bool:
            log = (await self.get(f"{CHAT}/messages"))["messages"]
            (one,) = [message for message in log if message["id"] == sent]
            return set(one["states"].values()) == {state}

        await self.api.until(there)


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Person, Person]]:
    """Ada and Bob, who do not know each other yet."""
    mixnet = MemoryMixnet()
    async with AsyncExitStack() as stack:
        found = []
        for name in ("ada", "bob"):
            settings = Settings(home=tmp_path / name, chat_name=name, chat_ble=False)
            settings.home.mkdir()
            api = await stack.enter_async_context(running_api(settings, Backbone(mixnet, name)))
            found.append(Person(api, settings))
        yield found[0], found[1]


async def test_two_people_talk(pair: tuple[Person, Person]) -> None:
    ada, bob = pair
    to_bob = await ada.knows(bob, "bobby")

    sent = await ada.post(f"{CHAT}/messages", {"to": to_bob, "text": "hello"}, 201)
    (heard,) = await bob.hears(1)

    assert (heard["id"], heard["text"], heard["outgoing"]) == (sent["id"], "hello", False)
    assert heard["shown"] == f"ada#{heard['sender'][:4]}"
    assert (heard["known"], heard["verified"], heard["kind"]) == (False, True, "text")
    await ada.state(sent["id"], "delivered")
    await bob.post(f"{CHAT}/read", {"sender": heard["sender"], "ids": [heard["id"]]})
    await ada.state(sent["id"], "read")
    answer = {"to": heard["sender"], "text": "and you?"}
    await bob.post(f"{CHAT}/messages", answer, 201)
    log = await ada.hears(2)
    assert [(one["text"], one["shown"], one["known"]) for one in log] == [
        ("hello", "ada", True),
        ("and you?", "bobby", True),
    ]
    only = await ada.get(f"{CHAT}/messages", peer=to_bob, after=log[0]["position"])
    assert [one["text"] for one in only["messages"]] == ["and you?"]
    assert only["next"] == log[1]["position"]


async def test_a_file_arrives_and_is_no_page(pair: tuple[Person, Person]) -> None:
    ada, bob = pair
    to_bob = await ada.knows(bob)
    await bob.knows(ada)
    content = b"<script>alert(1)</script>" * 2000
    body = {
        "to": to_bob,
        "file": base64.b64encode(content).decode(),
        "name": "page.html",
        "media_type": "text/html",
    }

    sent = await ada.post(f"{CHAT}/messages", body, 201)
    (heard,) = await bob.hears(1)

    assert (heard["kind"], heard["name"], heard["text"]) == ("file", "page.html", None)
    got = await bob.api.http.get(f"{CHAT}/messages/{heard['sender']}/{sent['id']}")
    assert got.content == content
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"] == "attachment"
    await bob.get(f"{CHAT}/messages/{heard['sender']}/none", 404)


async def test_events_are_waited_for_and_streamed(pair: tuple[Person, Person]) -> None:
    ada, bob = pair
    to_bob = await ada.knows(bob)
    start = await ada.get(f"{CHAT}/events")
    assert start["events"] == []
    waiting = asyncio.create_task(ada.get(f"{CHAT}/events", since=start["next"], wait=15))
    await asyncio.sleep(0)

    sent = await ada.post(f"{CHAT}/messages", {"to": to_bob, "text": "hello"}, 201)

    events = (await waiting)["events"]
    seen = [one["message"]["text"] for one in events if one["message"]]
    states: list[str] = []
    cursor = start["next"]
    async with asyncio.timeout(DEADLINE_S):
        while "delivered" not in states:
            more = await ada.get(f"{CHAT}/events", since=cursor, wait=5)
            cursor = more["next"]
            seen += [one["message"]["text"] for one in more["events"] if one["message"]]
            states += [one["delivery"]["state"] for one in more["events"] if one["delivery"]]
    assert "hello" in seen
    assert states.index("stored") < states.index("delivered")
    log = (await bob.hears(1))[0]
    app: Any = bob.api.app
    people = await app.state.services.get_service("messaging").people()
    stream = people.feed.follow(Cursor(0))
    async with asyncio.timeout(DEADLINE_S):
        first = (await anext(stream)).decode()
        frame = (await anext(stream)).decode()
    await stream.aclose()
    assert first.startswith("retry: ")
    assert frame.startswith("event: message\n")
    assert json.loads(frame.split("data: ")[1])["message"]["id"] == sent["id"] == log["id"]
    assert (await bob.api.http.get(f"{CHAT}/events", params={"since": "x"})).status_code == 422


async def test_people_are_managed(pair: tuple[Person, Person]) -> None:
    ada, bob = pair
    to_bob = await ada.knows(bob, "bobby")
    words = (await bob.get(CHAT))["words"]

    (listed,) = (await ada.get(PEERS))["peers"]
    assert (listed["shown"], listed["trust"], listed["levels"]) == ("bobby", "contact", ["private"])
    assert (await ada.get(f"{PEERS}/find", name="BOB"))["fingerprint"] == to_bob
    await ada.get(f"{PEERS}/find", 404, name="nobody")
    await ada.get(f"{PEERS}/{'0' * 64}", 404)
    wrong = await ada.post(f"{PEERS}/{to_bob}/verify", {"words": words[::-1]}, 409)
    assert wrong["type"].endswith("peer-refused")
    right = await ada.post(f"{PEERS}/{to_bob}/verify", {"words": [one[:3] for one in words]})
    assert right["trust"] == "verified"
    assert (await ada.post(f"{PEERS}/{to_bob}/name", {"petname": ""}))["shown"] == "bob"
    assert (await ada.post(f"{PEERS}/{to_bob}/block", {}))["blocked"]
    assert (await ada.get(f"{CHAT}/near"))["peers"] == []
    assert not (await ada.post(f"{PEERS}/{to_bob}/block", {"blocked": False}))["blocked"]
    gone = await ada.api.http.delete(f"{PEERS}/{to_bob}")
    assert gone.json()["fingerprint"] == to_bob
    assert (await ada.get(f"{PEERS}"))["peers"] == []
    await ada.get(f"{PEERS}/{to_bob}", 404)
    own = await ada.post(PEERS, {"card": await ada.card()}, 422)
    assert own["type"].endswith("invalid-message")
    await ada.post(PEERS, {"card": "fogcard1aaaa"}, 422)


async def test_it_is_told_who_is_reached_and_how(pair: tuple[Person, Person]) -> None:
    ada, bob = pair
    to_bob = await ada.knows(bob)

    async def near() -> bool:
        return bool((await ada.get(f"{CHAT}/near"))["peers"])

    await ada.api.until(near)
    (one,) = (await ada.get(f"{CHAT}/near"))["peers"]
    assert (one["peer"]["shown"], one["ways"]) == ("bob", {"htx": "address"})
    trace = await ada.get(f"{CHAT}/trace/{to_bob}")
    assert (trace["ways"], trace["hops"]) == ({"htx": "address"}, None)
    await ada.get(f"{CHAT}/trace/{'0' * 64}", 404)
    stranger = Identity.new()
    (await people_of(ada)).book.meet(stranger.noise_public, stranger.signing_public, "eve", 1)
    trace = await ada.get(f"{CHAT}/trace/{stranger.fingerprint}")
    assert "ask for their card" in trace["reasons"]["htx"]


async def people_of(person: Person) -> Any:
    return await person.api.services.get_service("messaging").people()


def no_radio(_name: str) -> OffRadio:
    return OffRadio("there is no adapter: plug one in")


async def test_without_an_adapter_it_says_why_and_the_mixnet_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fog_compute.p2p.bitchat.radio.system.system_radio", no_radio)
    settings = Settings(home=tmp_path, chat_name="ada")
    async with running_api(settings) as api:
        ada = Person(api, settings)

        async def told() -> bool:
            found = {one["name"]: one for one in (await ada.get(CHAT))["transports"]}
            return bool(found["htx"]["available"]) and "no adapter" in found["ble"]["reason"]

        await api.until(told)
        stranger = Identity.new()
        (await people_of(ada)).book.meet(stranger.noise_public, stranger.signing_public, "eve", 1)
        trace = await ada.get(f"{CHAT}/trace/{stranger.fingerprint}")
        assert "no adapter" in trace["reasons"]["ble"]


async def test_somebody_on_the_mesh_is_asked_how_far_they_are(
    pair: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = pair
    to_bob = await ada.knows(bob)
    people = await people_of(ada)

    class Mesh:
        on_traced: Any = None

        def settled(self, message_id: str) -> None:
            pass

        def trace(self, fingerprint: str, token: str) -> None:
            if self.on_traced is None:
                raise TransportUnavailable("it does not run")
            self.on_traced(Traced("another", bytes.fromhex(to_bob)[:8], 9, 9.0))
            self.on_traced(Traced(token, bytes.fromhex(fingerprint)[:8], 3, 0.0812))

    system = people._system
    system.ways.mesh = Mesh()
    near = {to_bob: {TransportType.BITCHAT_BLE: Reach.MESH}}
    monkeypatch.setattr(type(system), "reaches", lambda self: near)

    trace = await ada.get(f"{CHAT}/trace/{to_bob}")

    assert (trace["ways"], trace["hops"]) == ({"ble": "mesh"}, 3)
    assert trace["round_trip_ms"] == pytest.approx(81.2)
    assert people._traces == {}
    system.ways.mesh = None
    assert (await ada.get(f"{CHAT}/trace/{to_bob}"))["hops"] is None


async def test_a_group_hears_what_is_said_in_it(pair: tuple[Person, Person]) -> None:
    ada, bob = pair
    to_bob = await ada.knows(bob)
    await bob.knows(ada)

    made = await ada.post(f"{CHAT}/groups", {"name": "lab", "members": [to_bob]}, 201)
    await ada.post(f"{CHAT}/messages", {"room": made["id"], "text": "all"}, 201)

    async def heard() -> bool:
        log = (await bob.get(f"{CHAT}/messages", room=made["id"]))["messages"]
        return "all" in [one["text"] for one in log]

    await bob.api.until(heard)
    (group,) = (await bob.get(f"{CHAT}/groups"))["groups"]
    assert (group["name"], group["maker"]) == ("lab", await ada.fingerprint())
    change = {"name": "lab 2", "members": [to_bob]}
    (changed,) = (await ada.post(f"{CHAT}/groups/{made['id']}", change))["groups"]
    assert changed["name"] == "lab 2"
    assert set(group["names"]) == {await ada.fingerprint(), to_bob}
    assert (await bob.post(f"{CHAT}/groups/{made['id']}", change, 409))["type"].endswith("conflict")
    await ada.post(f"{CHAT}/groups/{'0' * 32}", change, 404)
    left = await bob.api.http.delete(f"{CHAT}/groups/{made['id']}")
    assert left.json() == {"groups": []}
    assert (await bob.api.http.delete(f"{CHAT}/groups/{made['id']}")).status_code == 404


async def test_whom_nobody_knows_is_written_to_on_purpose_alone(
    pair: tuple[Person, Person],
) -> None:
    """INV-P2P-42."""
    ada, bob = pair
    to_bob = await ada.knows(bob)
    nobody = "0" * 64
    group = {"name": "lab", "members": [to_bob, nobody]}

    text = {"to": nobody, "text": "x"}
    for path, body in ((f"{CHAT}/messages", text), (f"{CHAT}/groups", group)):
        refused = await ada.post(path, body, 404)
        assert "nobody here knows the fingerprint 0000" in refused["detail"]
    await ada.post(f"{CHAT}/messages", {**text, "unknown": True}, 201)
    lab = (await ada.post(f"{CHAT}/groups", {**group, "members": [to_bob]}, 201))["id"]
    await ada.post(f"{CHAT}/groups/{lab}", group, 404)


async def test_what_waits_says_for_whom_and_why_and_can_be_given_up(
    pair: tuple[Person, Person],
) -> None:
    """INV-P2P-42."""
    ada, bob = pair
    to_bob = await ada.knows(bob)
    await ada.reaches(to_bob)
    zed = ContactCard.make(Identity(b"z" * 32), "zed", {}, 1)
    await ada.post("/api/v1/peers", {"card": zed.text}, 201)
    nobody = Identity(b"z" * 32).fingerprint
    group = {"name": "lab", "members": [to_bob, nobody]}
    lab = (await ada.post(f"{CHAT}/groups", group, 201))["id"]

    sent = await ada.post(f"{CHAT}/messages", {"room": lab, "text": "hello"}, 201)
    alone = {"to": nobody, "text": "hello", "unknown": True}
    other = await ada.post(f"{CHAT}/messages", alone, 201)
    near = await ada.post(f"{CHAT}/messages", {"text": "anybody?"}, 201)

    lacking = "htx: no address of theirs is known at this level: add their card"
    assert sent["reasons"] == {nobody: lacking} == other["reasons"]
    assert sorted(sent["receivers"]) == sorted([nobody, to_bob])
    assert near["receivers"] == ["*"]
    assert near["reasons"] == {"*": "no transport carries it"}
    log = {one["id"]: one for one in (await ada.get(f"{CHAT}/messages"))["messages"]}
    assert log[sent["id"]]["reasons"] == {nobody: lacking}
    assert (await ada.get(CHAT))["outbox"]["queued"] == 4  # and who is in the group
    for body, given_up in (
        ({"ids": [other["id"], "none"]}, [other["id"]]),
        ({"ids": [other["id"]]}, []),
        ({"room": ""}, [near["id"]]),
        ({"to": nobody}, []),
    ):
        assert await ada.post(f"{CHAT}/cancel", body) == {"ids": given_up}
    assert sent["id"] in (await ada.post(f"{CHAT}/cancel", {"room": lab}))["ids"]
    log = {one["id"]: one for one in (await ada.get(f"{CHAT}/messages"))["messages"]}
    assert log[other["id"]]["states"] == {nobody: "failed"}
    assert log[other["id"]]["reasons"] == {nobody: "it was cancelled"}
    assert (await ada.get(CHAT))["waiting"] == 0
    for wrong in ({}, {"to": nobody, "room": ""}, {"ids": ["1"], "to": nobody}):
        assert "one of them" in (await ada.post(f"{CHAT}/cancel", wrong, 422))["detail"]


async def test_a_wipe_leaves_somebody_new(pair: tuple[Person, Person]) -> None:
    ada, bob = pair
    before = await ada.fingerprint()
    to_bob = await ada.knows(bob)
    await ada.post(f"{CHAT}/messages", {"to": to_bob, "text": "secret"}, 201)

    assert (await ada.post(f"{CHAT}/wipe", {"confirm": "yes"}, 422))["type"]
    assert "fog_chat_transport_up{" in (await ada.api.http.get("/metrics")).text
    assert await ada.post(f"{CHAT}/wipe", {"confirm": "wipe"}) == {"wiped": True}
    told = (await ada.api.http.get("/metrics")).text
    assert not re.search("fog_chat_(deliveries|links|transport_up)[{]", told)

    layout = ada.settings.layout
    assert not layout.identity_file.exists()
    assert not layout.card_file.exists()
    assert (PrivacyLevel.PRIVATE, MESSAGES) in ada.api.backbone.left
    assert await ada.post(f"{CHAT}/wipe", {"confirm": "wipe"}) == {"wiped": False}
    assert await ada.fingerprint() != before
    assert (await ada.get(f"{CHAT}/messages"))["messages"] == []
    assert (await ada.get(PEERS))["peers"] == []


async def test_a_network_that_fell_silent_is_said_at_once(
    pair: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-45."""
    ada, bob = pair
    to_bob = await ada.knows(bob)
    htx = (await people_of(ada))._system.ways.htx

    async def silent() -> str:
        return "no packet came back"

    await ada.reaches(to_bob)
    monkeypatch.setattr(htx, "check", silent)

    me = await ada.get(CHAT, check="true")
    near = await ada.get(f"{CHAT}/near", check="true")
    trace = await ada.get(f"{CHAT}/trace/{to_bob}")

    assert [(one["available"], one["reason"]) for one in me["transports"]] == [
        (False, "no packet came back")
    ]
    assert near == {"peers": [], "reasons": {"htx": "no packet came back"}}
    assert (trace["ways"], trace["reasons"]) == ({}, {"htx": "no packet came back"})
    assert (await ada.get(CHAT))["transports"][0]["available"]  # nobody is asked unasked


async def test_figures_of_messages_name_nobody(pair: tuple[Person, Person]) -> None:
    """INV-P2P-43."""
    ada, bob = pair
    to_bob = await ada.knows(bob)
    sent = await ada.post(f"{CHAT}/messages", {"to": to_bob, "text": "hello"}, 201)
    await ada.state(sent["id"], "delivered")
    alone = {"to": "0" * 64, "text": "x", "unknown": True}
    await ada.post(f"{CHAT}/messages", alone, 201)
    messaging = ada.api.services.get_service("messaging")
    refused: Any = (await messaging.people())._system._running.router.refused
    refused[Refusal.BLOCKED] += 3

    async def figures(of: Person) -> str:
        return (await of.api.http.get("/metrics")).text

    told = await figures(ada)
    for line in (
        'fog_chat_deliveries{state="queued"} 1.0',
        'fog_chat_moves_total{state="delivered",transport="htx"} 1.0',
        'fog_chat_transport_up{transport="htx"} 1.0',
        'fog_chat_links{kind="browser"} 0.0',
        'fog_chat_refused_total{part="router",reason="blocked"} 3.0',
    ):
        assert line in told
    refused[Refusal.BLOCKED] = 1  # it began anew
    told = await figures(ada)
    assert 'fog_chat_refused_total{part="router",reason="blocked"} 4.0' in told
    assert to_bob not in told
    assert sent["id"] not in told

    async def counted() -> bool:
        return "fog_chat_received_total 1.0" in await figures(bob)

    await bob.api.until(counted)


async def test_messages_sleep_until_somebody_asks(api: Api, settings: Settings) -> None:
    assert not settings.layout.identity_file.exists()
    assert api.backbone.messages.opened == {}

    assert (await api.http.get(CHAT)).status_code == 200

    assert settings.layout.identity_file.exists()
    await api.services.restart("messaging")
    restarted = await api.http.get(CHAT)
    assert restarted.json()["fingerprint"]


async def test_inv_p2p_41_only_the_scope_chat_opens_messages(api: Api) -> None:
    """INV-P2P-41."""
    made = await api.http.post(
        "/api/v1/keys", json={"name": "x", "scopes": [Scope.READ, Scope.SUBMIT, Scope.OPERATE]}
    )
    key = {"authorization": f"Bearer {made.json()['key']}"}
    bot = await api.http.post("/api/v1/keys", json={"name": "bot", "scopes": [Scope.CHAT]})
    chat = {"authorization": f"Bearer {bot.json()['key']}"}

    for path in (CHAT, f"{CHAT}/messages", f"{CHAT}/events", PEERS):
        assert (await api.stranger.get(path, headers=key)).status_code == 403
        assert (await api.stranger.get(path, headers=chat)).status_code == 200
    wipe = await api.stranger.post(f"{CHAT}/wipe", json={"confirm": "wipe"}, headers=chat)
    assert wipe.status_code == 403
    assert (await api.stranger.get("/api/v1/tasks", headers=chat)).status_code == 403


async def test_what_cannot_be_sent_is_refused_with_its_reason(api: Api) -> None:
    for body, detail in (
        ({}, "give a text or a file"),
        ({"text": "x", "file": "eA=="}, "give a text or a file"),
        ({"text": ""}, "the text is empty"),
        ({"text": "x", "to": "bob"}, "to"),
        ({"text": "x", "to": "0" * 64, "room": "r" * 65}, "room"),
        ({"text": "x", "to": "0" * 64, "room": "r"}, "give `to` or `room`"),
        ({"file": "eA==", "to": "0" * 64, "unknown": True, "media_type": "-"}, "media_type"),
    ):
        refused = await api.http.post(f"{CHAT}/messages", json=body)
        assert refused.status_code == 422, refused.text
        assert detail in refused.json()["detail"]


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "\u202e", "", "x" * 256])
async def test_what_is_no_id_of_a_message_is_refused(api: Api, name: str) -> None:
    for path, body in (
        ("read", {"sender": "0" * 64, "ids": ["x", name]}),
        ("cancel", {"ids": [name]}),
    ):
        text = json.dumps(body)  # as a client in another language may write it
        refused = await api.http.post(
            f"{CHAT}/{path}", content=text, headers={"content-type": "application/json"}
        )
        assert refused.status_code == 422, refused.text
        assert "ids" in refused.json()["detail"]


SHOWN = {
    "id": "1",
    "sender": "0" * 64,
    "shown": "ada",
    "outgoing": False,
    "to": None,
    "room": "",
    "kind": "text",
    "text": "hello",
    "name": "",
    "media_type": "text/plain",
    "size": 5,
    "at": "2026-01-01T00:00:00Z",
    "verified": True,
    "known": True,
    "late": False,
    "states": {},
    "reasons": {},
}


class Log:
    """A log in memory."""

    def __init__(self) -> None:
        self.positions: list[int] = []

    async def shown_log(self, after: int, limit: int) -> list[MessageOut]:
        later = [one for one in self.positions if one > after][:limit]
        return [MessageOut.model_validate({**SHOWN, "position": one}) for one in later]


async def test_how_much_has_gone_is_told_in_steps_and_only_the_newest() -> None:
    """INV-P2P-44."""
    feed = ChatFeed(Log(), 0)
    start = feed.now

    feed.progress("file", "bob", DeliveryState.SENDING, "htx", "")
    for done in (0, 400, 405, 500):
        feed.moved("file", "bob", done, 1000)
    events, cursor = await feed.after(start)

    assert [one.moved.done for one in events if one.moved] == [500]
    feed.moved("file", "bob", 505, 1000)
    assert await feed.after(cursor) == ([], cursor)
    feed.moved("file", "bob", 1000, 1000)
    feed.progress("file", "bob", DeliveryState.STORED, "htx", "")
    events, cursor = await feed.after(cursor)
    assert [one.delivery and one.delivery.state for one in events] == ["stored"]
    for number in range(chat_feed.MOVING + 5):
        feed.moved(f"{number}", "bob", 1, 1000)
    events, _ = await feed.after(cursor)
    assert len(events) == chat_feed.MOVING


async def test_a_cursor_of_another_life_misses_no_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log()
    feed = ChatFeed(log, 0)
    start = feed.now
    log.positions = [1, 2]
    feed.news(2)
    feed.progress("id", "*", DeliveryState.STORED, "htx", "")

    events, cursor = await feed.after(start)
    again = ChatFeed(log, 2)

    assert [one.message.position for one in events if one.message] == [1, 2]
    assert [one.delivery.state for one in events if one.delivery] == ["stored"]
    assert Cursor.parse(str(cursor)) == cursor
    assert await feed.after(cursor) == ([], cursor)
    assert (await again.after(cursor))[0] == []
    assert (await again.after(Cursor(1)))[0][0].message.position == 2  # type: ignore[union-attr]
    of_a_log_that_was_wiped = Cursor(900, "0a0a0a0a", 3)
    assert len((await again.after(of_a_log_that_was_wiped))[0]) == 2
    for text in ("", "x", "1-2", "1-00000000-x", "9" * 40):
        assert Cursor.parse(text) is None
    monkeypatch.setattr(chat_feed, "LISTENERS", 0)
    with pytest.raises(Exception, match="listen to messages already"):
        feed.check_room()
    feed.end()
    assert await feed.wait(cursor) == ([], cursor)
    assert [one.startswith(b"retry") async for one in feed.follow(cursor)] == [True]
