"""Log lines of real processes against the schema of the specification."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs

from fog_compute.observability.logs import without_ids

__all__ = ["fields_of_schema", "misfits", "validator"]

TOLD = ("INFO", "WARN", "ERROR")

_SCHEMA = Path(__file__).parents[1] / "docs/spec/log-line.schema.json"


@functools.cache
def validator() -> jsonschema_rs.Draft202012Validator:
    """What says whether a line fits."""
    return jsonschema_rs.Draft202012Validator(json.loads(_SCHEMA.read_bytes()))


def fields_of_schema() -> frozenset[str]:
    """All names that a line may have at info and above."""
    return frozenset(json.loads(_SCHEMA.read_bytes())["properties"])


def misfits(folder: Path) -> Iterator[str]:
    """The lines below a folder of logs that do not fit, with the reason."""
    for path in sorted(folder.rglob("*.log")):
        for line in path.read_text().splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                yield f"{path.name}: no JSON: {line}"
                continue
            for error in validator().iter_errors(fields):
                yield f"{path.name}: {error.message}: {line}"
            if fields.get("level") in TOLD and without_ids(line) != line:
                yield f"{path.name}: it names a machine, a key or an id: {line}"
