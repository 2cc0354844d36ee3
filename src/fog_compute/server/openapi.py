"""The description of the HTTP interface in OpenAPI 3.1: names, problems, and what is not JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp

from fog_compute.server.access import add_security
from fog_compute.server.bodies import BYTES
from fog_compute.server.middleware import SafeHeaders
from fog_compute.server.problem_types import NOT_FOUND, PROBLEMS
from fog_compute.server.problems import MEDIA_TYPE

__all__ = ["ALWAYS", "GIVES_BYTES", "FogApi", "answers", "operation_id"]

Answers: TypeAlias = dict[int | str, dict[str, Any]]

TAGS: Final = {
    "tasks": "Work for other people's machines: upload, submit, follow, fetch.",
    "events": "What happens to tasks, in one sequence of growing numbers.",
    "network": "Workers, nodes, circuits and sessions, as this backend sees them.",
    "chat": "Messages between people, and whom one knows; only for keys with the scope `chat`.",
    "keys": "Who may ask, and what that allows.",
    "login": "A key for a cookie, as browsers need it.",
    "system": "The backend itself: its services, its health, its metrics.",
}
ABOUT: Final = """\
Every refusal is a problem (RFC 9457) whose `type` is one of those listed in `Problem`.
Times are UTC in ISO 8601, sizes are bytes, durations are seconds unless the name says otherwise.
A request that makes tasks or a key takes an `idempotency-key`: sent again, it makes none twice.
"""


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": NOT_FOUND.uri,
                    "title": NOT_FOUND.title,
                    "status": NOT_FOUND.status,
                    "detail": "there is no task 01kb3f2m5w8q",
                }
            ]
        }
    )

    type: str = Field(
        description="The kind of problem: what a program decides by.",
        json_schema_extra={"enum": [kind.uri for kind in PROBLEMS]},
    )
    title: str = Field(description="What all problems of the kind have in common.")
    status: int = Field(description="The status of the answer.")
    detail: str = Field(description="One line: what happened to what, and what to do.")
    needed: int | None = Field(None, description="Nodes that the privacy level needs.")
    available: int | None = Field(None, description="Nodes that there are for it.")
    limit_bytes: int | None = Field(None, description="The largest body that the route takes.")
    content_type: str | None = Field(None, description="As what the body came.")


class FogApi(FastAPI):
    """The application, with a description that names each problem and each content type."""

    def build_middleware_stack(self) -> ASGIApp:
        """Give safe headers to what answers for crashes, too: it is around all other middleware."""
        return SafeHeaders(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        """Describe all routes; made once."""
        if not self.openapi_schema:
            made = get_openapi(
                title=self.title,
                version=self.version,
                summary=self.summary,
                description=ABOUT,
                routes=self.routes,
                tags=[{"name": name, "description": text} for name, text in TAGS.items()],
            )
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for replaced in ("HTTPValidationError", "ValidationError"):
                schemas.pop(replaced, None)
            schemas["Problem"] = Problem.model_json_schema()
            made["components"]["responses"] = _shared(made["paths"])
            add_security(made)
            self.openapi_schema = made
        return self.openapi_schema


def answers(*statuses: int) -> Answers:
    """The problems that a route may answer with, for its ``responses``."""
    return {
        int(status): {
            "description": "; ".join(
                f"`{kind.name}`: {kind.title}" for kind in PROBLEMS if kind.status == status
            ),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


ALWAYS: Final = answers(400, 401, 403, 408, 413, 422, 429, 500, 503)
"""What any route may answer, whatever it does."""

GIVES_BYTES: Final[Mapping[int | str, dict[str, Any]]] = {
    200: {
        "description": "The bytes as they are.",
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The answer of a route that gives a file."""


def operation_id(route: APIRoute) -> str:
    """Name a route for the clients that are generated: as its function is called, in camel case."""
    first, *others = route.name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _shared(paths: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Move the problems, which all routes have alike, out of the routes; return them by name."""
    shared: dict[str, Any] = {}
    for path in paths.values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if MEDIA_TYPE in answer.get("content", {}):
                    name = f"Problem{status}"
                    shared[name] = answer
                    operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(shared.items()))
