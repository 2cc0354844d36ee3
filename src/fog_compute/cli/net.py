"""``fog net``: tokens and groups of a network, and joining one."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, print_json, print_table
from fog_compute.cli.membership import GivenToken, GivenTokens, join
from fog_compute.cli.names import chosen
from fog_compute.cli.output import write
from fog_compute.cli.tokens import TOKEN_BYTES, BootstrapToken, looks_like_token, read_net
from fog_compute.client.lock import Free, HomeLock
from fog_compute.clock import SystemClock
from fog_compute.config import load_settings
from fog_compute.descriptors import STDIN
from fog_compute.errors import ConfigError
from fog_compute.lifetime import keep_files_private
from fog_compute.reading import read_descriptor, read_file
from fog_compute.tasks.groups import Group
from fog_compute.tasks.keyring import KeyringFile
from fog_compute.text import counted
from fog_compute.units import parse_duration

__all__ = ["TokenFlag", "groups", "join_net", "read_token", "revoke", "token", "tokens"]

TOKEN_FILE: Final = "FOG_TOKEN_FILE"  # noqa: S105  # the name of a variable
LONGEST: Final = timedelta(days=3650)

TokenFlag = Annotated[
    str | None,
    Parameter(
        help="File with a bootstrap token, or - for standard input; by default the file that"
        " FOG_TOKEN_FILE names. The token itself is taken as well, but whoever lists the processes"
        " of this machine, or reads the history of your shell, then has it too.",
        allow_leading_hyphen=True,
    ),
]


def token(
    *,
    group: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            help="Group that it lets into, made if there is none of the name; may be given many"
            " times. By default the first of `fog net groups`.",
        ),
    ] = (),
    expires: Annotated[
        str, Parameter(help="For how long a machine can join with it, such as 7d or 12h.")
    ] = "7d",
    json: JsonFlag = False,
) -> int:
    """Print a bootstrap token: all that another machine needs to lend itself, or to ask.

    Keep it like a key: whoever reads it can run modules on the machines of its groups. It can be
    copied by whoever has it; a machine that joined stays when it expires. `fog net revoke` replaces
    the keys in it.

    For example: `fog net token --group lab --expires 12h`
    """
    keep_files_private()
    lasts = timedelta(seconds=parse_duration(expires))
    if not timedelta(seconds=1) <= lasts <= LONGEST:
        raise CommandError(f"--expires {expires}: give 1s to {LONGEST.days}d", USAGE)
    settings = load_settings()
    net = read_net(settings.bootstrap)
    file = KeyringFile(settings.layout.groups_file)
    keyring = file.load_or_make()
    names = group or keyring.names[:1]
    made = [name for name in dict.fromkeys(names) if name not in keyring.names]
    if made:
        # Those that were there stay in front: the first is the one of tasks that name none.
        fresh = tuple(Group.new(name) for name in made)
        keyring = type(keyring)((*keyring.groups, *fresh))
        file.write(keyring)
    now = SystemClock().now()
    chosen = tuple(one for one in keyring.groups if one.name in names)
    issued = BootstrapToken.new(net, chosen, int((now + lasts).timestamp()))
    GivenTokens(settings.layout).add(issued, now)
    for name in made:
        note(f"made the group {name}: this fog is its first member")
    if net.on_loopback:
        note(
            "this network is reached on this machine alone, so the token is of no use elsewhere:"
            " start it with `fog up --listen ADDRESS` first"
        )
    if json:
        shown = [one.name for one in chosen]
        print_json({"token": issued.encode(), "id": issued.id, "groups": shown})
    else:
        write(issued.encode() + "\n")
    return 0


def tokens(*, json: JsonFlag = False) -> int:
    """List the bootstrap tokens that were given out here; they are not kept themselves.

    For example: `fog net tokens`
    """
    given = GivenTokens(load_settings().layout).load()
    if json:
        print_json([_as_json(one) for one in given])
        return 0
    now = SystemClock().now()
    print_table(
        ("TOKEN", "GROUPS", "GIVEN", "STATE"),
        [
            (
                one.id,
                ",".join(one.groups),
                f"{datetime.fromtimestamp(one.given, UTC):%Y-%m-%d %H:%M}",
                one.state(now),
            )
            for one in given
        ],
    )
    return 0


def _as_json(one: GivenToken) -> dict[str, object]:
    """A token under the names that an API key has."""
    return {
        "id": one.id,
        "groups": list(one.groups),
        "created_at": f"{datetime.fromtimestamp(one.given, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "expires_at": f"{datetime.fromtimestamp(one.expires, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "revoked": one.revoked,
    }


def revoke(
    id: Annotated[  # noqa: A002
        str, Parameter(help="The token's id, of `fog net tokens`, or how it begins or ends.")
    ],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Replace the keys of a token's groups, so that it opens nothing any more.

    All members share a key, so every other token of these groups ends as well: whoever is to stay
    needs a new one. This fog and its workers have the new keys within half a minute.

    For example: `fog net revoke 0123456789abcdef`
    """
    keep_files_private()
    layout = load_settings().layout
    given = GivenTokens(layout)
    tokens = {one.id: one for one in reversed(given.load())}
    id = chosen(id, list(tokens), "token", "see `fog net tokens`")  # noqa: A001
    if tokens[id].revoked:
        raise CommandError(f"the token {id} is revoked already")
    file = KeyringFile(layout.groups_file)
    keyring = file.load()
    names = frozenset(tokens[id].groups)
    # First the keys: a list that says less than is so is mended by doing it again.
    file.write(keyring.replaced([Group.new(name) for name in tokens[id].groups]))
    over = given.revoke(names)
    if json:
        print_json({"revoked": over, "groups": sorted(names)})
    else:
        others = f"; with it ended {counted(len(over) - 1, 'other')}" if len(over) > 1 else ""
        write(f"{id} is revoked: new keys for {', '.join(sorted(names))}{others}\n")
    return 0


def groups(*, json: JsonFlag = False) -> int:
    """List the groups that this fog is a member of; tasks that name none are for the first.

    For example: `fog net groups`
    """
    layout = load_settings().layout
    names = KeyringFile(layout.groups_file).load().names if layout.groups_file.exists() else ()
    if json:
        print_json(list(names))
    else:
        write("".join(f"{name}\n" for name in names))
    return 0


def join_net(*, token: TokenFlag = None, json: JsonFlag = False) -> int:
    """Join a network and groups with a bootstrap token; `fog up` then uses that network.

    The home must have no network of its own. With a newer token of the same network it takes the
    groups' newer keys.

    For example: `fog net join --token token.txt`
    """
    keep_files_private()
    layout = load_settings().layout
    if not isinstance(HomeLock(layout).holder(), Free):
        raise CommandError(f"a fog runs in {layout.root}: stop it first, with `fog down`")
    joined = read_token(token)
    join(layout, joined, SystemClock().now())
    names = [one.name for one in joined.groups]
    if json:
        print_json({"network": joined.net.network, "groups": names})
    else:
        write(f"joined the network {joined.net.network}, groups {', '.join(names)}\n")
    return 0


def read_token(given: str | None) -> BootstrapToken:
    """Find and read the token that an option, or a variable, means.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    where = given or os.environ.get(TOKEN_FILE, "")
    if not where:
        raise ConfigError(f"there is no bootstrap token: give --token FILE, or set {TOKEN_FILE}")
    if looks_like_token(where):
        return BootstrapToken.parse(where)
    try:
        if where == "-":
            data = read_descriptor(STDIN, TOKEN_BYTES, "standard input")
        else:
            data = read_file(Path(where).expanduser(), TOKEN_BYTES)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the bootstrap token in {where} cannot be read: {reason}") from error
    return BootstrapToken.parse(data.decode("ascii", errors="replace"))
