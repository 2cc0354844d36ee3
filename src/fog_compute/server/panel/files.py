"""The files of the panel: read once at the start, and found by their path alone."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fog_compute.errors import ConfigError
from fog_compute.reading import read_file
from fog_compute.units import MIB

__all__ = ["STATIC", "StaticFile", "load"]

STATIC: Final = Path(__file__).parent / "static"
"""The panel that this version brings."""

FILE_BYTES: Final = 8 * MIB
ALL_BYTES: Final = 64 * MIB

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""By suffix; what else lies in the folder is not served."""

_PACKED: Final = frozenset({".png", ".woff2"})


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is served.

    Attributes:
        body: its bytes.
        zipped: the same by gzip; empty where that is no shorter.
        kind: its content type.
        tag: names these bytes (`ETag`).
    """

    body: bytes
    zipped: bytes
    kind: str
    tag: str

    @classmethod
    def of(cls, body: bytes, suffix: str) -> StaticFile:
        """A file with a suffix that is served."""
        zipped = b"" if suffix in _PACKED else gzip.compress(body, mtime=0)
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return cls(body, zipped if len(zipped) < len(body) else b"", _TYPES[suffix], tag)


def load(folder: Path) -> dict[str, StaticFile]:
    """Read all files of a folder, by the path under which they are served; `/` is `index.html`.

    Symbolic links are not followed, so that nothing outside the folder is served.

    Raises:
        ConfigError: the folder has no page, or too much in it, or cannot be read.
    """
    try:
        found = {
            f"/{path.relative_to(folder).as_posix()}": StaticFile.of(
                read_file(path, FILE_BYTES), path.suffix
            )
            for path in _files(folder)
        }
    except OSError as error:
        raise ConfigError(f"the panel in {folder} cannot be read: {error.strerror}") from error
    if "/index.html" not in found:
        raise ConfigError(f"there is no panel in {folder}: it has no index.html")
    if sum(len(one.body) for one in found.values()) > ALL_BYTES:
        raise ConfigError(f"the panel in {folder} has more than {ALL_BYTES // MIB} MiB")
    return {"/": found.pop("/index.html"), **found}


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in _TYPES and path.is_file() and not _leads_out(path, folder):
            yield path


def _leads_out(path: Path, folder: Path) -> bool:
    return any(
        one.is_symlink() for one in (path, *path.parents) if one != folder and folder in one.parents
    )
