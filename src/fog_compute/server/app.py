"""The application factory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Final

from fastapi import FastAPI
from starlette.middleware import Middleware

import fog_compute
from fog_compute.p2p.core.messages import MAX_BODY_BYTES
from fog_compute.p2p.mobile.web_links import WebLinks
from fog_compute.server.auth import load_or_make_token
from fog_compute.server.bodies import BYTES, JSON, BodyLimit
from fog_compute.server.callers import Callers
from fog_compute.server.details import Details
from fog_compute.server.feed import Feed
from fog_compute.server.gate import Gate
from fog_compute.server.gathering import Gathering
from fog_compute.server.home import name_of_home
from fog_compute.server.loop_lag import LoopLag
from fog_compute.server.metrics_key import keep_metrics_key
from fog_compute.server.middleware import Counting
from fog_compute.server.openapi import ALWAYS, FogApi, operation_id
from fog_compute.server.problems import install_problems
from fog_compute.server.rates import Rates
from fog_compute.server.routers import (
    chat,
    circuits,
    events,
    keys,
    link,
    login,
    network,
    peers,
    sessions,
    system,
    tasks,
)
from fog_compute.server.routers import (
    services as own_services,
)
from fog_compute.server.services import ServiceManager
from fog_compute.server.shared_counts import shared_counts
from fog_compute.server.stopping import Stopping

__all__ = ["create_app"]

SMALL_BYTES: Final = 1024
JSON_BYTES: Final = 1024 * 1024
BATCH_BYTES: Final = 8 * JSON_BYTES
CHAT_BYTES: Final = 128 * 1024
MESSAGE_BYTES: Final = MAX_BODY_BYTES * 4 // 3 + CHAT_BYTES  # a file is in base64
LISTENERS: Final = 1024


def create_app(
    services: ServiceManager,
    *,
    listeners: int = LISTENERS,
    names: Callable[[], frozenset[str]] = frozenset,
    certificate_ends: Callable[[], datetime | None] = lambda: None,
    on_ready: Callable[[], None] = lambda: None,
    on_failure: Callable[[Exception], None] = lambda _: None,
) -> FastAPI:
    """Build the application; its lifespan starts and stops ``services``.

    Args:
        services: what the routes use; not started yet.
        listeners: how many may listen to events at a time.
        names: gives those under which it is asked, beside its addresses.
        certificate_ends: gives the moment at which its certificate expires; None without TLS.
        on_ready: called when all services are up.
        on_failure: called with what kept them, or ``on_ready``, from it.
    """
    settings = services.settings
    rates = Rates(settings.rate_limit, services.clock)
    feed = Feed(lambda: services.get_service("store").events, services.clock, listeners)
    lag = LoopLag(asyncio.sleep, time.monotonic)

    async def browsers() -> WebLinks | None:
        return (await services.get_service("messaging").people()).browsers

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                token = load_or_make_token(settings.layout.token_file)
                if settings.redis_url is not None:
                    url = settings.redis_url.get_secret_value()
                    rates.share(await stack.enter_async_context(shared_counts(url)))
                await stack.enter_async_context(services)
                await stack.enter_async_context(feed.running(services.unless_stopping))
                callers = await stack.enter_async_context(
                    Callers(token, lambda: services.get_service("store").keys, services.clock)
                )
                if (file := settings.metrics_key_file) is not None:
                    home = name_of_home(settings.layout.backend_file)
                    await keep_metrics_key(file, callers, services.clock, home)
                app.state.callers = callers
                await stack.enter_async_context(lag.watched())
                on_ready()
            except Exception as error:
                on_failure(error)
                raise
            yield

    app = FogApi(
        title="fog-compute",
        summary="Run computations on other people's idle machines privately.",
        version=fog_compute.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        responses=ALWAYS,
        middleware=[
            Middleware(Stopping, stopping=lambda: services.stopping),
            Middleware(Counting, metrics=services.metrics.http),
            Middleware(
                Gate,
                bound=settings.host,
                names=names,
                rates=rates,
                bodies={
                    ("POST", "/api/v1/blobs"): BodyLimit(
                        settings.max_body_bytes, BYTES, "FOG_MAX_BODY_BYTES"
                    ),
                    ("POST", "/api/v1/tasks"): BodyLimit(JSON_BYTES, JSON),
                    ("POST", "/api/v1/tasks/batch"): BodyLimit(BATCH_BYTES, JSON),
                    ("POST", "/api/v1/keys"): BodyLimit(SMALL_BYTES, JSON),
                    ("POST", "/api/v1/chat/messages"): BodyLimit(MESSAGE_BYTES, JSON),
                    ("POST", "/api/v1/chat/cancel"): BodyLimit(CHAT_BYTES, JSON),
                    ("POST", "/api/v1/chat/read"): BodyLimit(CHAT_BYTES, JSON),
                    ("POST", "/api/v1/chat/groups"): BodyLimit(CHAT_BYTES, JSON),
                    ("POST", "/api/v1/chat/groups/{group_id}"): BodyLimit(CHAT_BYTES, JSON),
                    ("POST", "/api/v1/chat/wipe"): BodyLimit(SMALL_BYTES, JSON),
                    ("POST", "/api/v1/peers"): BodyLimit(CHAT_BYTES, JSON),
                    ("POST", "/api/v1/peers/{fingerprint}/verify"): BodyLimit(SMALL_BYTES, JSON),
                    ("POST", "/api/v1/peers/{fingerprint}/block"): BodyLimit(SMALL_BYTES, JSON),
                    ("POST", "/api/v1/peers/{fingerprint}/name"): BodyLimit(SMALL_BYTES, JSON),
                    ("POST", "/api/v1/login"): BodyLimit(SMALL_BYTES, JSON),
                },
            ),
        ],
    )
    app.state.services = services
    app.state.feed = feed
    app.state.gathering = Gathering(services, feed, lag, certificate_ends)
    app.state.details = Details()
    app.state.rates = rates
    app.state.browsers = browsers
    install_problems(app)
    app.include_router(tasks.router, prefix="/api/v1")
    app.include_router(events.router, prefix="/api/v1")
    app.include_router(network.router, prefix="/api/v1")
    app.include_router(sessions.router, prefix="/api/v1")
    app.include_router(own_services.router, prefix="/api/v1")
    app.include_router(circuits.router, prefix="/api/v1")
    app.include_router(chat.router, prefix="/api/v1")
    app.include_router(peers.router, prefix="/api/v1")
    app.include_router(system.router, prefix="/api/v1")
    app.include_router(link.router, prefix="/api/v1")
    app.include_router(keys.router, prefix="/api/v1")
    app.include_router(login.router, prefix="/api/v1")
    app.include_router(system.open_router)
    return app
