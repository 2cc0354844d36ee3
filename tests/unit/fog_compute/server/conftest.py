"""The whole backend over an in-memory network, asked through its ASGI interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI

import betanet
from fog_compute.config import Settings
from fog_compute.levels import PrivacyLevel
from fog_compute.server.app import create_app
from fog_compute.server.services import ServiceManager
from fog_compute.tasks.keyring import KeyringFile
from fog_compute.testing import MemoryNetwork
from fog_compute.testing.mixnet import MemoryMixnet, MemoryMixnetClient
from fog_compute.vpn.network import NetworkStatus
from tests.members import MEMBERS
from tests.unit.fog_compute.coordinator.scripted import Channels, Directory, ScriptedWorker
from tests.unit.fog_compute.modules import COMMAND

DEADLINE_S = 20.0


def listed(*nodes: betanet.Node) -> betanet.Consensus:
    """A consensus in force that lists these nodes."""
    return betanet.Consensus("test", 7, 2, 1_000, 2_000, 3_500, True, nodes)


class Backbone(Channels, Directory):
    """A network in memory with a list of workers and a view of its nodes."""

    def __init__(self, mixnet: MemoryMixnet | None = None, person: str = "me") -> None:
        self.memory = MemoryNetwork()
        self.messages = (mixnet or MemoryMixnet()).service(person)
        self.left: list[tuple[PrivacyLevel, str]] = []
        Channels.__init__(self, self.memory)
        Directory.__init__(self)
        self.view = NetworkStatus("test", 1, {"entry": 2, "middle": 6, "exit": 2}, True, 15.0, 2)

        self.listed: betanet.Consensus | None = listed()

    async def client(self, level: PrivacyLevel, owner: str = "") -> MemoryMixnetClient:
        return await self.messages.client(level, owner)

    async def leave(self, level: PrivacyLevel, owner: str) -> None:
        self.left.append((level, owner))
        await super().leave(level, owner)

    async def status(self) -> NetworkStatus:
        return self.view

    def consensus(self) -> betanet.Consensus | None:
        return self.listed

    async def close(self) -> None:
        pass


@dataclass
class Api:
    """A backend under test.

    Attributes:
        app: the application itself.
        http: sends the token.
        stranger: sends none.
    """

    services: ServiceManager
    backbone: Backbone
    app: FastAPI
    http: httpx2.AsyncClient
    stranger: httpx2.AsyncClient
    jobs: list[asyncio.Task[None]] = field(default_factory=list)

    def add_worker(self, name: str) -> ScriptedWorker:
        worker = ScriptedWorker(name, self.backbone.memory.channel(f"worker-{name}"))
        self.backbone.offers.append(worker.offer)
        self.jobs.append(asyncio.create_task(worker.run()))
        return worker

    async def create(self, **task: object) -> dict[str, object]:
        blob = await self.http.post(
            "/api/v1/blobs",
            content=COMMAND,
            headers={"content-type": "application/octet-stream"},
        )
        made = await self.http.post("/api/v1/tasks", json={"module": blob.json()["sha256"], **task})
        assert made.status_code == 201, made.text
        body: dict[str, object] = made.json()
        return body

    async def until(self, met: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not await met():
                await asyncio.sleep(0.01)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(
        home=tmp_path,
        worker_refresh_s=0.05,
        max_body_bytes=1_000_000,
        request_timeout_s=1.0,
        chat_ble=False,
    )
    KeyringFile(made.layout.groups_file).write(MEMBERS)
    return made


@pytest_asyncio.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with running_api(settings) as made:
        yield made


@asynccontextmanager
async def running_api(settings: Settings, backbone: Backbone | None = None) -> AsyncIterator[Api]:
    """A backend with these settings, over a network in memory."""
    backbone = backbone or Backbone()
    services = ServiceManager(settings, network=backbone)
    app = create_app(services)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        token = settings.layout.token_file.read_text()
        base = "http://127.0.0.1"
        async with (
            httpx2.AsyncClient(
                transport=transport, base_url=base, headers={"authorization": f"Bearer {token}"}
            ) as http,
            httpx2.AsyncClient(transport=transport, base_url=base) as stranger,
        ):
            made = Api(services, backbone, app, http, stranger)

            await services.until_healthy()
            yield made
            for job in made.jobs:
                job.cancel()
            await asyncio.gather(*made.jobs, return_exceptions=True)
