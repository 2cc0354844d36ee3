"""The HTTP interface: what it does, and how it refuses."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI, Request

import betanet
from fog_compute.config import Settings
from fog_compute.errors import ConfigError, NotFound, ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.server.app import create_app
from fog_compute.server.auth import load_or_make_token
from fog_compute.server.problems import install_problems
from fog_compute.server.routers import tasks
from fog_compute.server.services import ServiceManager
from fog_compute.store.blob_files import FolderBlobs
from fog_compute.tasks import TaskResult, TaskSpec
from fog_compute.vpn.network import ClientHealth, NetworkStatus
from fog_compute.vpn.onion import OnionCircuitService
from tests.unit.fog_compute.modules import COMMAND
from tests.unit.fog_compute.server.conftest import DEADLINE_S, Api, Backbone, running_api

pytestmark = pytest.mark.asyncio

OK = TaskResult(0, b"out\xff", b"err", 10, 5, 65536)


async def finished(api: Api, task_id: object) -> dict[str, object]:
    body: dict[str, object] = {}

    async def over() -> bool:
        nonlocal body
        body = (await api.http.get(f"/api/v1/tasks/{task_id}")).json()
        return bool(body["final"])

    await api.until(over)
    return body


async def test_task_runs_and_its_output_is_given_back(api: Api) -> None:
    worker = api.add_worker("a")
    given = {"argv": ["x"], "env": {"K": "v"}, "seed": "5e" * 32, "strategy": "round_robin"}
    task = await api.create(**given, privacy="confidential")

    async def started() -> bool:
        return bool(worker.attempts)

    await api.until(started)

    async def said_to_run() -> bool:
        stage = (await api.http.get(f"/api/v1/tasks/{task['id']}")).json()["stage"]
        return bool(stage == {"doing": "running", "done": 0, "total": 0})

    await api.until(said_to_run)
    worker.finish(OK)
    body = await finished(api, task["id"])
    assert body["stage"] is None
    stdout = await api.http.get(f"/api/v1/tasks/{task['id']}/stdout")
    stderr = await api.http.get(f"/api/v1/tasks/{task['id']}/stderr")

    assert body["state"] == "accepted"
    assert body["hops"] == 5
    assert body["seed"] == "5e" * 32
    (submitted,) = worker.attempts.values()
    assert (submitted.env, submitted.seed.hex()) == ({"K": "v"}, "5e" * 32)
    assert stdout.content == OK.stdout
    assert stderr.content == OK.stderr
    attempts = body["attempts"]
    assert isinstance(attempts, list)
    assert attempts[0]["placement"].startswith("a by round_robin among 1")


async def test_what_no_worker_can_run_is_refused_before_it_is_queued(api: Api) -> None:
    """INV-TASK-119."""
    api.add_worker("a")
    for module, words in (
        (b"#!/bin/sh", "not WebAssembly: it starts with 23 21"),
        (b"\0asm\x0d\0\1\0", "a component"),
        (COMMAND[:-3], "cut off or damaged"),
        (COMMAND[:18], "exports no function _start"),
    ):
        for _ in range(2):
            blob = (await api.http.post("/api/v1/blobs", content=module)).json()
            answer = await api.http.post("/api/v1/tasks", json={"module": blob["sha256"]})
            assert answer.status_code == 422
            assert words in answer.json()["detail"]

    assert (await api.http.get("/api/v1/tasks")).json()["tasks"] == []
    absent = await api.http.post("/api/v1/tasks", json={"module": "0" * 64})
    assert absent.status_code == 404


async def test_what_no_listed_worker_offers_is_said_at_once_and_waited_for(api: Api) -> None:
    """INV-TASK-119."""
    api.add_worker("a")

    async def listed() -> bool:
        return bool(api.services.get_service("workers").workers())

    await api.until(listed)
    assert (await api.create())["warning"] == ""
    task = await api.create(limits={"memory_bytes": 3 * 2**30}, wait_for_worker=True)
    other = await api.create(kind="python")  # its worker has just come, and may prepare it

    assert task["warning"] == (
        "no listed worker lends 3.0 GiB of memory at private, and the largest lends 1.0 GiB:"
        f" the task waits for one; `fog task cancel {task['id']}` ends it"
    )
    assert "no listed worker runs tasks of kind python at private" in str(other["warning"])
    assert task["state"] == "queued"


async def test_network_without_any_path_takes_no_task(settings: Settings) -> None:
    """INV-API-44."""
    backbone = Backbone()
    short = {level.hops: betanet.PathShortage(level.hops, 9, 0, "x") for level in PrivacyLevel}
    spared = short.pop(PrivacyLevel.SECRET.hops)
    backbone.view = replace(backbone.view, shortages=short)
    async with running_api(settings, backbone) as api:
        assert (await api.http.get("/ready")).status_code == 200
        backbone.view = replace(backbone.view, shortages={**short, spared.hops: spared})

        async def refuses() -> bool:
            return (await api.http.get("/ready")).status_code == 503

        await api.until(refuses)
        answer = await api.http.get("/ready")
        assert answer.json()["reasons"] == ["no level has a path: x"]


async def test_level_without_a_path_is_refused_with_what_is_missing(api: Api) -> None:
    """INV-TASK-146."""
    short = betanet.PathShortage(
        7, 5, 1, "too few middle nodes of different operators for a path of 7 hops: 1 of 5"
    )
    api.backbone.view = replace(api.backbone.view, shortages={7: short})

    async def seen() -> bool:
        return api.services.net_status is api.backbone.view

    await api.until(seen)
    module = (await api.http.post("/api/v1/blobs", content=COMMAND)).json()["sha256"]
    able, unable = {"module": module}, {"module": module, "privacy": "secret"}
    one = await api.http.post("/api/v1/tasks", json=unable)
    both = await api.http.post("/api/v1/tasks/batch", json={"tasks": [able, unable]})

    for refused in (one, both):
        assert refused.status_code == 409
        assert refused.json()["detail"] == (
            f"privacy secret has no path in this network: {short.text}: choose a lower level or"
            " wait"
        )
        assert (refused.json()["needed"], refused.json()["available"]) == (5, 1)
        assert refused.json()["type"].endswith("privacy-unavailable")
    assert (await api.http.get("/api/v1/tasks")).json()["tasks"] == []
    assert (await api.http.post("/api/v1/tasks", json=able)).status_code == 201


async def test_files_that_a_task_left_are_listed_and_given_back_piece_by_piece(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-93."""
    monkeypatch.setattr(tasks, "PIECE_BYTES", 999)
    large = bytes(range(256)) * 20
    files = {"a": b"", "z": large, "ü/b c#?%2F": b"x"}
    worker = api.add_worker("a")
    task = await api.create()

    async def started() -> bool:
        return bool(worker.attempts)

    await api.until(started)
    early = await api.http.get(f"/api/v1/tasks/{task['id']}/files")
    worker.finish(TaskResult(0, large, b"", 10, 5, 65536, files=files))
    body = await finished(api, task["id"])
    base = f"/api/v1/tasks/{task['id']}"
    listed = (await api.http.get(f"{base}/files")).json()["files"]

    assert early.status_code == 404
    assert listed == [{"path": path, "size": len(data)} for path, data in files.items()]
    assert body["result"]["files"] == listed  # type: ignore[index]  # JSON
    for path, data in files.items():
        answer = await api.http.get(f"{base}/files/{quote(path)}")
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-length"] == str(len(data))
    assert (await api.http.get(f"{base}/stdout")).content == large
    for path in ("absent", "ü", "z/"):
        assert (await api.http.get(f"{base}/files/{quote(path)}")).status_code == 404


async def test_long_poll_answers_at_the_next_change(api: Api) -> None:
    task = await api.create()
    waiting = asyncio.create_task(
        api.http.get(
            f"/api/v1/tasks/{task['id']}", params={"wait": 30, "since": str(task["version"])}
        )
    )
    api.add_worker("a")

    body = (await asyncio.wait_for(waiting, 20)).json()

    assert body["version"] > task["version"]


async def test_long_poll_ends_without_a_change(api: Api) -> None:
    task = await api.create()

    answer = await api.http.get(
        f"/api/v1/tasks/{task['id']}", params={"wait": 0.05, "since": str(task["version"])}
    )

    assert answer.json()["version"] == task["version"]


async def test_waiting_task_says_what_it_waits_for(api: Api) -> None:
    task = await api.create()

    async def told() -> bool:
        body = (await api.http.get(f"/api/v1/tasks/{task['id']}")).json()
        return "no worker is known yet" in body["reason"]

    await api.until(told)


async def test_tasks_are_listed_newest_first_and_in_pages(api: Api) -> None:
    ids = [(await api.create())["id"] for _ in range(3)]

    first = (await api.http.get("/api/v1/tasks", params={"limit": 2})).json()
    second = (
        await api.http.get("/api/v1/tasks", params={"limit": 2, "before": first["next"]})
    ).json()

    assert [task["id"] for task in first["tasks"] + second["tasks"]] == ids[::-1]
    assert second["next"] is None


async def test_cancelled_task_stays_cancelled(api: Api) -> None:
    task = await api.create()

    first = await api.http.post(f"/api/v1/tasks/{task['id']}/cancel")
    again = await api.http.post(f"/api/v1/tasks/{task['id']}/cancel")

    assert first.json()["state"] == "cancelled"
    assert again.status_code == 409
    assert "is over: it was cancelled" in again.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/tasks"),
        ("POST", "/api/v1/tasks"),
        ("POST", "/api/v1/blobs"),
        ("GET", "/api/v1/tasks/0/stdout"),
    ],
)
async def test_stranger_is_refused(api: Api, method: str, path: str) -> None:
    for token in (b"", b"Bearer no", b"Bearer caf\xe9"):
        answer = await api.stranger.request(method, path, headers={b"authorization": token})

        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"two\nlines" * 10])
async def test_damaged_token_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match="holds no token: delete it"):
        load_or_make_token(path)


async def test_token_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="cannot be written"):
        load_or_make_token(tmp_path / "file" / "token")


async def test_death_while_the_token_is_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(descriptor: int) -> None:
        raise Killed

    path = tmp_path / "token"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", die)
        with pytest.raises(Killed):
            load_or_make_token(path)
    assert not path.exists()

    token = load_or_make_token(path)
    assert load_or_make_token(path) == token
    assert os.listdir(tmp_path) == ["token"]  # noqa: PTH208  # in a coroutine


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
async def test_machine_that_gives_no_more_threads_or_memory_is_named(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def refused(*_: object) -> str:
        raise error

    monkeypatch.setattr(FolderBlobs, "take", refused)

    answer = await api.http.post("/api/v1/blobs", content=b"\0asm")

    assert answer.status_code == 503
    assert "no more threads or memory" in answer.json()["detail"]


async def test_upload_that_breaks_off_is_no_crash() -> None:
    app = FastAPI()
    install_problems(app)

    @app.post("/")
    async def upload(request: Request) -> None:
        await request.body()

    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    await app(scope, receive, send)

    assert sent[0]["status"] == 400


async def test_token_is_readable_by_its_owner_only(api: Api) -> None:
    path = api.services.settings.layout.token_file

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_requests_are_counted_by_route(api: Api) -> None:
    health = await api.http.get("/health")
    metrics = await api.http.get("/metrics")

    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert 'fog_tasks{state="queued"} 0.0' in metrics.text
    assert 'http_requests_total{method="GET",route="/health",status="200"}' in metrics.text


async def test_metrics_carry_no_id(api: Api) -> None:
    worker = api.add_worker("secretname")
    task = await api.create()

    async def started() -> bool:
        return bool(worker.attempts)

    await api.until(started)
    worker.finish(OK)
    await finished(api, task["id"])
    await api.http.get("/api/v1/tasks/nosuch")
    await api.http.get("/somewhere/else")
    text = (await api.http.get("/metrics")).text

    assert str(task["id"]) not in text
    assert "secretname" not in text
    assert "nosuch" not in text
    assert "somewhere" not in text
    assert 'fog_task_duration_seconds_count{privacy="private",state="accepted"} 1.0' in text
    assert 'fog_attempts_total{outcome="accepted"} 1.0' in text


async def test_status_names_what_the_network_does_not_hide(api: Api) -> None:
    body = (await api.http.get("/api/v1/status")).json()

    assert "no anonymity" in body["net"]["warnings"][0]
    assert "no cover traffic yet" in body["net"]["warnings"][1]
    assert body["net"]["nodes"] == {"entry": 2, "middle": 6, "exit": 2}


async def test_status_tells_what_was_lost_and_which_nodes_are_left_out(api: Api) -> None:
    paths = (betanet.PathFigures(hops=5, tries=40, lost=3, round_trip_ms=150, loop_ms=None),)
    node = betanet.ExcludedNode("0f" * 32, tries=30, lost=20, expected=2, seconds_left=9.5)
    api.backbone.view = replace(api.backbone.view, paths=paths, excluded={node.id: node})

    async def told() -> bool:
        net = (await api.http.get("/api/v1/status")).json()["net"]
        return bool(
            net["paths"] == [{"hops": 5, "tries": 40, "lost": 3, "round_trip_ms": 150}]
            and net["excluded"] == [asdict(node)]
        )

    await api.until(told)


async def test_circuits_and_sessions_are_shown_without_what_would_let_anybody_use_them(
    api: Api,
) -> None:
    onion = api.services.get_service("onion_circuit")
    sessions = api.services.get_service("sessions")
    node = betanet.ExcludedNode("0f" * 32, tries=30, lost=20, expected=2, seconds_left=9.5)
    edge = betanet.OwnEdge("ab" * 32, True, False, "refused")
    api.backbone.fares = ClientHealth((edge,), None, 40, 3, 150, None, (node,))
    kept = await onion.create_circuit(PrivacyLevel.SECRET)
    await onion.send_through_circuit(kept, bytes(2000), PrivacyLevel.SECRET)
    token = await sessions.open(PrivacyLevel.SECRET, quota_bytes=9)

    levels = {
        level["level"]: level for level in (await api.http.get("/api/v1/circuits")).json()["levels"]
    }
    detail = (await api.http.get("/api/v1/circuits/secret")).json()
    listed = (await api.http.get("/api/v1/sessions")).json()["sessions"]
    status = (await api.http.get("/api/v1/status")).json()["circuits"]

    assert list(levels) == [level.value for level in PrivacyLevel]
    assert levels["public"]["client"] is None
    assert levels["public"]["sessions"] == 0
    secret = levels["secret"]
    assert (secret["sessions"], secret["by_token"], secret["made"], secret["hops"]) == (2, 1, 3, 7)
    assert secret["circuits"] == {"fresh": 2, "active": 1, "draining": 0, "closed": 0}
    assert (secret["bytes_sent"], secret["packets_sent"]) == (2000, 2)
    assert secret["client"]["edges"] == [asdict(edge)]
    assert secret["client"]["excluded"] == [asdict(node)]
    assert {**secret, "each": detail["each"]} == detail
    assert sorted(one["packets_sent"] for one in detail["each"]) == [0, 0, 2]
    assert status == {"secret": {"circuits": 3, "sessions": 2, "in_flight": 0}}
    assert [(one["level"], one["quota_bytes"]) for one in listed] == [("secret", 9)]
    assert token.partition(".")[2] not in str(listed)
    for path in ("circuits", "circuits/secret", "sessions"):
        assert (await api.stranger.get(f"/api/v1/{path}")).status_code == 401
    assert (await api.http.get("/api/v1/circuits/nosuch")).status_code == 422


async def test_status_says_who_is_wrong_about_the_time(api: Api) -> None:
    trouble = "this machine's clock is 30 d ahead of the network's: set it"
    api.backbone.view = replace(api.backbone.view, trouble=trouble)

    async def told() -> bool:
        body = (await api.http.get("/api/v1/status")).json()
        return trouble in body["net"]["warnings"]

    await api.until(told)


async def test_status_and_tasks_name_what_keeps_this_side_from_the_network(api: Api) -> None:
    """INV-TASK-36."""
    api.add_worker("a")
    api.backbone.cut_off("the clock of this machine is 31 days ahead")
    task = await api.create()

    async def said() -> bool:
        warnings = (await api.http.get("/api/v1/status")).json()["net"]["warnings"]
        return bool(warnings[0] == "the clock of this machine is 31 days ahead")

    await api.until(said)
    shown = (await api.http.get(f"/api/v1/tasks/{task['id']}")).json()

    assert shown["reason"] == "waiting: the clock of this machine is 31 days ahead"
    assert shown["tries"] == 0


async def test_task_with_an_unknown_blob_is_refused(api: Api) -> None:
    answer = await api.http.post("/api/v1/tasks", json={"module": "a" * 64})

    assert answer.status_code == 404
    assert "upload it first" in answer.json()["detail"]


class Counted:
    """A body that notes how much of it was taken."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.pieces):
            self.taken += 1
            yield bytes(500_000)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/json", None])
@pytest.mark.parametrize("chunked", [False, True])
async def test_too_large_a_body_is_refused_by_the_limit_of_its_route(
    api: Api, content_type: str | None, chunked: bool
) -> None:
    """INV-TASK-39, INV-API-22."""
    answer = await api.http.post(
        "/api/v1/blobs",
        content=Counted(3) if chunked else bytes(1_500_000),
        headers={} if content_type is None else {"content-type": content_type},
    )

    assert answer.status_code == 413
    problem = answer.json()
    assert problem["detail"] == (
        "the body is larger than 976.6 KiB, the limit of application/octet-stream for POST"
        " /api/v1/blobs (FOG_MAX_BODY_BYTES raises it)"
    )
    assert problem["limit_bytes"] == 1_000_000
    assert problem.get("content_type") == content_type
    assert problem["type"] == "urn:fog-compute:problem:too-large"


@pytest.mark.parametrize(
    ("content_type", "said"),
    [("text/csv; charset=x", "it came as text/csv; charset=x: a file goes to"), (None, "POST")],
)
async def test_file_that_is_sent_as_a_task_is_told_where_files_go(
    api: Api, content_type: str | None, said: str
) -> None:
    """INV-API-21, INV-API-22."""
    answer = await api.http.post(
        "/api/v1/tasks",
        content=Counted(3),
        headers={} if content_type is None else {"content-type": content_type},
    )

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]
    assert answer.json()["limit_bytes"] == 1024 * 1024


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain", None])
async def test_blob_is_taken_whatever_its_type_is_called(
    api: Api, content_type: str | None
) -> None:
    """INV-TASK-39."""
    answer = await api.http.post(
        "/api/v1/blobs",
        content=bytes(900_000),
        headers={} if content_type is None else {"content-type": content_type},
    )

    assert answer.status_code == 201


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/api/v1/tasks/x/cancel", "/health", "/nothing"])
async def test_no_content_type_lifts_the_limit_of_another_route(api: Api, path: str) -> None:
    """INV-TASK-39."""
    body = Counted(20)

    answer = await api.http.post(
        path, content=body, headers={"content-type": "application/octet-stream"}
    )

    assert answer.status_code in (404, 405, 413, 422)
    assert body.taken <= 5


@pytest.mark.parametrize("path", ["/api/v1/blobs", "/api/v1/tasks", "/nothing", "/api/v1/nothing"])
@pytest.mark.parametrize("token", [None, "Bearer wrong", "Basic x", "Bearer"])
async def test_nothing_is_read_for_who_has_no_token(api: Api, path: str, token: str | None) -> None:
    """INV-TASK-39."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("it was read")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"40000000")]
    headers += [] if token is None else [(b"authorization", token.encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
    }
    await api.app(scope, receive, send)

    assert sent[0]["status"] == 401
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize(
    ("bound", "asked", "status"),
    [
        ("::", "[::1]:8000", 401),
        ("::", "[fd00::1]:8000", 401),
        ("0.0.0.0", "192.0.2.7", 401),  # what a user may choose
        ("0.0.0.0", "127.0.0.1:8000", 401),
        ("0.0.0.0", "LOCALHOST:8000", 401),
        ("0.0.0.0", "evil.example", 400),
        ("127.0.0.1", "[::1]", 401),
        ("127.0.0.1", "192.0.2.7", 400),
        ("127.0.0.1", "evil.example", 400),
        ("127.0.0.1", "", 400),
    ],
)
async def test_the_interface_answers_under_the_addresses_that_it_is_bound_to(
    tmp_path: Path, bound: str, asked: str, status: int
) -> None:
    settings = Settings(home=tmp_path, host=bound, allow_remote=True)
    app = create_app(ServiceManager(settings, network=Backbone()))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.get("/openapi.json", headers={"host": asked})  # without a key

    assert answer.status_code == status


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"[]"])
async def test_malformed_json_is_a_problem(api: Api, body: bytes) -> None:
    answer = await api.http.post(
        "/api/v1/tasks", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/tasks/UPPER", "/api/v1/tasks/%00"])
async def test_unknown_path_is_a_problem(api: Api, path: str) -> None:
    answer = await api.http.get(path)

    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_foreign_host_name_is_refused(api: Api) -> None:
    answer = await api.stranger.get("/health", headers={"host": "evil.example"})

    assert answer.status_code == 400


async def test_every_answer_has_safe_headers(api: Api) -> None:
    for path in ("/health", "/nothing", "/api/v1/status"):
        headers = (await api.stranger.get(path)).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


async def test_tasks_survive_a_restart_of_the_backend(settings: Settings) -> None:
    backbone = Backbone()
    async with ServiceManager(settings, network=backbone) as services:
        store = services.get_service("store")
        sha256 = await store.blobs.put(b"\0asm")
        task = await services.get_service("fog_coordinator").submit(TaskSpec(module=sha256))
    async with ServiceManager(settings, network=backbone) as services:
        again = await services.get_service("store").tasks.get(task.id)

    assert again.id == task.id
    assert not again.state.final


async def test_service_is_real_or_says_why_not(settings: Settings) -> None:
    services = ServiceManager(settings, network=Backbone())
    with pytest.raises(ServiceUnavailable, match="onion_circuit is stopped: not started yet"):
        services.get_service("onion_circuit")
    with pytest.raises(NotFound, match="no service 'reactor'"):
        services.get_service("reactor")  # type: ignore[call-overload]  # what a caller may do
    async with services:
        assert isinstance(services.get_service("onion_circuit"), OnionCircuitService)
    with pytest.raises(ServiceUnavailable, match="stopped"):
        services.get_service("onion_circuit")


async def test_unreachable_network_is_waited_for_and_said(settings: Settings) -> None:
    class Away(Backbone):
        async def status(self) -> NetworkStatus:
            raise ServiceUnavailable("no edge answers")

    async with ServiceManager(settings, network=Away()) as services:
        async with asyncio.timeout(DEADLINE_S):
            while "no edge answers" not in services.health()[1].detail:
                await asyncio.sleep(0.01)

        with pytest.raises(ServiceUnavailable, match="betanet is starting: no edge answers"):
            services.get_service("betanet")
        assert not services.healthy


async def test_network_without_an_edge_is_not_ready(settings: Settings) -> None:
    backbone = Backbone()
    backbone.view = replace(backbone.view, edges_attached=0)
    async with ServiceManager(settings, network=backbone) as services:
        async with asyncio.timeout(DEADLINE_S):
            while "no edge answers" not in services.health()[1].detail:
                await asyncio.sleep(0.01)
        assert not services.healthy

        backbone.view = replace(backbone.view, edges_attached=1)
        async with asyncio.timeout(DEADLINE_S):
            await services.until_healthy()


async def test_worker_is_shown_with_the_beginning_of_its_key(api: Api) -> None:
    api.add_worker("w-" + "0123456789abcdef" * 4)

    async def listed() -> bool:
        return bool((await api.http.get("/api/v1/status")).json()["workers"])

    await api.until(listed)

    assert (await api.http.get("/api/v1/status")).json()["workers"][0]["name"] == "w-012345"


async def test_request_that_comes_again_makes_no_second_task(api: Api) -> None:
    """INV-TASK-24."""
    first = await api.create()
    task = {"module": first["module"]}

    async def ask(key: str, **more: object) -> httpx2.Response:
        return await api.http.post(
            "/api/v1/tasks", json=task | more, headers={"idempotency-key": key}
        )

    made, again = await asyncio.gather(ask("one"), ask("one"))
    later = await ask("one")

    assert {made.json()["id"], again.json()["id"], later.json()["id"]} == {made.json()["id"]}
    assert (await ask("two")).json()["id"] != made.json()["id"]
    assert len((await api.http.get("/api/v1/tasks")).json()["tasks"]) == 3
    other = await ask("one", argv=["x"])
    assert (other.status_code, "new key" in other.text) == (409, True)
    for bad in ("x" * 65, "a b"):
        assert (await ask(bad)).status_code == 422
