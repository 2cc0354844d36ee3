"""What route functions are given."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends, Header, Request

from fog_compute.server.callers import Callers
from fog_compute.server.details import Details
from fog_compute.server.feed import Feed
from fog_compute.server.forms import VISIBLE_ASCII
from fog_compute.server.gathering import Gathering
from fog_compute.server.rates import Rates
from fog_compute.server.services import ServiceManager

__all__ = ["IdempotencyKey", "Listening", "Services", "TaskDetails", "TheCallers", "TheRates"]


async def _services(request: Request) -> ServiceManager:
    services: ServiceManager = request.app.state.services
    return services


async def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


async def _gathering(request: Request) -> Gathering:
    gathering: Gathering = request.app.state.gathering
    return gathering


async def _details(request: Request) -> Details:
    details: Details = request.app.state.details
    return details


async def _callers(request: Request) -> Callers:
    callers: Callers = request.app.state.callers
    return callers


async def _rates(request: Request) -> Rates:
    rates: Rates = request.app.state.rates
    return rates


Services: TypeAlias = Annotated[ServiceManager, Depends(_services)]
Listening: TypeAlias = Annotated[Feed, Depends(_feed)]
TheGathering: TypeAlias = Annotated[Gathering, Depends(_gathering)]
TaskDetails: TypeAlias = Annotated[Details, Depends(_details)]
TheCallers: TypeAlias = Annotated[Callers, Depends(_callers)]
TheRates: TypeAlias = Annotated[Rates, Depends(_rates)]

IdempotencyKey: TypeAlias = Annotated[
    str | None,
    Header(
        pattern=VISIBLE_ASCII,
        description="A random name for this request: sent again, it makes nothing a second time.",
    ),
]
