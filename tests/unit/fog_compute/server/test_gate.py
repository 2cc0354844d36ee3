"""Who may ask what of the HTTP interface: keys, scopes, strangers, rates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import Engine, event

from fog_compute.errors import StoreError
from fog_compute.reading import read_file
from fog_compute.scopes import Scope
from fog_compute.server import access, auth
from fog_compute.server.callers import TRUSTED_S, UNKNOWN_S, USED_S, Callers
from fog_compute.server.problem_types import FORBIDDEN, RATE_LIMITED
from fog_compute.server.rates import TRIES_PER_MINUTE, CountsInMemory, Rates
from fog_compute.store import LiveKeys, Store
from fog_compute.testing import ManualClock
from fog_compute.units import MIB
from tests.unit.fog_compute.server.conftest import Api

pytestmark = pytest.mark.asyncio

READ, METRICS, SUBMIT, CHAT, OPERATE, ADMIN = Scope
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")

NEEDED = {
    # Every route of the interface, and the scopes of which each opens it, beside `admin`.
    "GET /health": None,
    "POST /api/v1/login": None,
    "GET /api/v1/login": frozenset(Scope),
    "DELETE /api/v1/login": frozenset(Scope),
    "GET /ready": {READ},
    "GET /metrics": {READ, METRICS},
    "GET /openapi.json": {READ},
    "GET /api/v1/status": {READ},
    "GET /api/v1/tasks": {READ},
    "GET /api/v1/tasks/named/{name}": {READ},
    "GET /api/v1/tasks/{task_id}": {READ},
    "GET /api/v1/tasks/{task_id}/stdout": {READ},
    "GET /api/v1/tasks/{task_id}/stderr": {READ},
    "GET /api/v1/tasks/{task_id}/files": {READ},
    "GET /api/v1/tasks/{task_id}/files/{path}": {READ},
    "GET /api/v1/events": {READ},
    "GET /api/v1/circuits": {READ},
    "GET /api/v1/circuits/{level}": {READ},
    "GET /api/v1/sessions": {READ},
    "POST /api/v1/sessions": {SUBMIT},
    "GET /api/v1/sessions/{session_id}": {READ},
    "DELETE /api/v1/sessions/{session_id}": {SUBMIT},
    "GET /api/v1/workers": {READ},
    "GET /api/v1/workers/{name}": {READ},
    "GET /api/v1/nodes": {READ},
    "GET /api/v1/nodes/{node_id}": {READ},
    "GET /api/v1/services": {READ},
    "GET /api/v1/services/{name}": {READ},
    "POST /api/v1/services/{name}/restart": {OPERATE},
    "POST /api/v1/blobs": {SUBMIT},
    "POST /api/v1/tasks": {SUBMIT},
    "POST /api/v1/tasks/batch": {SUBMIT},
    "POST /api/v1/tasks/{task_id}/cancel": {SUBMIT},
    "GET /api/v1/chat": {CHAT},
    "GET /api/v1/chat/messages": {CHAT},
    "POST /api/v1/chat/messages": {CHAT},
    "GET /api/v1/chat/messages/{sender}/{message_id}": {CHAT},
    "POST /api/v1/chat/cancel": {CHAT},
    "POST /api/v1/chat/read": {CHAT},
    "GET /api/v1/chat/events": {CHAT},
    "GET /api/v1/chat/groups": {CHAT},
    "POST /api/v1/chat/groups": {CHAT},
    "POST /api/v1/chat/groups/{group_id}": {CHAT},
    "DELETE /api/v1/chat/groups/{group_id}": {CHAT},
    "GET /api/v1/chat/near": {CHAT},
    "GET /api/v1/chat/trace/{fingerprint}": {CHAT},
    "POST /api/v1/chat/wipe": {ADMIN},
    "GET /api/v1/peers": {CHAT},
    "POST /api/v1/peers": {CHAT},
    "GET /api/v1/peers/find": {CHAT},
    "GET /api/v1/peers/{fingerprint}": {CHAT},
    "DELETE /api/v1/peers/{fingerprint}": {CHAT},
    "POST /api/v1/peers/{fingerprint}/verify": {CHAT},
    "POST /api/v1/peers/{fingerprint}/block": {CHAT},
    "POST /api/v1/peers/{fingerprint}/name": {CHAT},
    "GET /api/v1/keys": {ADMIN},
    "POST /api/v1/keys": {ADMIN},
    "DELETE /api/v1/keys/{key_id}": {ADMIN},
}


def described(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations of an OpenAPI document, and the one route that it does not describe."""
    found = {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    return {**found, "GET /openapi.json": {"security": [{"key": ["read"]}]}}


def filled(path: str) -> str:
    for name, value in {
        "{task_id}": "0",
        "{name}": "@last",
        "{session_id}": "0",
        "{node_id}": "0",
        "{path}": "a/b",
        "{level}": "private",
        "{key_id}": "0" * 12,
        "{fingerprint}": "0" * 64,
        "{sender}": "0" * 64,
        "{message_id}": "0" * 32,
        "{group_id}": "0" * 32,
    }.items():
        path = path.replace(name, value)
    assert "{" not in path, f"give {path} a value in `filled`"
    return path


async def make_key(api: Api, *scopes: Scope, **more: object) -> dict[str, Any]:
    made = await api.http.post(
        "/api/v1/keys", json={"name": "a test", "scopes": list(scopes), **more}
    )
    assert made.status_code == 201, made.text
    body: dict[str, Any] = made.json()
    return body


def bearer(key: object) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_every_route_says_what_it_needs(api: Api) -> None:
    """INV-API-01."""
    operations = described((await api.http.get("/openapi.json")).json())

    assert operations.keys() == NEEDED.keys(), "give each route its row in NEEDED, and in access.py"
    for route, scopes in NEEDED.items():
        named = [entry.get("key") for entry in operations[route]["security"]]
        if scopes is None:
            assert operations[route]["security"] == [{}]
        elif scopes == frozenset(Scope):
            assert named[0] == []
        else:
            assert {scope for each in named if each for scope in each} == scopes


@pytest.mark.parametrize("scope", Scope)
async def test_each_scope_opens_its_routes_and_no_other(api: Api, scope: Scope) -> None:
    """INV-API-01."""
    key = (await make_key(api, scope))["key"]
    opened = {}
    for route in NEEDED:
        method, path = route.split()
        answer = await api.stranger.request(method, filled(path), headers=bearer(key))
        opened[route] = answer.status_code != 403
        assert answer.status_code != 401 or path == access.LOGIN
        if answer.status_code == 403:
            assert answer.json()["type"] == FORBIDDEN.uri
            assert "needs the scope" in answer.json()["detail"]

    assert opened == {
        route: scopes is None or scope in scopes or scope is ADMIN
        for route, scopes in NEEDED.items()
    }


@pytest.mark.parametrize("scopes", [(READ,), (SUBMIT, OPERATE)])
async def test_what_is_not_in_the_table_is_for_admin_alone(
    api: Api, scopes: Collection[Scope]
) -> None:
    """INV-API-02."""

    @api.app.get("/api/v1/forgotten")
    async def forgotten() -> str:
        return "here"

    key = (await make_key(api, *scopes))["key"]

    refused = await api.stranger.get("/api/v1/forgotten", headers=bearer(key))
    absent = await api.stranger.get("/api/v1/absent", headers=bearer(key))
    wrong_method = await api.stranger.put("/api/v1/tasks", headers=bearer(key))

    assert (await api.http.get("/api/v1/forgotten")).status_code == 200
    assert (refused.status_code, refused.json()) == (404, absent.json())
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "GET, POST"


async def test_stranger_learns_the_verdict_and_nothing_else(api: Api) -> None:
    """INV-API-03: whatever is asked, however large, however wrong the key, one answer."""
    paths = {filled(route.split()[1]) for route in NEEDED} | {"/", "/nothing", "/docs", "/api/v1/"}
    answers = set()
    for path in sorted(paths):
        for method in METHODS:
            if (method, path) == ("GET", "/health"):
                continue
            for body in (b"", b"{" * 100, bytes(2000)):
                answer = await api.stranger.request(method, path, content=body)
                length = answer.headers.pop("content-length")
                answers.add((answer.status_code, answer.text, length, str(answer.headers)))
    right_in_form = f"Bearer {auth.new_key().text}".encode()
    for wrong in (b"Bearer x", b"Basic Og==", b"Bearer", right_in_form, b"\xff"):
        answer = await api.stranger.get("/api/v1/tasks", headers={b"authorization": wrong})
        length = answer.headers.pop("content-length")
        answers.add((answer.status_code, answer.text, length, str(answer.headers)))

    heads = {(status, length, headers) for status, _, length, headers in answers}
    assert len({text for _, text, *_ in answers} - {""}) == 1, answers
    assert len(heads) == 1, answers
    assert heads.pop()[0] == 401
    health = await api.stranger.get("/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    with_key = (await api.http.get("/health")).json()
    assert with_key["services"]["store"] == "running"


async def test_where_the_token_lies_is_told_on_its_own_machine_alone(api: Api) -> None:
    """INV-API-03."""
    said = {}
    for host in ("127.0.0.1", "::1", "192.0.2.7"):
        transport = httpx2.ASGITransport(app=api.app, client=(host, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            said[host] = (await http.get("/api/v1/tasks")).json()["detail"]
    assert [host for host, detail in said.items() if "FOG_HOME" in detail] == ["127.0.0.1", "::1"]
    assert said["192.0.2.7"] == "this needs a key: send an API key as a bearer token"


async def test_key_is_shown_once_and_only_its_hash_is_kept(api: Api) -> None:
    """INV-API-04."""
    made = await make_key(api, READ, lasts_s=1000)
    listed = (await api.http.get("/api/v1/keys")).json()["keys"]

    assert made["key"].startswith(f"fogk_{made['id']}_")
    assert len(made["key"]) == len("fogk__") + 12 + 43
    assert [key["id"] for key in listed] == [made["id"]]
    assert made["key"] not in str(listed)
    assert auth.digest(made["key"]) not in str(listed)
    for path in (f"{api.services.settings.database}{end}" for end in ("", "-wal")):
        data = read_file(path, 100 * MIB)
        assert made["key"].encode() not in data
    assert made["key"] not in repr(auth.NewKey(made["id"], made["key"]))


async def test_key_whose_answer_was_lost_is_made_anew_and_there_once(api: Api) -> None:
    """INV-API-62."""
    named = {"idempotency-key": "r" * 32}
    body = {"name": "once", "scopes": ["read"]}
    lost, made = [
        (await api.http.post("/api/v1/keys", json=body, headers=named)).json() for _ in range(2)
    ]
    assert made["id"] == lost["id"]
    assert len((await api.http.get("/api/v1/keys")).json()["keys"]) == 1
    statuses = [
        (await api.stranger.get("/api/v1/status", headers=bearer(key["key"]))).status_code
        for key in (lost, made)
    ]
    assert statuses == [401, 200]

    # It is in use now: another answer would take it from whoever has it.
    again = await api.http.post("/api/v1/keys", json=body, headers=named)
    assert (again.status_code, made["id"] in again.json()["detail"]) == (409, True)
    other = await api.http.post("/api/v1/keys", json={**body, "name": "x"}, headers=named)
    assert other.status_code == 409


async def test_key_that_cannot_be_made_is_refused(api: Api) -> None:
    """INV-API-04."""
    bodies: list[dict[str, object]] = [
        {},
        {"name": ""},
        {"name": "x" * 81},
        {"name": "a\nb"},
        {"name": "a\x9bb"},
        {"name": "a\u202eb"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "lasts_s": 0},
        {"name": "x", "lasts_s": 1e300},
        {"name": "x", "more": 1},
    ]

    answers = [await api.http.post("/api/v1/keys", json=body) for body in bodies]
    statuses = [answer.status_code for answer in answers]
    odd = "`name` has control characters, or marks that are not seen"

    assert [answer.json()["detail"] for answer in answers].count(odd) == 3
    assert statuses == [422] * len(bodies)
    assert (await api.http.get("/api/v1/keys")).json() == {"keys": []}


async def test_revoked_key_opens_nothing(api: Api) -> None:
    """INV-API-05."""
    made = await make_key(api, READ)
    before = await api.stranger.get("/api/v1/tasks", headers=bearer(made["key"]))

    revoked = await api.http.delete(f"/api/v1/keys/{made['id']}")
    again = await api.http.delete(f"/api/v1/keys/{made['id']}")
    after = await api.stranger.get("/api/v1/tasks", headers=bearer(made["key"]))

    assert (before.status_code, after.status_code) == (200, 401)
    assert revoked.json()["revoked_at"] is not None
    assert again.json() == revoked.json()
    assert (await api.http.delete(f"/api/v1/keys/{'f' * 12}")).status_code == 404


async def test_upload_ends_with_its_key(api: Api) -> None:
    """INV-API-05."""
    made = await make_key(api, SUBMIT)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"before"
        await api.http.delete(f"/api/v1/keys/{made['id']}")
        yield b"after"
        yield b"more"

    upload = {**bearer(made["key"]), "content-type": "application/octet-stream"}
    refused = await api.stranger.post("/api/v1/blobs", content=pieces(), headers=upload)

    assert refused.status_code == 401


class Asked:
    """Keys of a store, whose readings are counted, and can fail."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.readings = 0
        self.fails = False
        self.held: asyncio.Event | None = None

    async def live(self, *more: Any) -> LiveKeys:
        self.readings += 1
        if self.held is not None:
            await self.held.wait()
        if self.fails:
            raise StoreError("the database is away")
        return await self.store.keys.live(*more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store.keys, name)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path / "fog.db", clock=clock) as opened:
        yield opened


@pytest.fixture
def asked(store: Store) -> Asked:
    return Asked(store)


@pytest_asyncio.fixture
async def callers(asked: Asked, clock: ManualClock) -> AsyncIterator[Callers]:
    async with Callers("the-token-of-the-home-folder-itself", lambda: asked, clock) as made:  # type: ignore[arg-type,return-value]  # stands in for the store's
        yield made


async def test_wrong_keys_cost_no_visit_to_the_database(
    callers: Callers, asked: Asked, clock: ManualClock
) -> None:
    """INV-API-06: 10,000 of them, and who has a right one does not notice."""
    good, _ = await callers.make("good", frozenset({READ}), None)
    await clock.advance(UNKNOWN_S)
    before = asked.readings
    statements: list[str] = []

    def note(*about: Any) -> None:
        statements.append(about[2])

    event.listen(Engine, "before_cursor_execute", note)
    for number in range(10_000):
        wrong = auth.new_key().text if number % 2 else f"fogk_{good.id}_{number:043d}"
        assert await callers.by_key(wrong) is None
        assert await callers.by_cookie(auth.new_cookie()) is None
    event.remove(Engine, "before_cursor_execute", note)
    readings = asked.readings - before
    asked.held = asyncio.Event()  # from here on, who reads waits for ever
    found = await callers.by_key(good.text)

    assert readings == 1
    assert len(statements) == 2  # keys, logins
    assert found is not None
    assert found.id == good.id
    asked.held.set()


async def test_malformed_key_is_looked_up_nowhere(callers: Callers, asked: Asked) -> None:
    """INV-API-06."""
    before = asked.readings
    for wrong in ("", "x", "fogk_", f"fogk_{'0' * 12}_{'x' * 42}", f"x{auth.new_key().text}", "\0"):
        assert await callers.by_key(wrong) is None
        assert await callers.by_cookie(wrong) is None

    assert asked.readings == before


async def test_key_of_another_backend_is_known_in_a_second_and_gone_in_five(
    callers: Callers, asked: Asked, store: Store, clock: ManualClock
) -> None:
    """INV-API-05."""
    async with Callers("the-token-of-another-home-folder", lambda: store.keys, clock) as other:
        await clock.advance(UNKNOWN_S)
        good, _ = await other.make("elsewhere", frozenset({READ}), None)
        assert await callers.by_key(good.text) is not None
        await other.revoke(good.id)
        await clock.advance(TRUSTED_S)

        assert await callers.by_key(good.text) is None


async def test_who_is_known_is_let_in_while_the_database_is_away(
    callers: Callers, asked: Asked, clock: ManualClock
) -> None:
    """INV-API-05."""
    good, _ = await callers.make("good", frozenset({READ}), None)
    asked.fails = True
    await clock.advance(TRUSTED_S)

    assert await callers.by_key(good.text) is not None
    assert await callers.by_key(auth.new_key().text) is None
    assert await callers.by_key("the-token-of-the-home-folder-itself") is not None


async def test_key_expires(callers: Callers, clock: ManualClock) -> None:
    """INV-API-05."""
    good, _ = await callers.make("good", frozenset({READ}), timedelta(seconds=2))
    caller = await callers.by_key(good.text)
    assert caller is not None
    assert callers.still(caller)

    await clock.advance(2)

    assert await callers.by_key(good.text) is None
    assert not callers.still(caller)


async def test_last_use_is_written_later_and_never_lost(
    callers: Callers, store: Store, clock: ManualClock
) -> None:
    """INV-API-07: one write a minute, however many requests there are."""
    good, _ = await callers.make("good", frozenset({READ}), None)
    await clock.advance(10)
    used = clock.now()
    for _ in range(50):
        await callers.by_key(good.text)
    assert (await store.keys.all())[0].used_at is None

    await clock.advance(USED_S)
    async with asyncio.timeout(20):
        while (await store.keys.all())[0].used_at != used:
            await asyncio.sleep(0)

    await clock.advance(5)
    await callers.by_key(good.text)
    assert (await callers.keys())[0].used_at == clock.now()


async def test_rate_is_counted_by_key(api: Api) -> None:
    """INV-API-08."""
    first, second = await make_key(api, READ), await make_key(api, READ)
    api.app.state.rates._asking.amount = 3  # of what the setting says
    statuses = [
        (await api.stranger.get("/api/v1/login", headers=bearer(first["key"]))).status_code
        for _ in range(5)
    ]
    refused = await api.stranger.get("/api/v1/tasks", headers=bearer(first["key"]))
    other = await api.stranger.get("/api/v1/login", headers=bearer(second["key"]))

    assert statuses == [200, 200, 200, 429, 429]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == RATE_LIMITED.uri
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert other.status_code == 200
    assert (await api.http.get("/api/v1/login")).status_code == 200


async def test_wrong_keys_of_one_address_are_looked_at_so_often(api: Api) -> None:
    """INV-API-08: right ones from there are let in all the time."""
    good = (await make_key(api, READ))["key"]
    wrong = bearer(auth.new_key().text)
    statuses = [
        (await api.stranger.get("/api/v1/tasks", headers=wrong)).status_code
        for _ in range(TRIES_PER_MINUTE + 2)
    ]
    login = await api.stranger.post("/api/v1/login", json={"key": "wrong"})

    assert statuses == [401] * TRIES_PER_MINUTE + [429] * 2
    assert login.status_code == 429
    assert (await api.stranger.get("/api/v1/tasks", headers=bearer(good))).status_code == 200
    assert (await api.stranger.get("/api/v1/tasks")).status_code == 401


async def test_rate_begins_anew_after_a_minute(clock: ManualClock) -> None:
    """INV-API-08."""
    rates = Rates(2, clock)
    assert [await rates.asked("a") for _ in range(3)] == [0, 0, 60]
    await clock.advance(45.5)
    assert await rates.asked("a") == 15
    assert await rates.asked("b") == 0
    await clock.advance(14.5)

    assert await rates.asked("a") == 0


async def test_addresses_of_strangers_take_no_room(clock: ManualClock) -> None:
    """INV-API-06."""
    counts = CountsInMemory(clock)
    rates = Rates(2, clock)
    rates._strangers.storage = counts  # to look into
    for number in range(3000):
        await rates.failed(f"2001:db8:{number:x}::1")
        await rates.failed(f"10.0.{number // 256}.{number % 256}")
    await rates.failed("")

    assert len(counts._counts) <= 64


async def test_neighbours_in_one_network_are_counted_together(clock: ManualClock) -> None:
    """INV-API-08."""
    rates = Rates(2, clock)
    waits = [await rates.failed(f"2001:db8:1:{n:x}::1") for n in range(TRIES_PER_MINUTE + 1)]

    assert waits[-1] > 0


async def test_counts_of_long_ago_are_forgotten(clock: ManualClock) -> None:
    """INV-API-08."""
    counts = CountsInMemory(clock)
    for number in range(5000):
        await counts.incr(str(number), 60)
        await clock.advance(0.05)

    assert len(counts._counts) < 4200
    assert await counts.check()
    assert await counts.reset()
    assert await counts.get("4999") == 0


async def test_crash_and_refusal_have_safe_headers(api: Api) -> None:
    """INV-API-09."""

    @api.app.get("/api/v1/crash")
    async def crash() -> None:
        raise ZeroDivisionError

    transport = httpx2.ASGITransport(app=api.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=api.http.headers
    ) as http:
        crashed = await http.get("/api/v1/crash")
        foreign = await http.get("/", headers={"host": "evil.example"})

    assert (crashed.status_code, foreign.status_code) == (500, 400)
    for answer in (
        crashed,
        foreign,
        await api.stranger.get("/"),
        await api.stranger.get("/health"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_stream_of_events_ends_with_its_key(api: Api) -> None:
    """INV-API-05."""
    made = await make_key(api, READ)
    asked, sent = asyncio.Event(), bytearray()
    status = 0

    async def receive() -> MutableMapping[str, Any]:
        if asked.is_set():
            await asyncio.Event().wait()  # the other side stays
        asked.set()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        sent.extend(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            sent.extend(b"END")

    headers = {"host": "127.0.0.1", "accept": "text/event-stream", **bearer(made["key"])}
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/events",
        "raw_path": b"/api/v1/events",
        "root_path": "",
        "query_string": b"since=0",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    listening = asyncio.ensure_future(api.app(scope, receive, send))
    first = await api.create()
    async with asyncio.timeout(20):
        while str(first["id"]).encode() not in sent:
            await asyncio.sleep(0.01)
        await api.http.delete(f"/api/v1/keys/{made['id']}")
        second = await api.create()
        await listening

    assert status == 200
    assert str(second["id"]).encode() not in sent
    assert sent.endswith(b"END")
