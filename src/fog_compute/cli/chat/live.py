"""The conversation on a terminal: what comes above, a line to type below."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import Input, RichLog, Static

from fog_compute.cli.chat import lines
from fog_compute.cli.chat.lines import Said, Target, read_line
from fog_compute.cli.chat.talking import Talk
from fog_compute.cli.client import Backend
from fog_compute.client.asking import WAIT_S
from fog_compute.client.people import ChatEvents, Log, Me, Message
from fog_compute.client.places import Place
from fog_compute.errors import FogError
from fog_compute.text import one_line

__all__ = ["Conversation", "talk_live"]

EARLIER: Final = 50
"""Messages of before that are shown at first."""
AGAIN_S: Final = 2.0
KEPT_LINES: Final = 5000


def talk_live(place: Place, target: Target, me: Me) -> None:
    """Talk until the person leaves."""
    Conversation(lambda: Talk(Backend(place)), target, me).run()


class Lines(RichLog):
    """What was said, wrapped to the width that there is, again whenever that changes."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__(id="log", wrap=True, markup=False, max_lines=KEPT_LINES, min_width=1)
        self._said: Final[deque[str]] = deque(maxlen=KEPT_LINES)
        self._width = 0

    def say(self, line: str) -> None:
        """Show a line."""
        self._said.append(line)
        self.write(Text(line))

    def on_resize(self, event: Resize) -> None:
        """Wrap all of it anew."""
        before, self._width = self._width, event.size.width
        if before and before != self._width:
            self.clear()
            for line in self._said:
                self.write(Text(line))


class Conversation(App[None]):
    """Shows what comes, and sends what is typed; the backend is asked in threads beside it."""

    CSS: ClassVar[str] = """
    Static { height: 1; }
    Lines { height: 1fr; }
    Input { height: 1; border: none; padding: 0; }
    """
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", "leave", priority=True),
        Binding("ctrl+d", "quit", "leave", priority=True),
    ]

    def __init__(self, talk: Callable[[], Talk], target: Target, me: Me) -> None:
        """Talk to ``target``; each thread asks by a ``talk()`` of its own."""
        super().__init__()
        self._talk: Final = talk
        self._target = target
        self._me: Final = me
        self._names: dict[str, str] = {}
        self._days: Final = lines.Days()
        self._stop: Final = threading.Event()
        self._typed: Final[list[Said]] = []
        self._typing: Final = threading.Condition()

    def compose(self) -> ComposeResult:
        """Who one talks to, the messages, what happens, the line."""
        yield Static(id="head", markup=False)
        yield Lines()
        yield Static(id="trouble", markup=False)
        yield Input(placeholder="a message, or /help")

    def on_mount(self) -> None:
        """Begin."""
        self._head()
        self.query_one(Input).focus()
        for work in (self._listen, self._send):
            threading.Thread(target=work, name="chat", daemon=True).start()

    def on_unmount(self) -> None:
        """Let the threads end."""
        self._stop.set()
        with self._typing:
            self._typing.notify_all()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take a line."""
        said = read_line(event.value)
        event.input.clear()
        match said:
            case None:
                return
            case lines.Leave():
                self.exit()
            case lines.Help():
                self._tell(lines.HELP)
            case lines.Mistake(why):
                self._tell(f"! {why}")
            case lines.Open(target):
                self._target = target
                self._head()
            case _:
                with self._typing:
                    self._typed.append(said)
                    self._typing.notify_all()

    # In threads

    def _listen(self) -> None:
        """Show what came before, and then what comes."""
        talk: Talk | None = None
        cursor, shown = "", 0
        while not self._stop.is_set():
            try:
                if talk is None:
                    talk = self._talk()
                if not cursor:
                    cursor = talk.events("", 0)["next"]
                    earlier = talk.log(Target(), shown, EARLIER)
                    shown = earlier["next"]
                    self._hand_over(self._show, talk.names(), earlier)
                events = talk.events(cursor, WAIT_S)
                cursor = events["next"]
                if events["events"]:
                    more = talk.log(Target(), shown, 1000)
                    shown = more["next"]
                    self._hand_over(self._show, talk.names(), more, events)
                    talk.mark_read(more["messages"])
                self._hand_over(self._trouble, "")
            except FogError as error:
                talk = None
                self._hand_over(self._trouble, str(error))
                self._stop.wait(AGAIN_S)

    def _send(self) -> None:
        """Do what was typed, in its order."""
        talk: Talk | None = None
        while True:
            with self._typing:
                while not self._typed and not self._stop.is_set():
                    self._typing.wait()
                if self._stop.is_set():
                    return
                said = self._typed.pop(0)
            try:
                talk = talk or self._talk()
                text = self._do(talk, said)
            except FogError as error:
                text = f"! {error}"
            if text:
                self._hand_over(self._tell, text)

    def _do(self, talk: Talk, said: Said) -> str:
        match said:
            case lines.Say(text):
                return self._say(talk, self._target, text)
            case lines.SayTo(person, text):
                return self._say(talk, Target(person=person), text)
            case lines.ShowMe():
                return "\n".join(lines.me_lines(talk.me(check=True)))
            case lines.ShowWho():
                return "\n".join(lines.who_lines(talk.near()))
            case lines.ShowTrace(person):
                return "\n".join(lines.trace_lines(talk.trace(person)))
            case lines.ShowRooms():
                return _rooms(talk.log(Target(), 0, 1000)["messages"], talk.names())
            case _:
                return ""

    def _say(self, talk: Talk, target: Target, text: str) -> str:
        """Send a line; what is to be known of it at once."""
        why = lines.hearers_line(talk.say(target, text)["reasons"], self._names)
        return f"      {why}; it waits" if why else ""

    def _hand_over(self, show: Callable[..., None], *what: object) -> None:
        if not self._stop.is_set() and self.is_running:
            self.call_from_thread(show, *what)

    # Drawing

    def _show(self, names: dict[str, str], log: Log, events: ChatEvents | None = None) -> None:
        self._names = names
        for message in log["messages"]:
            self._tell(self._days.line(message))
            self._tell(lines.line_of(message, names, zone=self._days.zone))
        for one in () if events is None else events["events"]:
            delivery = one["delivery"]
            if delivery is None:
                continue
            text = lines.delivery_line(delivery, names)
            if text:
                self._tell(f"! {text}")
            elif delivery["state"] in ("delivered", "read"):
                mark = lines.mark_of({"": delivery["state"]})
                self._tell(f"      {mark} {lines.name_of(delivery['receiver'], names)}")

    def _trouble(self, why: str) -> None:
        self.query_one("#trouble", Static).update(Text(one_line(f"! {why}") if why else ""))

    def _tell(self, text: str) -> None:
        log = self.query_one(Lines)
        for line in text.splitlines():
            log.say(line)

    def _head(self) -> None:
        me = one_line(self._me["name"] or self._me["fingerprint"][:8], 40)
        head = f"{me}, talking to {one_line(self._target.shown, 60)}; /help"
        self.query_one("#head", Static).update(Text(head, no_wrap=True, overflow="ellipsis"))


def _rooms(messages: list[Message], names: dict[str, str]) -> str:
    """The conversations that messages are of, the newest last."""
    found: dict[str, None] = {}
    for one in messages:
        other = one["to"] if one["outgoing"] else one["sender"]
        if one["room"] or other is None:
            name = f"#{lines.room_name(one, names)}"
        else:
            name = names.get(other, other[:8])
        found.pop(name, None)
        found[name] = None
    return "\n".join(one_line(name, 80) for name in found) or "no conversations yet"
