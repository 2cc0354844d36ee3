"""The way to a home folder's backend, and the proof that it is that backend which is asked.

A backend keeps its ``server.json`` locked while it lives. Without that lock anybody may have its
port, and would be sent the token.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Final, Self

import httpx2

from fog_compute.errors import HomeUnusable
from fog_compute.layout import HomeLayout
from fog_compute.locking import try_lock
from fog_compute.reading import STATE_BYTES, open_state, read_descriptor, read_token

__all__ = ["Absent", "Connection"]

TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0


class Absent(Exception):
    """There is no backend at present.

    Attributes:
        gone: there was one, which ended: a running fog brings it back.
    """

    def __init__(self, *, gone: bool) -> None:
        super().__init__("no backend")
        self.gone = gone


class Connection:
    """HTTP to one life of a backend."""

    def __init__(self, http: httpx2.Client, written: int) -> None:
        """Take over ``written``, an open ``server.json`` that names whom ``http`` asks."""
        self._http: Final = http
        self._written: Final = written

    @classmethod
    def open(cls, layout: HomeLayout) -> Self:
        """Find a home's backend.

        Raises:
            Absent: there is none.
            HomeUnusable: that cannot be seen; the text names the path and the reason.
        """
        path = layout.server_file
        try:
            with open_state(path) as written:
                if _is_unlocked(written):
                    raise Absent(gone=True)
                url = _url_of(read_descriptor(written, STATE_BYTES, str(path)), path)
                token = read_token(layout.token_file)
                http = httpx2.Client(
                    base_url=url,
                    headers={"authorization": f"Bearer {token}", "accept-encoding": "identity"},
                    timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                    trust_env=False,
                )
                return cls(http, os.dup(written))
        except FileNotFoundError:
            raise Absent(gone=False) from None
        except ValueError:
            raise HomeUnusable(
                f"{layout.token_file} holds no token: run `fog down`, delete it, and run `fog up`"
            ) from None
        except OSError as error:
            place = error.filename or path
            raise HomeUnusable(f"{place} cannot be read: {error.strerror}") from error

    @property
    def http(self) -> httpx2.Client:
        """The client, once it is proven that the backend lives.

        Raises:
            Absent: it has ended.
        """
        if _is_unlocked(self._written):
            raise Absent(gone=True)
        return self._http

    @property
    def url(self) -> str:
        """Where the backend listens."""
        return str(self._http.base_url)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        os.close(self._written)


def _url_of(data: bytes, path: Path) -> httpx2.URL:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, httpx2.InvalidURL):
        url = httpx2.URL(json.loads(data)["url"])
        if url.scheme == "http" and url.host:
            return url
    raise HomeUnusable(f"{path} is damaged: `fog down` and `fog up` write it anew")


def _is_unlocked(descriptor: int) -> bool:
    """Say whether no process holds a file's lock: the backend that wrote it is gone."""
    return try_lock(descriptor, fcntl.LOCK_SH)
