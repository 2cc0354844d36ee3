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

from .conftest import Api, listed

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


def listed_node(start: str, role: str, **fields: Any) -> betanet.Node:
    """A node of a consensus; its id ends with the digits that it starts with, turned round."""
    node = start + "5" * (64 - 2 * len(start)) + start[::-1]
    return replace(
        betanet.Node(node, role, "an operator", "10.1.0.0/16", "10.1.2.3:900", (7, 8), 9_500),
        **fields,
    )


async def test_nodes_are_listed_with_what_each_is_to_this_machine(api: Api) -> None:
    """INV-API-41."""
    plain, bad = listed_node("1e", "middle"), listed_node("0f", "middle")
    here = listed_node("cd", "entry", expires_ms=2**64 - 1)
    lost = betanet.ExcludedNode(bad.id, tries=30, lost=20, expected=2, seconds_left=9.5)
    edges = (
        betanet.OwnEdge("ab" * 32, True, False, "refused"),  # listed no longer
        betanet.OwnEdge(here.id, False, True, None),
    )
    api.backbone.fares = ClientHealth(edges, None, 40, 3, 150, None, (lost,))
    api.backbone.view = replace(api.backbone.view, excluded={bad.id: lost})
    api.backbone.listed = listed(here, plain, bad)
    await api.services.get_service("sessions").open(PrivacyLevel.PRIVATE)

    async def seen() -> bool:
        return api.services.net_status is api.backbone.view

    await api.until(seen)
    body = (await api.http.get(f"{V1}/nodes")).json()
    found = {node["id"][:2]: node for node in body["nodes"]}

    assert (body["network"], body["epoch"], body["revision"]) == ("test", 7, 2)
    assert body["valid_until"] == "1970-01-01T00:00:03.500000Z"
    assert (body["in_force"], body["one_operator"], body["next"]) == (True, True, None)
    assert body["roles"] == {"entry": 1, "middle": 2, "exit": 0}
    assert list(found) == ["0f", "1e", "ab", "cd"]
    assert found["1e"] == {
        "id": plain.id,
        "role": "middle",
        "operator": "an operator",
        "prefix": "10.1.0.0/16",
        "link_address": "10.1.2.3:900",
        "key_epochs": [7, 8],
        "expires_at": "1970-01-01T00:00:09.500000Z",
        "edge": None,
        "excluded": None,
    }
    assert (found["0f"]["excluded"]["lost"], found["0f"]["edge"]) == (20, None)
    assert found["ab"]["edge"] == {"current": True, "attached": False, "reason": "refused"}
    assert {found["ab"][name] for name in ("role", "operator", "prefix", "expires_at")} == {None}
    assert found["cd"]["edge"]["attached"]
    assert found["cd"]["expires_at"] == "9999-12-31T23:59:59Z"
    assert "private" not in str(body)  # whose edges they are is not told


async def test_nodes_come_in_pages_by_role_and_by_use(api: Api) -> None:
    """INV-API-41."""
    nodes = [listed_node(f"{at:02x}", ("entry", "middle", "exit")[at % 3]) for at in range(7)]
    gone = betanet.ExcludedNode("ff" * 32, 30, 20, 2, 9.5)
    api.backbone.listed = listed(*reversed(nodes))
    api.backbone.view = replace(api.backbone.view, excluded={gone.id: gone})

    async def seen() -> bool:
        return api.services.net_status is api.backbone.view

    async def pages(**query: str | int) -> list[list[int]]:
        found: list[list[int]] = []
        while True:
            body = (await api.http.get(f"{V1}/nodes", params=query)).json()
            assert body["roles"] == {"entry": 3, "middle": 2, "exit": 2}, "it counts all"
            found.append([int(node["id"][:2], 16) for node in body["nodes"]])
            if body["next"] is None:
                return found
            query["after"] = body["next"]

    await api.until(seen)
    assert await pages(limit=3) == [[0, 1, 2], [3, 4, 5], [6, 255]]
    assert await pages(limit=4) == [[0, 1, 2, 3], [4, 5, 6, 255]]
    assert await pages(role="middle") == [[1, 4]]
    assert await pages(use="excluded") == [[255]]
    assert await pages(use="excluded", role="middle") == await pages(use="edge") == [[]]
    for wrong in ({"limit": 1001}, {"limit": 0}, {"role": "edge"}, {"use": "x"}, {"after": "Z"}):
        assert (await api.http.get(f"{V1}/nodes", params=wrong)).status_code == 422


async def test_a_node_is_found_by_how_its_id_begins_or_ends(api: Api) -> None:
    """INV-API-41."""
    nodes = [listed_node(start, "middle") for start in ("0a1", "0b2", "9b2")]
    api.backbone.listed = listed(*nodes)

    async def named(name: str) -> tuple[int, str]:
        answer = await api.http.get(f"{V1}/nodes/{name}")
        return answer.status_code, answer.json().get("id") or answer.json()["detail"]

    for name in ("0a", nodes[0].id, "1a0", nodes[0].id[3:]):
        assert await named(name) == (200, nodes[0].id)
    assert (await named("77"))[0] == 404
    assert (await named("F"))[0] == 422
    status, detail = await named("0")
    assert (status, nodes[0].id in detail, "give more of one" in detail) == (409, True, True)
    api.backbone.listed = None
    assert (await named("0a"))[0] == (await api.http.get(f"{V1}/nodes")).status_code == 503


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
