"""``fog chat``: a conversation on a terminal, and lines from a pipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.chat.lines import (
    Days,
    Target,
    hearers_line,
    line_of,
    me_lines,
    trace_lines,
    who_lines,
)
from fog_compute.cli.chat.moving import Moving
from fog_compute.cli.chat.talking import CHAT, LONGEST_TEXT, Talk
from fog_compute.cli.client import Backend
from fog_compute.cli.codes import FAILED, INTERRUPTED, TIMED_OUT, USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, print_json
from fog_compute.cli.output import is_terminal, speaks_unicode, write
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.cli.peer import Who, find
from fog_compute.client.asking import WAIT_S
from fog_compute.client.people import Delivery, Message, Sent, Wiped, has_it
from fog_compute.descriptors import STDIN
from fog_compute.errors import NotFound
from fog_compute.text import as_named, counted, one_line
from fog_compute.units import format_duration, parse_duration

__all__ = [
    "Room",
    "cancel",
    "chat",
    "log",
    "me",
    "send",
    "target_of",
    "trace",
    "who",
    "wipe",
]

WIPE: Final = "wipe"

Room = Annotated[
    str,
    Parameter(name="--room", help="A group, or near for all who are near, instead of a person."),
]
Options = dict[str, object]


def chat(
    who: Annotated[str, Parameter(help="Whom to talk to; by default nobody yet.")] = "",
    more: Annotated[tuple[str, ...], Parameter(show=False)] = (),
    /,
    *,
    room: Room = "",
    json: JsonFlag = False,
) -> int:
    """Talk to people: over the mixnet, over Bluetooth, or later, whichever reaches them.

    On a terminal it shows what comes, and sends each line that you type; /help says what else can
    be typed. Without a terminal, each line of standard input is sent, and its id printed; one of
    more than 20,000 characters goes as several.

    For example: `fog chat ada`
    """
    if more:
        raise CommandError(
            f"to send {one_line(who, 40)} one message, say `fog chat send {as_named(who)}"
            f" {one_line(' '.join(more), 80)}`",
            USAGE,
        )
    target = target_of(who, room, needed=False)
    with Backend() as backend:
        talk = Talk(backend)
        mine = talk.me()
        # A name that is nobody's is said before there is a screen, and also where no line comes.
        if who:
            find(backend, who)
        elif room:
            talk.room(target.room)
        if json or not (is_terminal() and os.isatty(STDIN) and os.environ.get("TERM") != "dumb"):
            return _lines(talk, target, as_json=json)
        place = backend.place
    from fog_compute.cli.chat.live import talk_live  # slow, as is all that draws

    talk_live(place, target, mine)
    return 0


def send(
    who: Annotated[str, Parameter(help="The person; with --room all words are what to say.")] = "",
    text: Annotated[
        tuple[str, ...], Parameter(help="What to say; several words are one line.")
    ] = (),
    /,
    *,
    room: Room = "",
    file: Annotated[
        Path | None, Parameter(name="--file", help="Send this file instead of a text.")
    ] = None,
    private: Annotated[
        bool, Parameter(negative=(), help="Only where nobody sees who writes to whom.")
    ] = False,
    now: Annotated[
        bool, Parameter(negative=(), help="Fail if they cannot be reached now, instead of waiting.")
    ] = False,
    wait: Annotated[
        str | None,
        Parameter(help="Wait so long, such as 30s, until it is delivered; else exit with 124."),
    ] = None,
    json: JsonFlag = False,
) -> int:
    """Send one message; it goes out when it can, also after this command has ended.

    For example: `fog chat send ada see you at eight`
    """
    # A room takes the place of the person, so that the first word is the text's.
    words, person = ((who, *text), "") if room else (text, who)
    target = target_of(person, room, needed=True)
    line = " ".join(words).strip()
    if bool(line) == (file is not None):
        raise CommandError("give a text, or a file with --file", USAGE)
    options: Options = {"requires_privacy": private, "offline_capable": not now}
    patience = None if wait is None else parse_duration(wait)
    with Backend() as backend:
        talk = Talk(backend)
        cursor = talk.events("", 0)["next"] if patience is not None else ""
        sent = talk.say(target, line, options=options, file=file)
        told: dict[str, object] = {**sent}
        if sent["reasons"]:
            note(f"{hearers_line(sent['reasons'], talk.names())}; it waits")
        if patience is not None:
            with Moving(quiet=json) as moving:
                told["state"] = _until_delivered(talk, sent, cursor, patience, moving)
    if json:
        print_json(told)
    else:
        write(f"{one_line(sent['id'], 255)}\n")
    return 0


def cancel(
    message: Annotated[
        str, Parameter(help="The id of a message, as `fog chat send` printed it.")
    ] = "",
    /,
    *,
    to: Annotated[str, Parameter(help="All that waits for this person, instead.")] = "",
    room: Annotated[str, Parameter(name="--room", help="All that waits for a group.")] = "",
    json: JsonFlag = False,
) -> int:
    """Give up messages that are not delivered yet; a copy that is on its way may still arrive.

    For example: `fog chat cancel --to ada`
    """
    if bool(message) + bool(to) + bool(room) != 1:
        raise CommandError("say what to give up: the id of a message, --to NAME or --room", USAGE)
    target = None if message else target_of(to, room, needed=True)
    with Backend() as backend:
        given_up = Talk(backend).cancel(message=message, target=target)
    if message and not given_up:
        raise NotFound(
            f"no message of yours with the id {one_line(message, 40)} waits any more: `fog chat"
            " log` shows how far it is"
        )
    if json:
        print_json({"cancelled": given_up})
    else:
        write(f"{counted(len(given_up), 'message')} given up\n")
        if given_up:
            note("what has left this machine may arrive all the same; the mark changes then")
    return 0


def log(
    who: Annotated[str, Parameter(help="Only messages with this person.")] = "",
    /,
    *,
    room: Room = "",
    limit: Annotated[int, Parameter(help="How many of the newest, 1 to 1000.")] = 50,
    ids: Annotated[
        bool,
        Parameter(name="--ids", negative=(), help="With ids, which `cancel` and `save --id` take."),
    ] = False,
    follow: Annotated[
        bool, Parameter(name=("--follow", "-f"), negative=(), help="Go on with what comes.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Print messages, oldest first, in the time of this machine; those of strangers are marked.

    Below a message of yours stands why it waits, or failed, and for whom.

    With --follow it goes on, and with --json too each message is then an object of its own line.

    For example: `fog chat log ada --follow`
    """
    if not 1 <= limit <= 1000:
        raise CommandError(f"--limit {limit}: give 1 to 1000", USAGE)
    target = target_of(who, room, needed=False)
    with Backend() as backend:
        talk = Talk(backend)
        cursor = talk.events("", 0)["next"] if follow else ""
        found = talk.log(target, 0, limit)
        names = {} if json else talk.names()
        if json and not follow:
            print_json(found["messages"])
            return 0
        days = Days()
        for message in found["messages"]:
            _print(message, names, days, ids=ids, as_json=json)
        shown = found["next"]
        while follow:
            events = talk.events(cursor, WAIT_S)
            cursor = events["next"]
            if events["events"]:
                more = talk.log(target, shown, 1000)
                shown = more["next"]
                names = talk.names() if more["messages"] and not json else names
                for message in more["messages"]:
                    _print(message, names, days, ids=ids, as_json=json)
    return 0


def me(*, json: JsonFlag = False) -> int:
    """Show who you are here: name, words, and what carries your messages.

    For example: `fog chat me`
    """
    with Backend() as backend:
        found = Talk(backend).me(check=True)
    if json:
        print_json(found)
    else:
        write("\n".join(one_line(line) for line in me_lines(found)) + "\n")
    return 0


def who(*, json: JsonFlag = False) -> int:
    """Show who can be reached now, and over what.

    For example: `fog chat who`
    """
    with Backend() as backend:
        found = Talk(backend).near()
    if json:
        print_json(found["peers"])
    else:
        write("\n".join(one_line(line) for line in who_lines(found)) + "\n")
    return 0


def trace(who: Who, /, *, json: JsonFlag = False) -> int:
    """Show how a message to somebody would go, and why not otherwise.

    For example: `fog chat trace ada`
    """
    with Backend() as backend:
        found = Talk(backend).trace(who)
    if json:
        print_json(found)
    else:
        write("\n".join(one_line(line) for line in trace_lines(found)) + "\n")
    return 0


def wipe(
    *,
    force: Annotated[
        bool, Parameter(name="--force", negative=(), help="Ask nothing: destroy it now.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Destroy your keys, your messages, whom you know, and the mixnet client: for emergencies.

    Nothing of it can be brought back, and you are somebody new afterwards. What was sent to others
    stays with them.

    For example: `fog chat wipe --force`
    """
    if not force:
        if not os.isatty(STDIN):
            raise CommandError(
                "without a terminal, say --force: nothing can be brought back", USAGE
            )
        note(f"this destroys your keys and all your messages: type {WIPE} to do it")
        if sys.stdin.readline(100).strip() != WIPE:
            raise CommandError("nothing was destroyed", FAILED)
    with Backend() as backend:
        done = backend.post(f"{CHAT}/wipe", Wiped, {"confirm": WIPE})
    if json:
        print_json(done)
    else:
        write("everything is destroyed\n" if done["wiped"] else "there was nothing to destroy\n")
    return 0


def target_of(who: str, room: str, *, needed: bool) -> Target:
    """Whom a person and a room mean, of which at most one may be given."""
    if who and room:
        raise CommandError("a message goes to a person or to a room: give one of them", USAGE)
    if needed and not who and not room:
        raise CommandError("say to whom it goes: a name, or --room", USAGE)
    return Target(person=who, room=room.removeprefix("#"))


def _lines(talk: Talk, target: Target, *, as_json: bool) -> int:
    """Send each line of standard input."""
    if target == Target():
        raise CommandError(
            "say to whom the lines go: a name, or --room; `fog chat log` prints what came", USAGE
        )
    while line := sys.stdin.readline(LONGEST_TEXT):
        if text := line.strip("\r\n"):
            sent = talk.say(target, text)
            if as_json:
                print_json(sent)
            else:
                write(f"{one_line(sent['id'], 255)}\n")
    return 0


def _print(
    message: Message, names: dict[str, str], days: Days, *, ids: bool, as_json: bool
) -> None:
    if as_json:
        print_json(message)
        return
    if day := days.line(message):
        write(f"{day}\n")
    line = line_of(message, names, unicode=speaks_unicode(), zone=days.zone)
    write(f"{one_line(message['id'], 255)}  {line}\n" if ids else f"{line}\n")


def _until_delivered(talk: Talk, sent: Sent, cursor: str, seconds: float, moving: Moving) -> str:
    """Wait until all recipients have a message, showing how much has gone; the last state."""
    state, left = "queued", set(sent["receivers"])
    try:
        with Patience(seconds):
            while left:
                events = talk.events(cursor, WAIT_S)
                cursor = events["next"]
                for one in events["events"]:
                    delivery, moved = one["delivery"], one["moved"]
                    if moved is not None and moved["id"] == sent["id"]:
                        moving.show(moved)
                    if delivery is not None and delivery["id"] == sent["id"]:
                        state = delivery["state"]
                        _check_failed(delivery)
                        if has_it(delivery):
                            left.discard(delivery["receiver"])
    except OutOfTime:
        whom = "" if len(left) == len(sent["receivers"]) else f" to {len(left)} of its recipients"
        raise CommandError(
            f"message {sent['id']} is not delivered{whom} after {format_duration(seconds)}, and"
            " still goes out: `fog chat log` shows how far it is",
            TIMED_OUT,
            beside={"id": sent["id"], "state": state},
        ) from None
    except KeyboardInterrupt:
        raise CommandError(
            f"interrupted; message {sent['id']} still goes out: `fog chat cancel {sent['id']}`"
            " gives it up",
            INTERRUPTED,
            beside={"id": sent["id"], "state": state},
        ) from None
    return state


def _check_failed(delivery: Delivery) -> None:
    if delivery["state"] in ("failed", "expired"):
        raise CommandError(
            f"message {delivery['id']} {delivery['state']}: {one_line(delivery['reason'])}",
            kind="not-delivered",
            beside={"id": delivery["id"], "state": delivery["state"]},
        )
