"""Where a backend is looked for: in a home folder, or at an address that was given."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final, Protocol

import httpx2

from fog_compute.client.connection import Address
from fog_compute.client.lock import Free, HomeLock, where
from fog_compute.errors import BackendError, ConfigError, FogError, NotReady, NotRunning
from fog_compute.hosts import is_loopback
from fog_compute.layout import HomeLayout, home_from_environment

__all__ = ["VARIABLES", "Home", "Place", "Remote", "place_from_environment", "remote_place"]

URL, KEY, CA = "FOG_URL", "FOG_KEY", "FOG_CA"
VARIABLES: Final = (URL, KEY, CA)
"""What names a backend elsewhere, a key of it, and the certificates to trust."""

_MEANT: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
"""How ``FOG_ALLOW_REMOTE`` says yes, as the settings read it, which are slow to import."""


class Place(Protocol):
    """Where a backend is looked for.

    Attributes:
        layout: the home folder of whoever asks.
        backend: the backend, as a text names it.
        advice: where to read more about it.
        key: what lets whoever asks in, as a text names it.
    """

    layout: HomeLayout
    backend: str
    advice: str
    key: str

    def find(self) -> Address:
        """Find it; close what is returned.

        Raises:
            Absent: there is none now.
            FogError: that cannot be seen; the text names what and the reason.
        """
        ...

    def tended(self) -> bool:
        """Whether somebody brings the backend back when it is away."""
        ...

    def answered(self) -> None:
        """Take note that it answered just now."""
        ...

    def away(self) -> FogError:
        """Why there is no backend."""
        ...

    def silent(self, url: str) -> FogError:
        """Why nothing took a connection."""
        ...


class Home:
    """The backend of a home folder on this machine."""

    def __init__(self, layout: HomeLayout) -> None:
        """Look for nothing yet."""
        self.layout = layout
        self.backend = f"the backend of the fog in {layout.root}"
        self.advice = f"logs/backend.log in {layout.root}"
        self.key = f"the token in {layout.token_file}"
        self._lock: Final = HomeLock(layout)

    def find(self) -> Address:
        """Find it by what it wrote."""
        return Address.of_home(self.layout)

    def tended(self) -> bool:
        """Whether a fog runs there."""
        return not isinstance(self._lock.holder(), Free)

    def answered(self) -> None:
        """What runs here can be seen at any time."""

    def away(self) -> FogError:
        """No fog runs, or one that has not brought its backend up yet."""
        holder = self._lock.holder()
        if isinstance(holder, Free):
            return NotRunning(f"no fog is running in {self.layout.root}: start one with `fog up`")
        return NotReady(
            f"a fog runs in {self.layout.root} ({where(holder)}), but its backend does not answer"
            " yet: ask again in a moment, or read logs/backend.log there"
        )

    def silent(self, url: str) -> FogError:
        """On the own machine a connection is taken or refused at once."""
        return BackendError(
            f"nothing answers at {url}, where {self.backend} listens: is the loopback interface"
            " down (`ip link set lo up`)?"
        )


class Remote:
    """A backend at an address that was given, with a key of its own.

    Attributes:
        url: the address.
    """

    def __init__(self, layout: HomeLayout, url: str, key: str, ca: str = "") -> None:
        """Read what was given; nothing is asked yet.

        Args:
            layout: where whoever asks keeps things of its own.
            url: of the backend, with ``https`` unless it is on this machine.
            key: an API key of that backend.
            ca: file of certificates by which it proves itself; by default the system's.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self.url: Final = _read_url(url)
        if not key:
            raise ConfigError(
                f"the backend at {self.url} needs a key, as `fog key create` makes one there: give"
                " it with FOG_KEY"
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError("FOG_KEY is no key: it has characters that no key has")
        self._key: Final = key
        self._trusted: Final = _read_ca(ca)
        self.layout = layout
        self.backend = f"the backend at {self.url}"
        self.advice = "its log there"
        self.key = (
            "the key that it was given (FOG_KEY): it is another's, has expired or was revoked"
        )
        self._seen = False

    def find(self) -> Address:
        """It is where it was said to be."""
        return Address(self.url, self._key, self._trusted)

    def tended(self) -> bool:
        """Cannot be seen from here: one that has answered is believed to come back."""
        return self._seen

    def answered(self) -> None:
        """The address is right."""
        self._seen = True

    def away(self) -> FogError:
        """Nothing listens there, or something else does."""
        in_clear = "" if self.url.scheme == "https" else ", https where it has a certificate"
        return NotRunning(
            f"no backend answers at {self.url}: is the address right (FOG_URL){in_clear}, and does"
            " a fog run there?"
        )

    def silent(self, url: str) -> FogError:
        """A name, a route or a firewall is in the way."""
        return BackendError(
            f"nothing answers at {url}: is the address right (FOG_URL), and does a firewall let"
            " this machine through?"
        )


def place_from_environment() -> Place:
    """The place that ``FOG_URL``, ``FOG_KEY`` and ``FOG_CA`` name, or the home folder.

    Raises:
        ConfigError: something of it cannot be used.
    """
    url = os.environ.get(URL, "")
    return remote_place(url) if url else Home(HomeLayout(home_from_environment()))


def remote_place(url: str, key: str | None = None, ca: str | None = None) -> Remote:
    """The place of a URL; a key and certificates that are not given are those of the environment.

    Raises:
        ConfigError: something of it cannot be used.
    """
    return Remote(
        HomeLayout(home_from_environment()),
        url,
        os.environ.get(KEY, "") if key is None else key,
        os.environ.get(CA, "") if ca is None else ca,
    )


def _read_url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeEncodeError):
        url = httpx2.URL("")
    if "@" in text:  # not repeated: what stands before it is a secret
        raise ConfigError(
            "the URL of the backend (FOG_URL) names a user: give it without, and the key in FOG_KEY"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"the URL {text[:200]!r} is none of a backend: give one such as"
            " https://fog.example.org:8000 (FOG_URL)"
        )
    in_clear = url.scheme == "http" and url.host != "localhost" and not is_loopback(url.host)
    if in_clear and os.environ.get("FOG_ALLOW_REMOTE", "").lower() not in _MEANT:
        raise ConfigError(
            f"the URL {url} would have the key travel in clear: give one with https, or set"
            " FOG_ALLOW_REMOTE=1 if that is meant"
        )
    return url.copy_with(path="/", query=None, fragment=None)


def _read_ca(path: str) -> ssl.SSLContext | bool:
    if not path:
        return True
    try:
        return ssl.create_default_context(cafile=Path(path).expanduser())
    except OSError as error:
        reason = error.strerror if type(error) is not ssl.SSLError else "it holds no certificate"
        raise ConfigError(
            f"the file of trusted certificates {path} cannot be used: {reason} (FOG_CA)"
        ) from None
