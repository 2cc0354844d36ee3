"""What a person types into a conversation, and how messages are shown: no input or output here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from fog_compute.client.people import Delivery, Me, Message, Near, Trace
from fog_compute.text import counted, one_line, printable
from fog_compute.units import format_bytes

__all__ = [
    "HELP",
    "Help",
    "Leave",
    "Mistake",
    "Open",
    "Said",
    "Say",
    "SayTo",
    "ShowMe",
    "ShowRooms",
    "ShowTrace",
    "ShowWho",
    "Target",
    "delivery_line",
    "line_of",
    "mark_of",
    "me_lines",
    "read_line",
    "room_name",
    "trace_lines",
    "who_lines",
]

MAX_SHOWN: Final = 4000

HELP: Final = """\
Type a line to say it to whom the conversation is with.
/msg NAME TEXT   say something to somebody; without a text, talk to them from now on
/room NAME       talk to a group; /room near: to all who are near
/rooms           the conversations so far
/who             who can be reached, and how
/trace NAME      how a message to somebody would go
/me              your name, your words, and what carries your messages
/help            this
/quit            leave; messages still come, and wait for you
Marks: · waiting  > on its way  ✓ stored for them  ✓✓ delivered  ✓✓ read  ! failed"""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom one talks to: a person by name, or a room. Neither: nobody yet."""

    person: str = ""
    room: str = ""

    @property
    def shown(self) -> str:
        """How it is called."""
        return f"#{self.room}" if self.room else self.person or "nobody"


@dataclass(frozen=True, slots=True)
class Say:
    """Say something in the conversation that is open."""

    text: str


@dataclass(frozen=True, slots=True)
class SayTo:
    """Say something to somebody."""

    person: str
    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """Talk to somebody else from now on."""

    target: Target


@dataclass(frozen=True, slots=True)
class ShowTrace:
    """Show how a message would go."""

    person: str


@dataclass(frozen=True, slots=True)
class ShowWho:
    """Show who can be reached."""


@dataclass(frozen=True, slots=True)
class ShowMe:
    """Show who one is."""


@dataclass(frozen=True, slots=True)
class ShowRooms:
    """Show the conversations so far."""


@dataclass(frozen=True, slots=True)
class Help:
    """Show what can be typed."""


@dataclass(frozen=True, slots=True)
class Leave:
    """End."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What was typed means nothing."""

    why: str


Said: TypeAlias = (
    Say | SayTo | Open | ShowTrace | ShowWho | ShowMe | ShowRooms | Help | Leave | Mistake
)

_ALONE: Final[Mapping[str, Said]] = {
    "/who": ShowWho(),
    "/me": ShowMe(),
    "/rooms": ShowRooms(),
    "/help": Help(),
    "/quit": Leave(),
}


def read_line(line: str) -> Said | None:
    """What a line means; None of an empty one. A text that begins with a slash takes two."""
    text = line.strip()
    if not text:
        return None
    if text.startswith("//"):
        return Say(text[1:])
    if not text.startswith("/"):
        return Say(text)
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word in _ALONE:
        return Mistake(f"{word} stands alone") if rest else _ALONE[word]
    return _with_name(word, rest)


def _with_name(word: str, rest: str) -> Said:
    name, _, text = rest.partition(" ")
    match word:
        case "/msg" if name and text.strip():
            return SayTo(name, text.strip())
        case "/msg" if name:
            return Open(Target(person=name))
        case "/room" if rest:
            return Open(Target(room=rest.removeprefix("#")))
        case "/trace" if rest:
            return ShowTrace(rest)
        case "/msg" | "/room" | "/trace":
            return Mistake(f"{word} wants a name: see /help")
        case _:
            return Mistake(f"{one_line(word, 40)} is no command: see /help")


_MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "queued": ("·", "."),
    "sending": ("·", "."),
    "accepted": (">", ">"),
    "stored": ("✓", "v"),
    "delivered": ("✓✓", "vv"),
    "read": ("✓✓ read", "vv read"),
    "failed": ("! failed", "! failed"),
    "expired": ("! expired", "! expired"),
}
_ORDER: Final = tuple(_MARKS)


def mark_of(states: Mapping[str, str], *, unicode: bool = True) -> str:
    """How far a message of one's own is, with the recipient for whom it is least far."""
    if not states:
        return ""
    least = min(states.values(), key=lambda state: _ORDER.index(state) if state in _MARKS else 0)
    mark = _MARKS.get(least, ("?", "?"))[0 if unicode else 1]
    if len(states) == 1:
        return mark
    there = sum(state in ("delivered", "read") for state in states.values())
    return f"{mark} {there}/{len(states)}"


def line_of(message: Message, names: Mapping[str, str], *, unicode: bool = True) -> str:
    """One message for a person: time, who, what, and how far it is."""
    at = message["at"][11:16]
    if message["kind"] == "control":
        what = "[who is in the group has changed]"
    elif message["text"] is None:
        size = "" if message["size"] is None else f", {format_bytes(message['size'])}"
        what = f"[file {one_line(message['name'] or 'without a name', 80)}{size}]"
    else:
        what = printable(message["text"], MAX_SHOWN)
    where = f" #{room_name(message, names)}" if message["room"] or message["to"] is None else ""
    if message["outgoing"]:
        to = message["to"]
        whom = "" if to is None else f" to {one_line(names.get(to, to[:8]), 40)}"
        mark = mark_of(message["states"], unicode=unicode)
        return f"{at}{where} you{whom}: {what}  {mark}".rstrip()
    doubt = "" if message["verified"] else " (not proved)"
    stranger = "" if message["known"] else " (a stranger)"
    return f"{at}{where} {one_line(message['shown'], 40)}{stranger}{doubt}: {what}"


def room_name(message: Message, names: Mapping[str, str]) -> str:
    """What a room is called: its group's name, or near."""
    room = message["room"]
    return one_line(names.get(room, room[:8]), 40) if room else "near"


def delivery_line(delivery: Delivery, names: Mapping[str, str]) -> str:
    """What became of a message, where a person should know; empty otherwise."""
    if delivery["state"] not in ("failed", "expired"):
        return ""
    to = one_line(names.get(delivery["receiver"], delivery["receiver"][:8]), 40)
    return f"the message to {to} {delivery['state']}: {one_line(delivery['reason'])}"


def who_lines(near: Near) -> list[str]:
    """Who can be reached, a line each."""
    if not near["peers"]:
        return ["nobody can be reached now: add a card with `fog peer add`, or wait"]
    return [
        f"{one['peer']['shown']}: "
        + ", ".join(f"{transport} ({how})" for transport, how in one["ways"].items())
        for one in near["peers"]
    ]


def trace_lines(trace: Trace) -> list[str]:
    """How a message would go."""
    name = trace["peer"]["shown"]
    lines = [f"{name} over {transport}: {how}" for transport, how in trace["ways"].items()]
    if trace["hops"] is not None:
        took = "" if trace["round_trip_ms"] is None else f", {trace['round_trip_ms']:.0f} ms"
        lines.append(f"over the Bluetooth mesh: {counted(trace['hops'], 'hop')}{took}")
    lines += [f"not over {name_}: {why}" for name_, why in trace["reasons"].items()]
    return lines or [f"nothing is known of how to reach {name}"]


def me_lines(me: Me) -> list[str]:
    """Who one is, and what carries one's messages."""
    lines = [
        f"you are {me['name'] or 'without a name'}, {me['fingerprint'][:16]}",
        f"your words: {' '.join(me['words'])}",
    ]
    for one in me["transports"]:
        state = "ready" if one["available"] else one["reason"]
        level = f" at {me['level']}" if one["name"] == "htx" else ""
        lines.append(f"{one['name']}{level}: {state}")
    if me["waiting"]:
        lines.append(f"waiting to go out: {me['waiting']}")
    return lines
