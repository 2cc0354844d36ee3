"""What each route needs of who asks: the one table, for the gate, the description and the tests.

A route that is not in it is only for `Scope.ADMIN`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.routing import compile_path

from fog_compute.scopes import Scope, enough

__all__ = [
    "ANY_KEY",
    "COOKIE",
    "COOKIE_UNDER_TLS",
    "CSRF_HEADER",
    "LOGIN",
    "OPEN",
    "ROUTES",
    "SOCKETS",
    "SUBPROTOCOL",
    "TOKEN_PREFIX",
    "Route",
    "add_security",
    "find",
    "methods_of",
    "scope_of",
]

Route = tuple[str, str]
"""A method, and a path as it is written in the code."""

LOGIN: Final = "/api/v1/login"
CSRF_HEADER: Final = "x-csrf-token"
COOKIE: Final = "fog_session"
COOKIE_UNDER_TLS: Final = f"__Host-{COOKIE}"

OPEN: Final[frozenset[Route]] = frozenset({("GET", "/health"), ("POST", LOGIN)})
"""For everybody: the verdict, and where a key is given for a cookie."""

ANY_KEY: Final[frozenset[Route]] = frozenset({("GET", LOGIN), ("DELETE", LOGIN)})
"""For every key, whatever its scopes."""

ROUTES: Final[Mapping[Route, Scope]] = {
    ("GET", "/ready"): Scope.READ,
    ("GET", "/metrics"): Scope.METRICS,
    ("GET", "/openapi.json"): Scope.READ,
    ("HEAD", "/openapi.json"): Scope.READ,
    ("GET", "/api/v1/status"): Scope.READ,
    ("POST", "/api/v1/blobs"): Scope.SUBMIT,
    ("GET", "/api/v1/tasks"): Scope.READ,
    ("POST", "/api/v1/tasks"): Scope.SUBMIT,
    ("POST", "/api/v1/tasks/batch"): Scope.SUBMIT,
    ("GET", "/api/v1/tasks/named/{name}"): Scope.READ,
    ("GET", "/api/v1/tasks/{task_id}"): Scope.READ,
    ("POST", "/api/v1/tasks/{task_id}/cancel"): Scope.SUBMIT,
    ("GET", "/api/v1/tasks/{task_id}/stdout"): Scope.READ,
    ("GET", "/api/v1/tasks/{task_id}/stderr"): Scope.READ,
    ("GET", "/api/v1/tasks/{task_id}/files"): Scope.READ,
    ("GET", "/api/v1/tasks/{task_id}/files/{path:path}"): Scope.READ,
    ("GET", "/api/v1/events"): Scope.READ,
    ("GET", "/api/v1/circuits"): Scope.READ,
    ("GET", "/api/v1/circuits/{level}"): Scope.READ,
    ("GET", "/api/v1/sessions"): Scope.READ,
    ("POST", "/api/v1/sessions"): Scope.SUBMIT,
    ("GET", "/api/v1/sessions/{session_id}"): Scope.READ,
    ("DELETE", "/api/v1/sessions/{session_id}"): Scope.SUBMIT,
    ("GET", "/api/v1/workers"): Scope.READ,
    ("GET", "/api/v1/workers/{name}"): Scope.READ,
    ("GET", "/api/v1/nodes"): Scope.READ,
    ("GET", "/api/v1/nodes/{node_id}"): Scope.READ,
    ("GET", "/api/v1/services"): Scope.READ,
    ("GET", "/api/v1/services/{name}"): Scope.READ,
    ("POST", "/api/v1/services/{name}/restart"): Scope.OPERATE,
    ("GET", "/api/v1/chat"): Scope.CHAT,
    ("GET", "/api/v1/chat/messages"): Scope.CHAT,
    ("POST", "/api/v1/chat/messages"): Scope.CHAT,
    ("GET", "/api/v1/chat/messages/{sender}/{message_id}"): Scope.CHAT,
    ("POST", "/api/v1/chat/cancel"): Scope.CHAT,
    ("POST", "/api/v1/chat/read"): Scope.CHAT,
    ("GET", "/api/v1/chat/events"): Scope.CHAT,
    ("GET", "/api/v1/chat/groups"): Scope.CHAT,
    ("POST", "/api/v1/chat/groups"): Scope.CHAT,
    ("POST", "/api/v1/chat/groups/{group_id}"): Scope.CHAT,
    ("DELETE", "/api/v1/chat/groups/{group_id}"): Scope.CHAT,
    ("GET", "/api/v1/chat/near"): Scope.CHAT,
    ("GET", "/api/v1/chat/trace/{fingerprint}"): Scope.CHAT,
    ("POST", "/api/v1/chat/wipe"): Scope.ADMIN,
    ("GET", "/api/v1/peers"): Scope.CHAT,
    ("POST", "/api/v1/peers"): Scope.CHAT,
    ("GET", "/api/v1/peers/find"): Scope.CHAT,
    ("GET", "/api/v1/peers/{fingerprint}"): Scope.CHAT,
    ("DELETE", "/api/v1/peers/{fingerprint}"): Scope.CHAT,
    ("POST", "/api/v1/peers/{fingerprint}/verify"): Scope.CHAT,
    ("POST", "/api/v1/peers/{fingerprint}/block"): Scope.CHAT,
    ("POST", "/api/v1/peers/{fingerprint}/name"): Scope.CHAT,
    ("GET", "/api/v1/keys"): Scope.ADMIN,
    ("POST", "/api/v1/keys"): Scope.ADMIN,
    ("DELETE", "/api/v1/keys/{key_id}"): Scope.ADMIN,
}

SOCKETS: Final[Mapping[str, Scope]] = {"/api/v1/chat/link": Scope.CHAT}
"""The WebSockets: a path, and what it needs. No description has them: OpenAPI knows none."""

SUBPROTOCOL: Final = "bitchat"
TOKEN_PREFIX: Final = "token."  # noqa: S105 - what stands in front of one
"""A page cannot set a header of a WebSocket, so its key may be one of the subprotocols."""

_SCHEMES: Final[Mapping[str, Mapping[str, str]]] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or the contents of daemon/token in the home folder.",
    },
    "login": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"What POST {LOGIN} sets; `{COOKIE_UNDER_TLS}` under TLS.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": f"Beside the cookie, where a request changes something: see GET {LOGIN}.",
    },
}
"""How a request says who asks, as OpenAPI has it."""

_PATHS: Final = tuple({path: None for _, path in (*ROUTES, *ANY_KEY, *OPEN)})
_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (compile_path(path)[0], path) for path in _PATHS if "{" in path
)
_LITERAL: Final = frozenset(path for path in _PATHS if "{" not in path)
_METHODS: Final[Mapping[str, frozenset[str]]] = {
    path: frozenset(method for method, known in (*ROUTES, *ANY_KEY, *OPEN) if known == path)
    for path in _PATHS
}


def methods_of(path: str) -> frozenset[str]:
    """Return the methods that a path of the table takes."""
    return _METHODS.get(path, frozenset())


def find(path: str) -> str | None:
    """Return a requested path as it is written in the table, or None."""
    if path in _LITERAL:
        return path
    return next((written for pattern, written in _PATTERNS if pattern.match(path)), None)


def scope_of(route: Route) -> Scope | None:
    """Return the scope that a route needs, or None where any key will do."""
    return None if route in ANY_KEY else ROUTES.get(route, Scope.ADMIN)


def add_security(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document what each route needs: any one of its entries is enough."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    # A path in the document has no converters.
    written = {re.sub(r":\w+}", "}", path): path for path in _PATHS}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = (method.upper(), written.get(path, path))
            operation["security"] = [{}] if route in OPEN else _security(route)


def _security(route: Route) -> list[dict[str, list[str]]]:
    scope = scope_of(route)
    ways: list[dict[str, list[str]]] = []
    for roles in [[]] if scope is None else [[str(one)] for one in enough(scope)]:
        by_cookie: dict[str, list[str]] = {"login": roles}
        if route[0] not in {"GET", "HEAD"}:
            by_cookie["csrf"] = []
        ways += [{"key": roles}, by_cookie]
    return ways
