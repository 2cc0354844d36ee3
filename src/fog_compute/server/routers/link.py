"""Browsers in the mesh: the one WebSocket of the backend."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketState

from fog_compute.errors import FogError
from fog_compute.p2p.core.transport import TransportUnavailable
from fog_compute.p2p.mobile.web_links import WebLinks
from fog_compute.server import access
from fog_compute.server.problems import problem

__all__ = ["router"]

GOING_AWAY: Final = 1001

router = APIRouter()


class _Socket:
    """A `fog_compute.p2p.mobile.web_links.Socket`."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket: Final = socket

    async def receive(self) -> bytes | str | None:
        """Wait for the next message; None once the other side is gone."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        data: bytes | str | None = message.get("bytes")
        return data if data is not None else str(message.get("text", ""))

    async def send(self, data: bytes) -> bool:
        """Send a binary message, and say whether the other side was there."""
        try:
            await self._socket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError):  # it went while this was written
            return False
        return True

    async def close(self, reason: str) -> None:
        """Close, and say why."""
        if self._socket.client_state is WebSocketState.CONNECTED:
            await self._socket.close(GOING_AWAY, reason)


@router.websocket("/chat/link")
async def join_the_mesh(socket: WebSocket) -> None:
    """Let a browser take part in the mesh: each binary message is a packet, either way."""
    try:
        links: WebLinks | None = await socket.app.state.browsers()
        if links is None:
            raise TransportUnavailable("there is no mesh to join: FOG_CHAT_BLE is off")
        links.check_room()
    except FogError as error:
        answer = problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        await socket.send_denial_response(answer)
        return
    offered = socket.scope["subprotocols"]
    await socket.accept(access.SUBPROTOCOL if access.SUBPROTOCOL in offered else None)
    await links.join(_Socket(socket))
