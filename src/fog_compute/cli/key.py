"""``fog key``: make, list and revoke API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, print_json, print_table
from fog_compute.cli.names import chosen
from fog_compute.cli.output import write
from fog_compute.client.answers import Key, KeyPage, NewKey
from fog_compute.clock import SystemClock
from fog_compute.scopes import DEFAULT_SCOPES, Scope
from fog_compute.units import parse_duration

__all__ = ["create", "ls", "revoke"]

LONGEST: Final = timedelta(days=3650)
NEVER: Final = "never"

_KEYS: Final = "/api/v1/keys"
_SCOPES: Final = "; ".join(f"{scope}: {scope.allowed}" for scope in Scope)


def create(
    name: Annotated[str, Parameter(help="Whose it is, or what for.")],
    /,
    *,
    scope: Annotated[
        tuple[Scope, ...],
        Parameter(negative=(), help=f"What it allows; may be given many times. {_SCOPES}."),
    ] = DEFAULT_SCOPES,
    expires: Annotated[
        str, Parameter(help="For how long it can be used, such as 12h or 30d, or `never`.")
    ] = "90d",
    json: JsonFlag = False,
) -> int:
    """Make a key for the HTTP interface, and print it: this once, for nobody keeps it.

    Whoever has it asks this backend with it in FOG_KEY, and the backend's address in FOG_URL.

    For example: `fog key create prometheus --scope metrics --expires never`
    """
    wanted: dict[str, object] = {"name": name, "scopes": sorted(set(scope))}
    if expires != NEVER:
        lasts = timedelta(seconds=parse_duration(expires))
        if not timedelta(seconds=1) <= lasts <= LONGEST:
            raise CommandError(f"--expires {expires}: give 1s to {LONGEST.days}d", USAGE)
        wanted["lasts_s"] = lasts.total_seconds()
    with Backend() as backend:
        made = backend.post(_KEYS, NewKey, wanted)
    if json:
        print_json(made)
        return 0
    ends = made["expires_at"]
    until = f"until {_minute(ends)}" if ends else "until it is revoked"
    note(f"this key is shown once; it allows {' and '.join(made['scopes'])} {until}")
    write(made["key"] + "\n")
    return 0


def ls(*, json: JsonFlag = False) -> int:
    """List the keys, oldest first; those too that ended in the last 90 days.

    For example: `fog key ls`
    """
    with Backend() as backend:
        keys = backend.get(_KEYS, KeyPage)["keys"]
    if json:
        print_json(keys)
        return 0
    now = f"{SystemClock().now():%Y-%m-%dT%H:%M:%S}"
    print_table(
        ("KEY", "NAME", "SCOPES", "MADE", "LAST USED", "STATE"),
        [
            (
                key["id"],
                key["name"],
                ",".join(key["scopes"]),
                _minute(key["created_at"]),
                _minute(key["used_at"]) if key["used_at"] else "never",
                _state(key, now),
            )
            for key in keys
        ],
    )
    return 0


def revoke(
    key: Annotated[str, Parameter(help="The key's name, or its id, or how that begins or ends.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Let nobody use a key any more, nor the browsers that logged in with it.

    For example: `fog key revoke prometheus`
    """
    with Backend() as backend:
        found = _find(key, backend.get(_KEYS, KeyPage)["keys"])
        over = backend.delete(f"{_KEYS}/{found['id']}", Key)
    if json:
        print_json(over)
    else:
        write(f"the key {over['id']} ({over['name']}) is revoked\n")
    return 0


def _find(text: str, keys: list[Key]) -> Key:
    """The key that somebody means; by a name that of the one that is not revoked."""
    named = [key for key in keys if key["name"] == text and not key["revoked_at"]]
    if len(named) > 1:
        ids = ", ".join(key["id"] for key in named[:5])
        raise CommandError(
            f"{len(named)} keys have that name: give the id of one ({ids})", kind="conflict"
        )
    if named:
        return named[0]
    found = chosen(text, [key["id"] for key in reversed(keys)], "key", "see `fog key ls`")
    return next(key for key in keys if key["id"] == found)


def _state(key: Key, now: str) -> str:
    if key["revoked_at"]:
        return f"revoked {_minute(key['revoked_at'])}"
    if not key["expires_at"]:
        return "good until revoked"
    ended = key["expires_at"] <= now
    return f"{'expired' if ended else 'good until'} {_minute(key['expires_at'])}"


def _minute(stamp: str) -> str:
    """A time of an answer, to the minute."""
    return stamp[:16].replace("T", " ")
