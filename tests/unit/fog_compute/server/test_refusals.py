"""What the HTTP interface does not take, and in which words it says so; and which task is meant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fog_compute.server.task_schemas import TaskIn
from tests.unit.fog_compute.modules import COMMAND
from tests.unit.fog_compute.server.conftest import Api

pytestmark = pytest.mark.asyncio

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "writing-a-task.md"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "`module` is missing"),
        ({"module": "x"}, "`module` is no SHA-256"),
        ({"module": "a" * 64, "privacy": "top"}, "`privacy` is none of 'public'"),
        ({"module": "a" * 64, "limits": {"wall_s": 0}}, "wall_s"),
        ({"module": "a" * 64, "limits": {"memory_bytes": 2**40}}, "memory_bytes"),
        ({"module": "a" * 64, "inputs": {"../x": "a" * 64}}, "../x"),
        ({"module": "a" * 64, "more": 1}, "`more` is no field that is known here"),
        ({"module": "a" * 64, "max_attempts": 0}, "max_attempts"),
        ({"module": "a" * 64, "argv": ["\0"]}, "argv"),
        ({"module": "a" * 64, "argv": ["x"] * 5000}, "`argv` has 5000 entries: at most 4096"),
        ({"module": "a" * 64, "argv": "x"}, "`argv` is no list"),
        ({"module": "a" * 64, "argv": ["x", 7]}, "`argv[1]` is no text"),
        ({"module": "a" * 64, "limits": {"fuel": "x"}}, "`limits.fuel` is no whole number"),
        ({"module": "a" * 64, "limits": {"fuel": 0}}, "`limits.fuel` is 0: give 1 to"),
        ({"module": "a" * 64, "limits": {"wall_s": []}}, "`limits.wall_s` is no number"),
        ({"module": "a" * 64, "limits": 3}, "`limits` is no object"),
        ({"module": "a" * 64, "group": "x" * 99}, "`group` is longer than 32 characters"),
    ],
)
async def test_impossible_task_is_refused_with_one_line(
    api: Api, body: dict[str, object], detail: str
) -> None:
    """INV-WORDS-03."""
    answer = await api.http.post("/api/v1/tasks", json=body)
    in_batch = await api.http.post(
        "/api/v1/tasks/batch", json={"tasks": [{"module": "a" * 64}, body]}
    )

    assert answer.status_code == in_batch.status_code == 422
    assert detail in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert "tasks[1]" in in_batch.json()["detail"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/api/v1/tasks?limit=0", "the query's `limit` is less than 1"),
        ("/api/v1/tasks?limit=x", "the query's `limit` is no whole number"),
        ("/api/v1/tasks?state=odd", "the query's `state` is none of"),
        ("/api/v1/tasks/X", "the `task_id` of the address is not 1 to 64 small letters"),
        ("/api/v1/events?since=1.5", "the query's `since` is no whole number"),
    ],
)
async def test_a_wrong_question_is_told_in_our_own_words(api: Api, path: str, detail: str) -> None:
    """INV-WORDS-03."""
    answer = await api.http.get(path)

    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)


async def test_a_body_that_is_no_description_is_told_in_our_own_words(api: Api) -> None:
    """INV-WORDS-03."""
    said = {}
    for body in (b"{", b"[]", b"7", b""):
        answer = await api.http.post(
            "/api/v1/tasks", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422
        said[body] = answer.json()["detail"]

    assert said[b"{"].startswith("the body is no JSON: ")
    assert "no object" in said[b"[]"]
    assert "no object" in said[b"7"]
    assert said[b""] == "the body is no object: give JSON, with content-type application/json"


async def test_task_that_no_worker_can_take_now_is_refused_unless_it_is_to_wait(api: Api) -> None:
    """INV-WORDS-09: alone, in a batch, and never what was made before under its key."""
    large = {"limits": {"memory_bytes": 3 * 2**30}}
    key = {"idempotency-key": "first"}
    module = (await api.http.post("/api/v1/blobs", content=COMMAND)).json()["sha256"]
    task = {"module": module, **large}
    before = await api.http.post("/api/v1/tasks", json=task, headers=key)
    assert before.status_code == 201  # no worker is known yet, so nothing of any
    api.add_worker("a")

    async def listed() -> bool:
        return bool(api.services.get_service("workers").workers())

    await api.until(listed)
    alone = await api.http.post("/api/v1/tasks", json=task)
    batch = [{"module": module}, task]
    both = await api.http.post("/api/v1/tasks/batch", json={"tasks": batch})
    for refused in (alone, both):
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:fog-compute:problem:no-worker"
        assert refused.json()["detail"] == (
            "no listed worker lends 3.0 GiB of memory at private, and the largest lends 1.0 GiB:"
            " lower `limits.memory_bytes`, or let it wait for one with `wait_for_worker`"
        )
    again = await api.http.post("/api/v1/tasks", json=task, headers=key)
    assert again.json()["id"] == before.json()["id"]
    assert len((await api.http.get("/api/v1/tasks")).json()["tasks"]) == 1

    waiting = {**task, "wait_for_worker": True}
    made = await api.http.post("/api/v1/tasks/batch", json={"tasks": [batch[0], waiting]})
    assert made.status_code == 201
    assert "lends 3.0 GiB of memory" in made.json()["warning"]


async def test_a_task_is_found_by_a_few_letters_of_its_id(api: Api) -> None:
    """INV-WORDS-01."""
    ids = [str((await api.create())["id"]) for _ in range(5)]
    newest = ids[::-1]

    async def meant(name: str) -> tuple[int, str]:
        answer = await api.http.get(f"/api/v1/tasks/named/{name}")
        body = answer.json()
        return answer.status_code, body["id" if answer.status_code == 200 else "detail"]

    assert [await meant(name) for name in ("@last", "@1", "@2", "@5")] == [
        (200, newest[at]) for at in (0, 0, 1, 4)
    ]
    for one in ids:
        end = next(n for n in range(1, 27) if sum(i.endswith(one[-n:]) for i in ids) == 1)
        assert await meant(one[-end - 3 :]) == (200, one)
        assert await meant(one) == (200, one)
    several = await meant(ids[0][:2])
    assert several[0] == 409
    assert several[1] == (
        f"ids of several tasks begin or end with {ids[0][:2]}: {', '.join(newest[:3])}, …: give"
        " more of one"
    )
    assert await meant("@6") == (
        404,
        "there are not so many tasks as @6 says: `fog task ls` shows those that are",
    )
    assert (await meant("uuuu"))[0] == 404
    for odd in ("@0", "@", "%", "_", "a%25", "A", "@1x", "x" * 27):
        assert (await meant(odd))[0] in (404, 422)


async def test_the_json_of_a_task_that_the_guide_shows_is_all_of_one_and_is_taken(api: Api) -> None:
    """INV-WORDS-08: and says the defaults as they are."""
    (shown,) = re.findall(r"^```json\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    module = (await api.http.post("/api/v1/blobs", content=COMMAND)).json()["sha256"]
    text = (await api.http.post("/api/v1/blobs", content=b"a text")).json()["sha256"]
    described = json.loads(
        shown.replace("SHA256-OF-THE-MODULE", module).replace("SHA256-OF-THE-TEXT", text)
    )
    answer = await api.http.post("/api/v1/tasks", json=described)

    assert answer.status_code == 201, answer.text
    assert described.keys() == TaskIn.model_fields.keys()
    plain = TaskIn(module=module).model_dump(mode="json")
    differing = {name for name in plain if plain[name] != described[name]}
    assert differing == {"argv", "inputs", "env"}
