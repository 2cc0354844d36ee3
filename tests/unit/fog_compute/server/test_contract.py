"""The interface does what its description says, whatever is sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, cast

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as searching
from hypothesis.errors import Unsatisfiable
from pydantic import SecretStr
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fog_compute.config import Settings
from fog_compute.tasks import TaskResult
from tests.unit.fog_compute.server.conftest import Api, running_api

SEED: Final = 20_211
EXAMPLES: Final = 2
LONG_S: Final = float(os.environ.get("CONTRACT_SECONDS", "120"))
URL: Final = "http://127.0.0.1"

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Contract:
    """A backend in this process, and requests made from its description."""

    def __init__(self, runner: asyncio.Runner, api: Api, known: Mapping[str, str]) -> None:
        self._runner = runner
        self._api = api
        self._known = known
        self.asked: set[str] = set()
        self.answered: set[int] = set()

    @classmethod
    async def of(cls, runner: asyncio.Runner, api: Api) -> Contract:
        """One with a task that is over, which is asked for as often as those that do not exist."""
        worker = api.add_worker("a")
        task = await api.create(argv=["x"])

        async def started() -> bool:
            return bool(worker.attempts)

        await api.until(started)
        worker.finish(TaskResult(0, b"out", b"err", 10, 5, 65536))

        async def over() -> bool:
            return bool((await api.http.get(f"/api/v1/tasks/{task['id']}")).json()["final"])

        await api.until(over)
        return cls(runner, api, {"task_id": str(task["id"]), "level": "private"})

    def search(self, start: int, examples: int) -> None:
        """Ask each route for what fits its description, and for what does not."""
        load_all_checks()
        schema = schemathesis.openapi.from_dict(self._api.app.openapi())
        found = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
        for number, operation in enumerate(found):
            known = {
                name: value
                for name, value in self._known.items()
                if f"{{{name}}}" in operation.path
            }
            for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                for parameters in ({}, known) if known else ({},):
                    strategy = operation.as_strategy(mode, path_parameters=parameters or None)
                    self._ask(strategy, start + number, examples)

    def _ask(self, strategy: Any, start: int, examples: int) -> None:
        @seed(start)
        @searching(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def run(case: Case[Any]) -> None:
            self._send(self._api.http, case)
            self._send(self._api.stranger, case)

        with contextlib.suppress(
            Unsatisfiable
        ):  # a route that takes nothing can be asked rightly only
            run()

    def _send(self, client: httpx2.AsyncClient, case: Case[Any]) -> None:
        self.asked.add(case.operation.label)
        options = case.as_transport_kwargs(base_url=URL)
        known = {"method", "url", "headers", "params", "data", "json", "cookies"}
        prepared = requests.Request(
            **{name: value for name, value in options.items() if name in known}
        ).prepare()
        own = ("authorization", "host", "content-length")
        answer = self._runner.run(
            client.request(
                str(prepared.method),
                str(prepared.url),
                headers=[
                    (
                        name.encode("latin-1"),
                        value if isinstance(value, bytes) else value.encode("latin-1"),
                    )
                    for name, value in prepared.headers.items()
                    if name.lower() not in own
                ],
                content=cast("bytes | str | None", prepared.body),
            )
        )
        self.answered.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)


@contextlib.contextmanager
def contract_of(settings: Settings, **more: object) -> Iterator[Contract]:
    """The contract of a backend with these settings."""
    settings = settings.model_copy(update={"max_body_bytes": 5000, "max_wait_s": 0.01, **more})
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        api = runner.run(stack.enter_async_context(running_api(settings)))
        try:
            yield runner.run(Contract.of(runner, api))
        finally:
            runner.run(stack.aclose())


def test_answers_fit_their_description(settings: Settings) -> None:
    """INV-API-20."""
    with contract_of(settings) as contract:
        contract.search(SEED, EXAMPLES)

    assert {200, 201, 401, 404, 422} <= contract.answered
    assert len(contract.asked) >= 28


@pytest.mark.slow
@pytest.mark.timeout(LONG_S + 600)
def test_answers_fit_their_description_for_long(settings: Settings, database_url: str) -> None:
    """INV-API-20."""
    give_up = time.monotonic() + LONG_S
    start = random.randrange(2**32)
    with contract_of(settings, database_url=SecretStr(database_url)) as contract:
        while time.monotonic() < give_up:
            contract.search(start, 20)  # a failure prints the seed
            start += 1000
