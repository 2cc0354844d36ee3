"""``fog chat group``: several people in one conversation."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

from fog_compute.cli.chat.talking import Talk
from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, print_json, print_table
from fog_compute.cli.output import write
from fog_compute.client.people import Group
from fog_compute.text import as_named, one_line

__all__ = ["add", "leave", "ls", "new", "remove", "rename"]

Named: TypeAlias = Annotated[str, Parameter(help="The group, by its name or its id.")]


def ls(*, json: JsonFlag = False) -> int:
    """List the groups that you are in; their maker alone changes them.

    For example: `fog chat group ls`
    """
    with Backend() as backend:
        talk = Talk(backend)
        found = talk.groups()
        names = talk.names() if found and not json else {}
        own = talk.me()["fingerprint"] if names else ""
    if json:
        print_json(found)
    else:
        names[own] = "you"
        print_table(
            ("GROUP", "ID", "MAKER", "MEMBERS"),
            [
                (one["name"], one["id"], _called(one["maker"], names), _members(one, names))
                for one in found
            ],
        )
    return 0


def new(
    name: Annotated[str, Parameter(help="What it is called.")],
    members: Annotated[tuple[str, ...], Parameter(help="Who is in it, besides you; up to 15.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Make a group: each of its members hears what any of them says in it.

    For example: `fog chat group new lab ada grace`
    """
    if not name.strip():
        raise CommandError("give the group a name: `fog chat group new lab ada`", USAGE)
    with Backend() as backend:
        talk = Talk(backend)
        made = talk.make_group(name, talk.people(members))
    if json:
        print_json(made)
    else:
        write(f"{one_line(made['id'], 255)}\n")
        note(f"say something in it: `fog chat --room {as_named(name)}`")
    return 0


def add(
    group: Named,
    members: Annotated[tuple[str, ...], Parameter(help="Who is to be in it, too.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Take people into a group that you made; they hear what is said from now on.

    For example: `fog chat group add lab alan`
    """
    with Backend() as backend:
        talk = Talk(backend)
        before = talk.group(group)
        more = [one["fingerprint"] for one in talk.people(members)]
        changed = talk.change_group(before, before["name"], [*before["members"], *more])
        return _tell(talk, changed, as_json=json)


def remove(
    group: Named,
    members: Annotated[tuple[str, ...], Parameter(help="Who is not to be in it any more.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Leave people out of a group that you made; they hear nothing more that is said in it.

    For example: `fog chat group remove lab alan`
    """
    with Backend() as backend:
        talk = Talk(backend)
        before = talk.group(group)
        gone = talk.people(members)
        for one in gone:
            if one["fingerprint"] not in before["members"]:
                raise CommandError(
                    f"{one_line(one['shown'], 40)} is not in {as_named(before['name'])}",
                    kind="not-found",
                )
        out = {one["fingerprint"] for one in gone}
        left = [one for one in before["members"] if one not in out]
        changed = talk.change_group(before, before["name"], left)
        return _tell(talk, changed, as_json=json)


def rename(
    group: Named,
    name: Annotated[str, Parameter(help="What it is called from now on.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Give a group that you made another name, which all its members see.

    For example: `fog chat group rename lab workshop`
    """
    with Backend() as backend:
        talk = Talk(backend)
        before = talk.group(group)
        return _tell(talk, talk.change_group(before, name, before["members"]), as_json=json)


def leave(group: Named, /, *, json: JsonFlag = False) -> int:
    """Leave a group for good: what you have of it is kept, its key is destroyed.

    Its other members are not told.

    For example: `fog chat group leave lab`
    """
    with Backend() as backend:
        talk = Talk(backend)
        left = talk.group(group)
        others = talk.leave_group(left)
    if json:
        print_json(others)
    else:
        write(f"{as_named(left['name'])}: you are in it no more\n")
    return 0


def _tell(talk: Talk, group: Group, *, as_json: bool) -> int:
    """Say what a group is now."""
    if as_json:
        print_json(group)
        return 0
    names = {**talk.names(), talk.me()["fingerprint"]: "you"}
    write(f"{as_named(group['name'])}: {_members(group, names)}\n")
    return 0


def _members(group: Group, names: dict[str, str]) -> str:
    return one_line(", ".join(_called(one, names) for one in group["members"]))


def _called(fingerprint: str, names: dict[str, str]) -> str:
    return one_line(names.get(fingerprint, fingerprint[:8]), 40)
