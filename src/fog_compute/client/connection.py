"""One life of a backend: where it listens, and the proof that it is that backend which is asked.

A backend keeps its ``server.json`` locked while it lives. Without that lock anybody may have its
port, and would be sent the token. Whoever is elsewhere proves itself by its certificate.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx2

from fog_compute.errors import HomeUnusable
from fog_compute.layout import HomeLayout
from fog_compute.locking import try_lock
from fog_compute.reading import STATE_BYTES, open_state, read_descriptor, read_token

__all__ = ["Absent", "Address", "pinned"]

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


@dataclass(frozen=True, slots=True)
class Address:
    """Where a backend listens, and what to show it.

    Attributes:
        url: without a path.
        token: what it asks for.
        trusted: by which certificates it proves itself, where it does.
    """

    url: httpx2.URL
    token: str = field(repr=False)
    trusted: ssl.SSLContext | bool = True
    _written: int | None = None

    @classmethod
    def of_home(cls, layout: HomeLayout) -> Self:
        """Find a home's backend; close what is returned.

        Raises:
            Absent: there is none.
            HomeUnusable: that cannot be seen; the text names the path and the reason.
        """
        path = layout.server_file
        try:
            with open_state(path) as written:
                if _is_unlocked(written):
                    raise Absent(gone=True)
                url, trusted = _read(read_descriptor(written, STATE_BYTES, str(path)), path)
                token = read_token(layout.token_file)
                return cls(url, token, trusted, _written=os.dup(written))
        except FileNotFoundError:
            raise Absent(gone=False) from None
        except ValueError:
            raise HomeUnusable(
                f"{layout.token_file} holds no token: run `fog down`, delete it, and run `fog up`"
            ) from None
        except OSError as error:
            place = error.filename or path
            raise HomeUnusable(f"{place} cannot be read: {error.strerror}") from error

    def alive(self) -> bool:
        """Whether the backend that wrote it has not ended, as far as can be seen here."""
        return self._written is None or not _is_unlocked(self._written)

    def check(self) -> None:
        """Make sure that whoever listens there is the backend of this home.

        Raises:
            Absent: it has ended.
        """
        if not self.alive():
            raise Absent(gone=True)

    def options(self) -> dict[str, Any]:
        """What a client of ``httpx2`` is made with, for this address and no other."""
        return {
            "base_url": self.url,
            "headers": {"authorization": f"Bearer {self.token}", "accept-encoding": "identity"},
            "timeout": httpx2.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            "trust_env": False,
            "verify": self.trusted,
        }

    def close(self) -> None:
        """Let go of what proved it."""
        if self._written is not None:
            os.close(self._written)


def _read(data: bytes, path: Path) -> tuple[httpx2.URL, ssl.SSLContext | bool]:
    """Return where a backend says that it listens, and the one certificate that proves it."""
    wrong = ValueError, KeyError, TypeError, RecursionError, httpx2.InvalidURL, ssl.SSLError
    with contextlib.suppress(*wrong):
        state = json.loads(data)
        url = httpx2.URL(state["url"])
        if url.scheme == "http" and url.host:
            return url, True
        if url.scheme == "https" and url.host:
            return url, pinned(state["certificate"])
    raise HomeUnusable(f"{path} is damaged: `fog down` and `fog up` write it anew")


def pinned(certificate: str) -> ssl.SSLContext:
    """Trust one certificate, whoever signed it and whatever names it is for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context


def _is_unlocked(descriptor: int) -> bool:
    """Say whether no process holds a file's lock: the backend that wrote it is gone."""
    return try_lock(descriptor, fcntl.LOCK_SH)
