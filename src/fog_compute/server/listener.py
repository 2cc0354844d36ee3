"""Connections in bounded number: whoever says nothing gives way to who comes.

asyncio's own listener accepts until there are no descriptors, complains once for each place in its
queue, and begins again a second later. This one counts its places, makes room by closing who has
been silent for longest, and otherwise leaves the newcomer in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fog_compute.observability import get_logger
from fog_compute.server.middleware import safe_headers

__all__ = ["BoundedServer", "Connection", "Listener", "Places", "places_for"]

_log = get_logger("fog_compute.server")

HEAD_S: Final = 10.0
"""Time for the head of a request, from the connection or from its first byte."""

READ_S: Final = 10.0
"""How long somebody with a WebSocket may read nothing of what is due."""

MOST_PLACES: Final = 2048
FEWEST_PLACES: Final = 4
RESERVE: Final = 128
"""Descriptors for all else: the database, files, and the links to the network's edges."""

ACCEPTED_AT_ONCE: Final = 16
REFUSED_PAUSE_S: Final = 1.0


def places_for(descriptors: int) -> int:
    """How many connections there may be under a limit of descriptors."""
    return max(FEWEST_PLACES, min(MOST_PLACES, (descriptors - RESERVE) // 2))


class Guest(Protocol):
    """Whoever has a place."""

    def leave(self) -> None:
        """Go at once, because somebody else comes."""
        ...


class Places:
    """The connections that are open, and which of them owe a request, longest first."""

    __slots__ = ("_open", "_owing", "most", "on_free")

    def __init__(self, most: int) -> None:
        """Have room for ``most``."""
        self.most: Final = most
        self.on_free: Callable[[], None] = lambda: None
        self._open: Final[set[Guest]] = set()
        self._owing: Final[dict[Guest, None]] = {}

    def room(self) -> bool:
        """Whether one more may come; who has been silent for longest goes for it."""
        if len(self._open) < self.most:
            return True
        if self._owing:
            silent = next(iter(self._owing))
            self.left(silent)
            silent.leave()
            return True
        return False

    def came(self, connection: Guest) -> None:
        """A connection was accepted, and owes a request."""
        self._open.add(connection)
        self._owing[connection] = None

    def asked(self, connection: Guest) -> None:
        """A request is whole: it is served before anybody needs its place."""
        self._owing.pop(connection, None)

    def answered(self, connection: Guest) -> None:
        """It said something, and owes the rest of a request or the next; it is the last to go."""
        if connection in self._open:
            self._owing.pop(connection, None)
            self._owing[connection] = None

    def left(self, connection: Guest) -> None:
        """The connection is gone."""
        self._owing.pop(connection, None)
        if connection in self._open:
            self._open.remove(connection)
            self.on_free()


class Connection(H11Protocol):
    """A connection that must say in time what it wants."""

    def __init__(self, places: Places, *more: Any, **named: Any) -> None:
        super().__init__(*more, **named)
        self._places: Final = places
        self._head_timer: asyncio.TimerHandle | None = None
        self._upgraded = False
        if self.ws_protocol_class is not None:
            self.ws_protocol_class = partial(Upgraded, lambda: places.left(self))  # type: ignore[assignment]  # it is called, and nothing else

    def leave(self) -> None:
        """Close without a word."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a place; the time for the first request begins."""
        super().connection_made(transport)
        self._places.came(self)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place up."""
        self._stop_waiting()
        self._places.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; who began a head must end it."""
        super().data_received(data)
        if self._upgraded:
            return
        if self._asking():
            self._stop_waiting()
            self._stand()
        elif self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; it keeps its place until it is lost."""
        self._upgraded = True
        self._stop_waiting()
        self._places.asked(self)
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer to what is no HTTP, with the headers of all answers."""
        secure = self.scheme == "https"
        headers = [(name.encode(), value.encode()) for name, value in safe_headers(secure=secure)]
        self.transport.write(
            self.conn.send(
                h11.Response(
                    status_code=HTTPStatus.BAD_REQUEST,
                    reason=HTTPStatus.BAD_REQUEST.phrase.encode(),
                    headers=[
                        (b"content-type", b"text/plain; charset=utf-8"),
                        (b"connection", b"close"),
                        *headers,
                    ],
                )
            )
            + self.conn.send(h11.Data(data=msg.encode("ascii")))
            + self.conn.send(h11.EndOfMessage())
        )
        self.transport.close()

    def on_response_complete(self) -> None:
        """A request is over; one that came behind it may have begun already."""
        super().on_response_complete()
        self._stand()

    def pause_writing(self) -> None:
        """Whoever does not read its answers gives way, too."""
        super().pause_writing()
        self._places.answered(self)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._stand()

    def _stand(self) -> None:
        """Keep the place while the answer is due; what a request still owes is its body, too.

        Each piece of it counts as a word, so that of many bodies the silent ones give way.
        """
        if self._asking() and not self.cycle.more_body:
            self._places.asked(self)
        else:
            self._places.answered(self)

    def _asking(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Upgraded(WebSocketsSansIOProtocol):
    """A connection that became a WebSocket. Whoever does not read what it gets is cut off."""

    def __init__(self, on_lost: Callable[[], None], **named: Any) -> None:
        """``on_lost`` is called when the connection is over."""
        super().__init__(**named)
        self._on_lost: Final = on_lost
        self._stuck: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place up."""
        self.resume_writing()
        super().connection_lost(exc)
        self._on_lost()

    async def send(self, message: Any) -> None:
        """Take what the application says; a refusal that is said whole is no fault of it."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # or each stranger's try would be a line in the log

    def pause_writing(self) -> None:
        """The other side does not read; it has a while to catch up."""
        super().pause_writing()
        self._stuck = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class Handshake:
    """A connection that has a place and no protocol yet, because TLS comes first."""

    def __init__(self) -> None:
        """Its task is not begun yet."""
        self.task: asyncio.Task[object] | None = None

    def leave(self) -> None:
        """Close without a word."""
        if self.task is not None:
            self.task.cancel()


class Listener:
    """Accepts connections as long as there are places.

    Attributes:
        tls: encrypts what is accepted from now on; None from first to last, or never.
    """

    def __init__(
        self,
        listening: socket.socket,
        places: Places,
        protocol: Callable[[], Connection],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Begin to accept on a socket that listens."""
        self.tls = tls
        self._socket: Final = listening
        self._places: Final = places
        self._protocol: Final = protocol
        self._loop: Final = asyncio.get_running_loop()
        self._opening: Final[set[asyncio.Task[object]]] = set()
        self._accepting = False
        self._told = False
        self._closed = False
        listening.setblocking(False)
        places.on_free = self._resume
        self._resume()

    def close(self) -> None:
        """Accept no more; whoever has not come as far as a request is sent away."""
        self._pause()
        self._closed = True
        if self.tls is not None:
            for task in self._opening:
                task.cancel()

    async def wait_closed(self) -> None:
        """Return once what was accepted has its protocol."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _resume(self) -> None:
        if not (self._accepting or self._closed):
            self._accepting = True
            self._loop.add_reader(self._socket, self._accept)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._socket)

    def _accept(self) -> None:
        # Whoever does not go on with TLS has a place, and holds nobody else up.
        opening = 0 if self.tls else len(self._opening)
        for _ in range(ACCEPTED_AT_ONCE - opening):
            if not self._places.room():
                self._pause()
                return
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._put_off(error)
                return
            self._told = False
            accepted.setblocking(False)
            if self.tls is None:
                self._begin(self._open(accepted))
            else:
                handshake = Handshake()
                self._places.came(handshake)
                handshake.task = self._begin(self._secure(accepted, handshake, self.tls))

    def _begin(self, work: Coroutine[object, object, None]) -> asyncio.Task[object]:
        task: asyncio.Task[object] = self._loop.create_task(work)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _open(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except OSError:  # it left already
            accepted.close()

    async def _secure(
        self, accepted: socket.socket, handshake: Handshake, tls: ssl.SSLContext
    ) -> None:
        """Let a connection have its protocol once it is encrypted."""
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=HEAD_S,
                ssl_shutdown_timeout=HEAD_S,
            )
        except OSError:  # it left, was too slow, or does not speak TLS
            accepted.close()
        finally:
            self._places.left(handshake)

    def _put_off(self, error: OSError) -> None:
        """Leave who waits in the kernel's queue for a moment; say so once.

        Most often there are no descriptors; whatever it is, asking again at once would not help.
        """
        if not self._told:
            self._told = True
            _log.warning("connections.put_off", reason=error.strerror)
        self._pause()
        self._loop.call_later(REFUSED_PAUSE_S, self._resume)


class BoundedServer(uvicorn.Server):
    """A server that has bounded places, and says when it begins to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_stop: Callable[[], None],
        *,
        places: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Call ``on_stop`` once no new connection is taken, before those that are here end."""
        super().__init__(config)
        self._on_stop: Final = on_stop
        self._places: Final = Places(places)
        self._tls = tls

    def renew(self, tls: ssl.SSLContext) -> None:
        """Encrypt with another certificate what is accepted from now on."""
        self._tls = tls
        for listener in getattr(self, "servers", []):
            listener.tls = tls

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._on_stop()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise SystemExit(1)
        self.servers = [
            Listener(listening, self._places, self._connection, self._tls)  # type: ignore[misc]  # closes and waits as asyncio's does
            for listening in sockets or []
        ]
        self.started = True

    def _connection(self) -> Connection:
        return Connection(
            self._places,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
