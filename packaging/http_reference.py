"""Write the reference of the HTTP interface from the code: `python packaging/http_reference.py`.

A test says when it must be written anew.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fog_compute.cli.problems import OWN_PROBLEMS
from fog_compute.config import Settings
from fog_compute.scopes import Scope, enough
from fog_compute.server import access
from fog_compute.server.app import create_app
from fog_compute.server.problem_types import PROBLEMS
from fog_compute.server.services import ServiceManager

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs/reference"

INTRODUCTION: Final = """\
# Problems

Made from `src/fog_compute/server/problem_types.py` and `src/fog_compute/cli/problems.py` by
`packaging/http_reference.py`.

The backend answers what it refuses with `application/problem+json`, as RFC 9457 has it: an object
with `type`, `title`, `status` and `detail`.
`type` is one of the names below after `urn:fog-compute:problem:`, and what a program decides by;
`detail` is one line for a person, and its words may change.
[openapi.json](openapi.json) says which status each route may answer with.
A command that fails with `--json` has the same types in its `error`, and
[some of its own](#of-commands).
"""

OF_COMMANDS: Final = """\
## Of commands

They stand in the `type` of a command's `error` alone, after `urn:fog-compute:problem:` as well.

| type | when |
|---|---|
"""

SCOPES: Final = """\
# Scopes

Made from `src/fog_compute/server/access.py` by `packaging/http_reference.py`.

A key of the HTTP interface has one scope or several, which `fog key create --scope` names.
The token in a home folder is as good as a key with `admin`.
"""


def openapi() -> dict[str, Any]:
    """The description of the interface."""
    with tempfile.TemporaryDirectory() as home:
        return create_app(ServiceManager(Settings(home=Path(home)))).openapi()


def problems() -> str:
    """The page of all kinds of problem."""
    own = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in OWN_PROBLEMS.items())
    return "\n".join([INTRODUCTION, *_sections(), OF_COMMANDS + own])


def scopes() -> str:
    """The page of what each scope allows, and what each route needs."""
    allowed = [f"| `{scope}` | {scope.allowed} |" for scope in Scope]
    needed = {
        route: " or ".join(f"`{one}`" for one in enough(scope))
        for route, scope in access.ROUTES.items()
    }
    needed.update(dict.fromkeys(access.ANY_KEY, "any"))
    needed.update(dict.fromkeys(access.OPEN, "none"))
    routes = [
        f"| `{method} {path}` | {scope} |"
        for (method, path), scope in sorted(needed.items(), key=lambda row: row[0][::-1])
    ]
    tables = [
        ["| scope | allows to |", "|---|---|", *allowed],
        ["| route | scope |", "|---|---|", *routes],
    ]
    return "\n".join([SCOPES, *("\n".join(table) + "\n" for table in tables)])


def _sections() -> Iterator[str]:
    for kind in PROBLEMS:
        yield f"## {kind.name}\n"
        yield f"Status {kind.status.value}: {kind.title}.\n"
        yield "\n".join(kind.meaning.replace(". ", ".\n").splitlines()) + "\n"
        if kind.members:
            yield f"It may have {' and '.join(f'`{name}`' for name in kind.members)}.\n"


def pages() -> dict[Path, str]:
    """Every file of the reference, and what it should hold."""
    return {
        FOLDER / "openapi.json": json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n",
        FOLDER / "problems.md": problems(),
        FOLDER / "scopes.md": scopes(),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, "utf-8")
        sys.stdout.write(f"{path}\n")
