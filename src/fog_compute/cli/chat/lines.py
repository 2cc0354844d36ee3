"""What a person types into a conversation, and how messages are shown: no input or output here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final, TypeAlias

from fog_compute.client.people import Delivery, Me, Message, Near, Trace
from fog_compute.rooms import ALL_NEAR, NEAR
from fog_compute.text import counted, one_line, printable
from fog_compute.units import format_bytes

__all__ = [
    "HELP",
    "Days",
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
    "hearers_line",
    "line_of",
    "local",
    "mark_of",
    "me_lines",
    "name_of",
    "read_line",
    "room_name",
    "trace_lines",
    "who_lines",
]

MAX_SHOWN: Final = 4000
MORE: Final = "      | "

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

WORDS: Final[Mapping[str, str]] = {
    "queued": "waiting",
    "sending": "waiting",
    "accepted": "on its way",
    "stored": "stored for them",
    "delivered": "delivered",
    "read": "read",
    "failed": "failed",
    "expired": "expired",
}
"""What a state is called wherever a person reads of it."""


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


def local(at: str, zone: tzinfo | None = None) -> datetime:
    """A time of an answer, which is UTC, where the reader is; ``zone`` is that of the machine."""
    return datetime.fromisoformat(at).astimezone(zone)


class Days:
    """Says which day it is above the first message of each, with the zone of all times."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        """Nothing was said yet; ``zone`` is that of the machine where none is given."""
        self.zone: Final = zone
        self._said = ""

    def line(self, message: Message) -> str:
        """A line to be shown before a message; empty within a day."""
        day = local(message["at"], self.zone).strftime("%A, %Y-%m-%d, UTC%z")
        before, self._said = self._said, day
        return "" if day == before else f"-- {day[:-2]}:{day[-2:]}"


def line_of(
    message: Message,
    names: Mapping[str, str],
    *,
    unicode: bool = True,
    zone: tzinfo | None = None,
) -> str:
    """One message for a person: time, who, what, how far it is, and below it why no further."""
    at = f"{local(message['at'], zone):%H:%M}"
    if message["kind"] == "control":
        known = message["room"] in names
        what = f"[{'who is in the group has changed' if known else 'you are not in the group'}]"
    elif message["text"] is None:
        size = "" if message["size"] is None else f", {format_bytes(message['size'])}"
        what = f"[file {one_line(message['name'] or 'without a name', 80)}{size}]"
    else:
        # Every further line has a mark, so that nobody's text looks like a message of another.
        what = printable(message["text"], MAX_SHOWN).replace("\n", f"\n{MORE}")
    where = f" #{room_name(message, names)}" if message["room"] or message["to"] is None else ""
    if message["outgoing"]:
        to = message["to"]
        whom = "" if to is None else f" to {one_line(names.get(to, to[:8]), 40)}"
        mark = mark_of(message["states"], unicode=unicode)
        line = f"{at}{where} you{whom}: {what}  {mark}".rstrip()
        return "\n".join((line, *_whys(message, names)))
    doubt = "" if message["verified"] else " (not proved)"
    stranger = "" if message["known"] else " (a stranger)"
    return f"{at}{where} {one_line(message['shown'], 40)}{stranger}{doubt}: {what}"


def _whys(message: Message, names: Mapping[str, str]) -> list[str]:
    """Why a message is no further, a line for each reason, and for whom."""
    whom: dict[tuple[str, str], list[str]] = {}
    for receiver, reason in message["reasons"].items():
        if reason:
            state = WORDS.get(message["states"].get(receiver, ""), "waiting")
            whom.setdefault((state, reason), []).append(name_of(receiver, names))
    return [
        f"      {state} for {one_line(', '.join(some), 80)}: {one_line(reason)}"
        for (state, reason), some in whom.items()
    ]


def name_of(receiver: str, names: Mapping[str, str]) -> str:
    """What a recipient is called."""
    if receiver == ALL_NEAR:
        return "all who are near"
    return one_line(names.get(receiver, receiver[:8]), 40)


def hearers_line(reasons: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Of a message that was just sent: whom nothing reaches now, and why; empty if all are."""
    if not reasons:
        return ""
    whom = one_line(", ".join(name_of(one, names) for one in reasons), 80)
    why = one_line("; ".join(dict.fromkeys(reasons.values())))
    return f"nothing reaches {whom} now ({why})"


def room_name(message: Message, names: Mapping[str, str]) -> str:
    """What a room is called: its group's name, or near."""
    room = message["room"]
    if not room:
        return NEAR
    name = one_line(names.get(room, room[:8]), 40)
    # A group that somebody called so must not look like what all who are near hear.
    return f"{name}#{room[:4]}" if name.strip().casefold() == NEAR else name


def delivery_line(delivery: Delivery, names: Mapping[str, str]) -> str:
    """What became of a message, where a person should know; empty otherwise."""
    if delivery["state"] not in ("failed", "expired"):
        return ""
    to = name_of(delivery["receiver"], names)
    return f"the message to {to} {delivery['state']}: {one_line(delivery['reason'])}"


def who_lines(near: Near) -> list[str]:
    """Who can be reached, a line each, and what reaches nobody."""
    lines = [
        f"{one['peer']['shown']}: "
        + ", ".join(f"{transport} ({how})" for transport, how in one["ways"].items())
        for one in near["peers"]
    ]
    nobody = "nobody can be reached now: add a card with `fog peer add`, or wait"
    return [*(lines or [nobody]), *(f"not over {on}: {why}" for on, why in near["reasons"].items())]


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
        ready = "ready" * one["available"]
        state = ", but ".join(filter(None, (ready, one["reason"])))
        level = f" at {me['level']}" if one["name"] == "htx" else ""
        lines.append(f"{one['name']}{level}: {state}")
    if me["waiting"]:
        counts: dict[str, int] = {}
        for state, number in me["outbox"].items():
            counts[WORDS.get(state, state)] = counts.get(WORDS.get(state, state), 0) + number
        some = ", ".join(f"{number} {word}" for word, number in counts.items())
        lines.append(f"not delivered yet: {some}")
    return lines
