"""Logins of browsers: what a cookie is worth, and to whom."""

from __future__ import annotations

from typing import Any, Final

import httpx2
import pytest

from fog_compute.scopes import Scope
from fog_compute.server import auth
from fog_compute.server.callers import LOGIN
from fog_compute.store.keys import MOST_LOGINS
from tests.unit.fog_compute.server.conftest import Api
from tests.unit.fog_compute.server.test_gate import bearer, make_key

pytestmark = pytest.mark.asyncio

URL: Final = "/api/v1/login"
OWN: Final = "http://127.0.0.1"


async def log_in(api: Api, key: object, **headers: str) -> httpx2.Response:
    return await api.stranger.post(URL, json={"key": key}, headers=headers)


def cookie_in(answer: httpx2.Response) -> dict[str, str]:
    """The header with which a browser sends back what it was given."""
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


async def test_cookie_is_for_this_backend_and_for_no_script(api: Api) -> None:
    """INV-API-10."""
    key = (await make_key(api, Scope.READ))["key"]
    answer = await log_in(api, key)

    name, *attributes = answer.headers["set-cookie"].lower().split("; ")
    assert name.startswith("fog_session=")
    assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)
    assert "secure" not in attributes
    transport = httpx2.ASGITransport(app=api.app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://127.0.0.1") as http:
        by_tls = await http.post(URL, json={"key": key})
        told = await http.get(URL)
        crossed = await http.get(URL, headers=cookie_in(answer))
    assert by_tls.headers["set-cookie"].startswith("__Host-fog_session=")
    assert "secure" in by_tls.headers["set-cookie"].lower().split("; ")
    assert told.json()["csrf_token"] == by_tls.json()["csrf_token"]
    assert crossed.status_code == 401


async def test_cookie_has_what_its_key_has_and_no_more(api: Api) -> None:
    """INV-API-11."""
    made = await make_key(api, Scope.READ, lasts_s=1000)
    opened = await log_in(api, made["key"])
    sent = {**cookie_in(opened), "x-csrf-token": opened.json()["csrf_token"]}

    assert opened.json()["scopes"] == ["read"]
    assert opened.json()["expires_at"] == made["expires_at"]
    assert opened.json()["key_id"] == made["id"]
    assert made["key"] not in opened.text + str(opened.headers)
    assert (await api.stranger.get("/api/v1/tasks", headers=sent)).status_code == 200
    assert (await api.stranger.post("/api/v1/blobs", headers=sent)).status_code == 403
    assert (await api.stranger.get("/api/v1/keys", headers=sent)).status_code == 403


@pytest.mark.parametrize("end", ["revoked", "logged out", "another login too many"])
async def test_cookie_dies(api: Api, end: str) -> None:
    """INV-API-11."""
    made = await make_key(api, Scope.READ)
    opened = await log_in(api, made["key"])
    sent = {**cookie_in(opened), "x-csrf-token": opened.json()["csrf_token"]}
    before = await api.stranger.get("/api/v1/tasks", headers=sent)
    if end == "revoked":
        await api.http.delete(f"/api/v1/keys/{made['id']}")
    elif end == "logged out":
        left = await api.stranger.delete(URL, headers=sent)
        assert left.status_code == 204
        assert left.headers["set-cookie"].startswith('fog_session=""; HttpOnly; Max-Age=0;')
    else:
        more = [await log_in(api, made["key"]) for _ in range(MOST_LOGINS)]
        kept = [(await api.stranger.get(URL, headers=cookie_in(one))).status_code for one in more]
        assert kept == [200] * MOST_LOGINS

    after = await api.stranger.get("/api/v1/tasks", headers=sent)

    assert (before.status_code, after.status_code) == (200, 401)


async def test_home_folders_token_logs_in_too(api: Api) -> None:
    """INV-API-11: for the page of its owner; as long as it is that token."""
    token = api.services.settings.layout.token_file.read_text()
    opened = await log_in(api, token)
    sent = cookie_in(opened)

    assert opened.json()["key_id"] == "local"
    assert opened.json()["scopes"] == ["admin"]
    assert (await api.stranger.get("/api/v1/keys", headers=sent)).status_code == 200
    api.app.state.callers._token = auth.digest("the token of another day")  # as after a restart
    assert (await api.stranger.get("/api/v1/keys", headers=sent)).status_code == 401


async def test_login_ends_after_hours(api: Api) -> None:
    """INV-API-11."""
    callers = api.app.state.callers
    opened = await callers.log_in((await make_key(api, Scope.READ))["key"])
    assert opened is not None
    cookie, caller = opened
    now = api.services.clock.now()
    assert callers.still(caller)
    assert now + LOGIN * 0.9 < caller.expires_at <= now + LOGIN

    class Later:
        def now(self) -> Any:
            return now + LOGIN

        def monotonic(self) -> float:
            return api.services.clock.monotonic()

    callers._clock = Later()
    assert not callers.still(caller)
    assert await callers.by_cookie(cookie) is None


FORGED: Final[list[dict[str, str]]] = [
    {},
    {"x-csrf-token": ""},
    {"x-csrf-token": "x" * 43},
    {"x-csrf-token": "right", "origin": "http://127.0.0.1:81"},
    {"x-csrf-token": "right", "origin": "http://evil.example"},
    {"x-csrf-token": "right", "origin": "null"},
    {"x-csrf-token": "right", "sec-fetch-site": "same-site"},
    {"x-csrf-token": "right", "sec-fetch-site": "cross-site"},
]
OWN_PAGE: Final[list[dict[str, str]]] = [
    {"x-csrf-token": "right"},
    {"x-csrf-token": "right", "origin": OWN, "sec-fetch-site": "same-origin"},
]


async def test_cookie_alone_changes_nothing(api: Api) -> None:
    """INV-API-12."""
    opened = await log_in(api, (await make_key(api, Scope.ADMIN))["key"])
    routes = [
        ("POST", "/api/v1/blobs", 201),
        ("DELETE", f"/api/v1/keys/{'0' * 12}", 404),
        ("PUT", "/api/v1/tasks", 405),
    ]
    for method, path, status in routes:
        for headers in FORGED + OWN_PAGE:
            sent = {**headers, **cookie_in(opened)}
            if headers.get("x-csrf-token") == "right":
                sent["x-csrf-token"] = opened.json()["csrf_token"]
            answer = await api.stranger.request(method, path, headers=sent)
            assert answer.status_code == (403 if headers in FORGED else status), headers
    assert (await api.stranger.get("/api/v1/tasks", headers=cookie_in(opened))).status_code == 200


async def test_page_of_another_origin_logs_nobody_in(api: Api) -> None:
    """INV-API-12."""
    key = (await make_key(api, Scope.READ))["key"]

    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
    ):
        assert (await log_in(api, key, **headers)).status_code == 403
    assert (await log_in(api, key, origin=OWN)).status_code == 200


async def test_login_tells_a_stranger_what_every_route_does(api: Api) -> None:
    """INV-API-03."""
    elsewhere = await api.stranger.get("/nothing")
    bodies = [
        b"",
        b"{",
        b"[]",
        b'{"key": 1}',
        b'{"key": "x"}',
        b'{"key": "',
        b'{"more": 1}',
        b"\xff",
    ]
    for body in bodies:
        answer = await api.stranger.post(URL, content=body)

        assert (answer.status_code, answer.text) == (401, elsewhere.text)
        assert answer.headers == elsewhere.headers


async def test_stale_cookie_hinders_no_login_and_a_key_goes_before_a_cookie(api: Api) -> None:
    """INV-API-10."""
    made = await make_key(api, Scope.READ)
    opened = await log_in(api, made["key"], cookie=f"fog_session={'x' * 43}")
    other = await make_key(api, Scope.SUBMIT)
    both = {**cookie_in(opened), **bearer(other["key"])}

    assert opened.status_code == 200
    told = (await api.stranger.get(URL, headers=both)).json()
    assert (told["key_id"], told["csrf_token"]) == (other["id"], None)
    wrong = {**cookie_in(opened), **bearer("wrong")}
    assert (await api.stranger.get(URL, headers=wrong)).status_code == 401
    again = await log_in(api, other["key"], **cookie_in(opened))
    assert again.json()["key_id"] == other["id"]
