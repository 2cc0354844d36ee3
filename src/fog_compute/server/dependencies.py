"""What route functions are given."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from fog_compute.server.services import ServiceManager

__all__ = ["Services"]


async def _services(request: Request) -> ServiceManager:
    services: ServiceManager = request.app.state.services
    return services


Services: TypeAlias = Annotated[ServiceManager, Depends(_services)]
