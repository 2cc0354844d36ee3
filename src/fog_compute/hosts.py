"""Addresses that a fog binds and is asked under: read in one place, in one form.

A host is kept as an address without brackets, or as a name in small letters without the last dot.
An IPv4 address that is written as an IPv6 one is the IPv4 address.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from fog_compute.errors import ConfigError
from fog_compute.text import one_line

__all__ = [
    "LOCALHOST",
    "LOOPBACK_4",
    "LOOPBACK_6",
    "asked_host",
    "bind",
    "is_loopback",
    "is_wildcard",
    "local_host",
    "loopback_like",
    "may_ask",
    "read_host",
    "to_bind",
    "url_of",
]

LOCALHOST: Final = "localhost"
LOOPBACK_4: Final = "127.0.0.1"
LOOPBACK_6: Final = "::1"

NAME_LENGTH: Final = 253
SHOWN: Final = 80

_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\]")
_WITH_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]{0,5})?")
# What the system's resolver takes for an address: 127.1, 0x7f000001, 0.
_SHORT_ADDRESS: Final = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")


def read_host(text: str) -> str:
    """Read a host as a person writes it: ``127.0.0.1``, ``[::1]``, ``LOCALHOST``, ``::``.

    Raises:
        ConfigError: it is neither an address nor a name.
    """
    plain = text.strip()
    if bracketed := _BRACKETED.fullmatch(plain):
        plain = bracketed[1]
    address = _address(plain)
    if address is not None:
        return _plain(address)
    name = plain.lower().removesuffix(".")
    shown = one_line(text, SHOWN)
    if bracketed or not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise ConfigError(
            f"{shown!r} is no host: give an address such as {LOOPBACK_4} or {LOOPBACK_6}, or a"
            " name, without a port"
        )
    if _SHORT_ADDRESS.fullmatch(name):
        raise ConfigError(f"{shown!r} is no whole address: write it like {LOOPBACK_4}")
    return name


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a host that `read_host` gave."""
    address = _address(host)
    return host == LOCALHOST if address is None else address.is_loopback


def is_wildcard(host: str) -> bool:
    """Say whether a host stands for all addresses of this machine."""
    address = _address(host)
    return address is not None and address.is_unspecified


def local_host(host: str) -> str:
    """The host under which this machine reaches what is bound to a host: no wildcard."""
    return loopback_like(host) if is_wildcard(host) else host


def loopback_like(host: str) -> str:
    """A loopback address of a host's family: the host itself where it is one.

    What is for this machine alone binds it, whatever the interface for others is bound to.
    """
    address = _address(host)
    if address is None:
        return LOOPBACK_6 if _family(host) == socket.AF_INET6 else LOOPBACK_4
    if address.is_loopback:
        return host
    return LOOPBACK_4 if address.version == 4 else LOOPBACK_6


def to_bind(host: str) -> str:
    """A host for a port that was chosen: ``localhost`` is the first address that it has here.

    Else a port that is taken would be evaded by the other family.
    """
    return loopback_like(host) if host == LOCALHOST else host


def may_ask(header: str, bound: str, names: Collection[str] = ()) -> bool:
    """Say whether a request's ``Host`` may be this, where ``bound`` is what was bound.

    A page in a browser can make a name of its own point here; it cannot do so with an address, nor
    with one of the ``names`` that a certificate gives to this backend: ``*.`` stands for one label.
    Nobody has a name without a dot in public: such names are what a network of containers calls its
    own, and count where others than this machine are served.
    """
    parts = _WITH_PORT.fullmatch(header.strip())
    if parts is None:
        return False
    try:
        host = read_host(parts[1])
    except ConfigError:
        return False
    if is_loopback(host) or host == bound or host in names:
        return True
    if f"*.{host.partition('.')[2]}" in names:
        return True
    return not is_loopback(bound) and (_address(host) is not None or "." not in host)


def asked_host(header: str) -> str:
    """The host of a request whose ``Host`` `may_ask` let in, as URLs have it."""
    parts = _WITH_PORT.fullmatch(header.strip())
    host = read_host(parts[1]) if parts is not None else LOCALHOST
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def url_of(host: str, port: int, *, scheme: str = "http") -> str:
    """The base URL of what is bound to a host and port, for a client on this machine."""
    local = local_host(host)
    if ":" in local:
        # The zone of a link-local address stands after a sign that URLs escape.
        return f"{scheme}://[{local.replace('%', '%25')}]:{port}"
    return f"{scheme}://{local}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; of a name the first of its addresses that can be bound.

    Raises:
        OSError: none can.
        ConfigError: the name has no address.
    """
    problem: OSError | None = None
    for family, address in _resolve(host, port):
        try:
            # asyncio and uvicorn send at once only where they see that this is TCP.
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as error:  # a kernel without this family
            problem = problem or error
            continue
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            problem = problem or error
        else:
            return listener
    raise problem or ConfigError(f"host {host!r} has no address")


def _family(name: str) -> int | None:
    """The family of the address that a name is bound by."""
    try:
        with bind(name, 0) as probe:
            return probe.family
    except (OSError, ConfigError):
        return None


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    if host == LOCALHOST:  # whatever a list of names says, which may lack it or know one family
        return [
            (socket.AF_INET, (LOOPBACK_4, port)),
            (socket.AF_INET6, (LOOPBACK_6, port, 0, 0)),
        ]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"host {host!r} has no address: {reason}") from error
    return [(family, tuple(address)) for family, _, _, _, address in found]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _plain(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address) and not address.is_link_local:
        return str(IPv6Address(int(address)))  # a zone says nothing there
    return str(address)
