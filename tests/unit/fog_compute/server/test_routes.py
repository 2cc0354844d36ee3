"""What the interface shows of workers, nodes, sessions and services, and what it does with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import betanet
from fog_compute.errors import StoreAway, StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.server.parts import NEEDS, ORDER, dependants
from fog_compute.server.problems import AWAY_S
from fog_compute.store.reader import Reader
from fog_compute.vpn.directory import TaskLimits
from fog_compute.vpn.network import ClientHealth

from .conftest import Api

pytestmark = pytest.mark.asyncio

V1 = "/api/v1"


async def test_workers_are_listed_by_what_they_take(api: Api) -> None:
    """INV-API-40."""
    for name in ("a", "b"):
        api.add_worker(name)
    api.backbone.offers[1] = replace(
        api.backbone.offers[1], kinds=("python",), limits=TaskLimits(9.5, 2**20, 2**10)
    )

    async def listed() -> bool:
        return len((await api.http.get(f"{V1}/workers")).json()["workers"]) == 2

    async def names(**query: str) -> list[str]:
        answer = await api.http.get(f"{V1}/workers", params=query)
        return [worker["name"] for worker in answer.json()["workers"]]

    await api.until(listed)
    one = (await api.http.get(f"{V1}/workers/b")).json()

    assert await names() == ["a", "b"]
    assert await names(kind="python", state="ready", level="private") == ["b"]
    assert await names(state="lost") == []
    assert (one["wall_s"], one["scratch_bytes"], one["output_bytes"]) == (9.5, 2**20, 2**10)
    assert (await api.http.get(f"{V1}/workers/a")).json()["wall_s"] is None
    assert (await api.http.get(f"{V1}/workers/c")).status_code == 404
    assert (await api.http.get(f"{V1}/workers", params={"state": "odd"})).status_code == 422


async def test_nodes_are_counted_and_those_that_matter_here_are_shown(api: Api) -> None:
    """INV-API-41."""
    bad = betanet.ExcludedNode("0f" * 32, tries=30, lost=20, expected=2, seconds_left=9.5)
    away = betanet.OwnEdge("ab" * 32, True, False, "refused")
    here = betanet.OwnEdge("cd" * 32, False, True, None)
    api.backbone.fares = ClientHealth((away, here), None, 40, 3, 150, None, (bad,))
    api.backbone.view = replace(api.backbone.view, excluded={bad.id: bad})
    await api.services.get_service("sessions").open(PrivacyLevel.PRIVATE)

    async def seen() -> bool:
        return api.services.net_status is api.backbone.view

    await api.until(seen)
    body = (await api.http.get(f"{V1}/nodes")).json()
    found = {node["id"][:2]: node for node in body["nodes"]}

    assert body["roles"] == {"entry": 2, "middle": 6, "exit": 2}
    assert body["one_operator"]
    assert list(found) == ["0f", "ab", "cd"]
    assert found["0f"]["excluded"]["lost"] == 20
    assert found["0f"]["edge"] is None
    assert found["ab"]["edge"] == {"current": True, "attached": False, "reason": "refused"}
    assert found["cd"]["edge"]["attached"]
    assert (await api.http.get(f"{V1}/nodes/cd")).json() == found["cd"]
    assert (await api.http.get(f"{V1}/nodes/99")).status_code == 404
    assert "private" not in str(body)  # whose edges they are is not told


async def test_session_is_opened_shown_and_closed_by_who_has_its_token(api: Api) -> None:
    """INV-API-42."""
    opened = await api.http.post(f"{V1}/sessions", json={"level": "private", "quota_bytes": 99})
    other = (await api.http.post(f"{V1}/sessions", json={})).json()
    made = opened.json()
    path, token = f"{V1}/sessions/{made['id']}", made.pop("token")
    shown = (await api.http.get(path)).json()

    assert opened.status_code == 201
    assert (shown["level"], shown["quota_bytes"], shown["apart"]) == ("private", 99, False)
    assert token.partition(".")[2] not in (await api.http.get(f"{V1}/sessions")).text + str(shown)
    for headers, status in (
        ({}, 422),
        ({"session-token": "x"}, 404),
        ({"session-token": other["token"]}, 404),
        ({"session-token": token}, 204),
        ({"session-token": token}, 404),
    ):
        assert (await api.http.delete(path, headers=headers)).status_code == status
    assert (await api.http.get(path)).status_code == 404
    assert (await api.http.get(f"{V1}/sessions/{other['id']}")).status_code == 200


async def test_services_are_shown_in_their_order_and_one_is_restarted(api: Api) -> None:
    """INV-API-43."""
    before = api.services.get_service("sessions")
    listed = (await api.http.get(f"{V1}/services")).json()["services"]
    restarted = await api.http.post(f"{V1}/services/onion_circuit/restart")

    assert [one["name"] for one in listed] == list(ORDER)
    assert [tuple(one["needs"]) for one in listed] == list(NEEDS.values())
    assert restarted.json()["restarted"] == list(dependants("onion_circuit"))
    assert api.services.get_service("sessions") is not before
    assert (await api.http.get(f"{V1}/services/store")).json()["state"] == "running"
    for path in ("services/disk", "services/disk/restart"):
        method = "POST" if "restart" in path else "GET"
        assert (await api.http.request(method, f"{V1}/{path}")).status_code == 404


async def test_a_database_that_is_away_says_when_to_ask_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-API-60."""
    problems: dict[str, Any] = {}
    for error in (StoreAway("the database is away"), StoreError("disk full")):

        async def fail(*_: object, error: StoreError = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(Reader, "rows", fail)
        answer = await api.http.get(f"/api/v1/tasks/{'0' * 26}")
        assert answer.status_code == 503
        problems[answer.json()["type"].rpartition(":")[2]] = answer.headers.get("retry-after")
    assert problems == {"store-away": str(AWAY_S), "store-error": None}


async def test_readiness_says_whether_a_task_would_be_taken(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-API-44."""
    ready = await api.http.get("/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    assert (await api.stranger.get("/ready")).status_code == 401

    store = api.services.get_service("store")

    async def full() -> None:
        raise StoreError("the database takes no changes: disk full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "touch", full)
        answer = await api.http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the database takes no changes: disk full"]

    healthy = (await api.http.get("/health")).json()
    assert (healthy["status"], healthy["reasons"]) == ("ok", [])

    api.services.begin_stop()
    assert (await api.http.get("/ready")).json()["reasons"] == ["the backend is stopping"]
    await api.services.stop()
    assert (await api.http.get("/ready")).status_code == 503
    over = await api.http.get("/health")
    assert (over.status_code, over.json()["reasons"][0]) == (503, "store is stopped: stopped")
    assert (await api.stranger.get("/health")).json() == {"status": "degraded"}
