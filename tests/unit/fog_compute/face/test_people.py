"""Messages between people from Python: what is asked of a backend, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

import fog_compute
from fog_compute.face.people import People
from tests.unit.fog_compute.cli.backends import GROUP, MESSAGE, PEER, SENT

pytestmark = pytest.mark.asyncio


class Backend:
    """Gives what it is told to, and notes what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Any]] = []

    async def get(self, path: str, shape: object, **query: Any) -> Any:
        self.asked.append((path.removeprefix("/api/v1"), query))
        return self.answers.pop(0)

    async def post(self, path: str, shape: object, body: Any) -> Any:
        return await self.get(path, shape, **body)

    async def whole(self, path: str, most: int) -> bytes:
        self.asked.append((path.removeprefix("/api/v1"), most))
        return b"PNG"


def people(*answers: Any) -> tuple[People, Backend]:
    backend: Any = Backend(*answers)
    return People(backend), backend


def delivery(**told: Any) -> Any:
    known = {
        "id": SENT["id"],
        "receiver": PEER["fingerprint"],
        "state": "stored",
        "transport": None,
        "reason": "",
    }
    return {"message": None, "moved": None, "delivery": {**known, **told}}


START: dict[str, Any] = {"events": [], "next": "1"}


async def test_people_are_written_to_by_name_and_groups_too() -> None:
    one, backend = people({"peers": [PEER]}, PEER, SENT, {"groups": [GROUP]}, SENT, SENT)

    (ada,) = await one.known()
    assert await one.send("ada", "hello", private=True) == SENT["id"]
    await one.send(room="lab", file=b"abc", name="a.txt")
    await one.send(room="near", text="anybody?")

    assert (ada.shown, ada.trust) == ("ada", "contact")
    assert [body for path, body in backend.asked if path == "/chat/messages"] == [
        {"to": PEER["fingerprint"], "text": "hello", "requires_privacy": True},
        {"room": GROUP["id"], "file": "YWJj", "name": "a.txt", "requires_privacy": False},
        {"room": "", "text": "anybody?", "requires_privacy": False},
    ]
    for to, room in (("", ""), ("ada", "lab")):
        with pytest.raises(fog_compute.InvalidTask, match="one of them"):
            await one.send(to, "x", room=room)
    nobody, _ = people({"groups": []})
    with pytest.raises(fog_compute.NotFound, match="no group is called 'lab'"):
        await nobody.send(room="lab", text="x")


async def test_delivery_is_waited_for_and_a_failure_is_an_error() -> None:
    other = delivery(id="9" * 32, state="failed")
    there = {"events": [other, delivery(), delivery(state="read")], "next": "2"}
    one, backend = people(PEER, START, SENT, START, there)
    assert await one.send("ada", "hello", timeout=20) == SENT["id"]
    both = {**SENT, "receivers": [PEER["fingerprint"], "*"]}
    more = {"events": [delivery(receiver="*", state="accepted")], "next": "3"}
    one, backend = people({"groups": [GROUP]}, START, both, there, more)
    await one.send(room="lab", text="hello", timeout=20)  # to all of them
    assert backend.answers == []

    failed = {"events": [delivery(state="expired", reason="its time is over")], "next": "2"}
    one, _ = people(PEER, START, SENT, failed)
    with pytest.raises(fog_compute.NotDelivered, match="expired: its time is over"):
        await one.send("ada", "hello", timeout=20)


async def test_messages_are_read_followed_fetched_and_given_up() -> None:
    near = {**MESSAGE, "to": None, "text": "all"}
    own = {**MESSAGE, "outgoing": True}
    came = [{"message": each, "moved": None, "delivery": None} for each in (own, MESSAGE)]
    one, backend = people(
        PEER,
        {"messages": [MESSAGE], "next": 7},
        {"messages": [MESSAGE, near], "next": 7},
        START,
        {"events": came, "next": "2"},
        {"ids": [SENT["id"]]},
        {"ids": []},
    )

    (message,) = await one.messages("ada", limit=5)
    assert (message.text, message.at.year) == ("see you at eight", 2026)
    assert [each.text for each in await one.messages(room="near")] == ["all"]
    arrivals = one.arrivals()
    assert (await anext(arrivals)).sender == PEER["fingerprint"]
    await arrivals.aclose()
    assert await one.content(message) == b"PNG"
    assert await one.cancel(SENT["id"])
    assert not await one.cancel("9" * 32)
    assert backend.asked[1] == ("/chat/messages", {"limit": 5, "peer": PEER["fingerprint"]})
