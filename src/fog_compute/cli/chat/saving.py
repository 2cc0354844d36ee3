"""``fog chat save``: files that people sent, written into a folder."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from fog_compute.cli.chat.command import Room, target_of
from fog_compute.cli.chat.talking import AT_ONCE, CHAT, Talk
from fog_compute.cli.client import Backend
from fog_compute.cli.common import CommandError, ForceFlag, JsonFlag, print_json
from fog_compute.cli.output import write
from fog_compute.cli.outputs import in_words
from fog_compute.client.folders import NotWritten, OutputFolder
from fog_compute.client.people import Message
from fog_compute.errors import NotFound
from fog_compute.tasks.folder import is_plain_path
from fog_compute.text import as_named, one_line

__all__ = ["file_name", "save"]


def save(
    who: Annotated[str, Parameter(help="Who sent it; by default anybody.")] = "",
    /,
    *,
    room: Room = "",
    message: Annotated[
        str, Parameter(name="--id", help="The message that has it, as `fog chat log --json` says.")
    ] = "",
    output_dir: Annotated[str, Parameter(help="Folder to write it to; made if need be.")] = ".",
    force: ForceFlag = False,
    json: JsonFlag = False,
) -> int:
    """Write the last file that came into a folder, under the name that its sender gave it.

    For example: `fog chat save ada --output-dir from-ada`
    """
    target = target_of(who, room, needed=False)
    with Backend() as backend:
        log = Talk(backend).log(target, 0, AT_ONCE)["messages"]
        files = [one for one in log if one["kind"] == "file" and not one["outgoing"]]
        found = [one for one in files if not message or one["id"] == message]
        if not found:
            raise NotFound(
                f"no file came with message {one_line(message, 40)}"
                if message
                else "no file came here: `fog chat log` shows what did"
            )
        one = found[-1]
        name = file_name(one)
        path = f"{CHAT}/messages/{one['sender']}/{quote(one['id'], safe='')}"
        with OutputFolder(output_dir, force=force) as folder:
            try:
                folder.write(name, functools.partial(backend.stream, path))
            except NotWritten as why:
                raise CommandError(
                    f"{as_named(name)} is not written: {in_words(why)}", kind="not-written"
                ) from None
    where = str(Path(output_dir, name))
    if json:
        print_json({"written": where, "id": one["id"], "sender": one["sender"]})
    else:
        write(f"{as_named(where)} from {one_line(one['shown'], 40)}\n")
    return 0


def file_name(message: Message) -> str:
    """Under which name a file is written: a plain one, not hidden, whatever its sender says."""
    said = one_line(message["name"], 200).replace("\\", "/").rpartition("/")[2]
    name = said.strip().lstrip(".")
    return name if name and is_plain_path(name) else f"file-from-{message['sender'][:8]}"
