"""``fog peer``: whom one knows."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, print_json, print_table
from fog_compute.cli.output import is_terminal, write
from fog_compute.client.people import Me, Peer, Peers
from fog_compute.descriptors import STDIN
from fog_compute.reading import TooLarge, read_descriptor
from fog_compute.text import one_line

__all__ = ["Who", "add", "block", "card", "find", "ls", "name", "rm", "verify"]

PEERS: Final = "/api/v1/peers"
LONGEST_CARD: Final = 8192
JOIN_TRIES: Final = 40
JOIN_PAUSE_S: Final = 0.5

Who = Annotated[
    str,
    Parameter(help="The person: your name for them, theirs, or how their fingerprint begins."),
]


def ls(*, json: JsonFlag = False) -> int:
    """List the people you know, and those you met; contacts first.

    Behind a stranger's name stand the first digits of the fingerprint: anybody can take any name.

    For example: `fog peer ls`
    """
    with Backend() as backend:
        peers = backend.get(PEERS, Peers)["peers"]
    if json:
        print_json(peers)
        return 0
    print_table(
        ("NAME", "FINGERPRINT", "TRUST", "REACHED AT", "LAST SEEN"),
        [
            (
                one["shown"],
                one["fingerprint"][:16],
                _trust(one),
                ",".join(one["levels"]) or "-",
                _minute(one["last_seen_at"]),
            )
            for one in peers
        ],
    )
    return 0


def add(
    card_text: Annotated[
        str,
        Parameter(
            name="CARD",
            allow_leading_hyphen=True,
            help="The card, fogcard1…; a dash reads it from standard input.",
        ),
    ],
    /,
    *,
    name: Annotated[str, Parameter(name="--as", help="What you call them yourself.")] = "",
    json: JsonFlag = False,
) -> int:
    """Make somebody a contact by their card; a newer card brings a new address.

    They send you theirs, which `fog peer card` prints. Compare words afterwards: `fog peer verify`.

    For example: `fog peer add fogcard1… --as ada`
    """
    text = _standard_input() if card_text == "-" else card_text
    if not text.strip():
        raise CommandError("no card was given: it begins with fogcard1", USAGE)
    with Backend() as backend:
        peer = backend.post(PEERS, Peer, {"card": text, "petname": name})
    if json:
        print_json(peer)
        return 0
    write(f"{one_line(peer['shown'], 40)} is a contact\n")
    if peer["trust"] != "verified":
        note(f"to be sure that it is them: `fog peer verify {peer['fingerprint'][:12]}`")
    return 0


def card(*, json: JsonFlag = False) -> int:
    """Print your own card, to be given to others; it is made when you first ask.

    Whoever has it can write to you, and learns the address of your mailboxes, and no more. On a
    terminal your words stand below: read them to who wants to verify you.

    For example: `fog peer card`
    """
    with Backend() as backend:
        me = _with_address(backend)
    if me["card"] is None:
        reasons = "; ".join(one["reason"] for one in me["transports"] if one["reason"])
        raise CommandError(
            f"there is no address to put on a card yet: {reasons or 'the network is not joined'}",
            kind="service-unavailable",
        )
    if json:
        print_json(me)
        return 0
    write(one_line(me["card"], len(me["card"])) + "\n")
    if is_terminal():
        note(f"your words: {' '.join(me['words'])}")
    return 0


def verify(
    who: Who,
    words: Annotated[
        tuple[str, ...], Parameter(help="The twelve words that they read; three letters will do.")
    ] = (),
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Compare words with somebody, over the telephone or face to face, and note that they match.

    They read theirs, which `fog peer card` shows them. Without words, the command prints which
    they should be; it notes nothing then.

    For example: `fog peer verify ada`
    """
    with Backend() as backend:
        peer = find(backend, who)
        if words:
            path = f"{PEERS}/{peer['fingerprint']}/verify"
            # In quotation marks they come as one argument.
            read = " ".join(words).split()
            peer = backend.post(path, Peer, {"words": read})
    if json:
        print_json(peer)
        return 0
    if words:
        write(f"{one_line(peer['shown'], 40)} is verified\n")
        return 0
    write(f"{one_line(' '.join(peer['words']))}\n")
    note(
        f"if {peer['shown']} reads the same, give them: `fog peer verify"
        f" {peer['fingerprint'][:12]} WORDS`"
    )
    return 0


def name(
    who: Who,
    petname: Annotated[
        str, Parameter(name="NAME", help='What you call them; empty, `""`, for their own name.')
    ],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Call somebody by a name of your own, which they never see.

    For example: `fog peer name b0b0b0b0 bobby`
    """
    with Backend() as backend:
        before = find(backend, who)
        path = f"{PEERS}/{before['fingerprint']}/name"
        peer = backend.post(path, Peer, {"petname": petname})
    if json:
        print_json(peer)
    else:
        write(f"{one_line(before['shown'], 40)} is {one_line(peer['shown'], 40)} from now on\n")
    return 0


def block(
    who: Who,
    /,
    *,
    undo: Annotated[bool, Parameter(negative=(), help="Let them be heard again.")] = False,
    json: JsonFlag = False,
) -> int:
    """Let nothing of somebody's be shown any more; they are not told.

    For example: `fog peer block spammer`
    """
    with Backend() as backend:
        peer = find(backend, who)
        path = f"{PEERS}/{peer['fingerprint']}/block"
        peer = backend.post(path, Peer, {"blocked": not undo})
    if json:
        print_json(peer)
    else:
        state = "blocked" if peer["blocked"] else "not blocked"
        write(f"{one_line(peer['shown'], 40)} is {state}\n")
    return 0


def rm(who: Who, /, *, json: JsonFlag = False) -> int:
    """Forget somebody: their keys, names and addresses. Met again, they are a stranger.

    For example: `fog peer rm ada`
    """
    with Backend() as backend:
        peer = find(backend, who)
        peer = backend.delete(f"{PEERS}/{peer['fingerprint']}", Peer)
    if json:
        print_json(peer)
    else:
        write(f"{one_line(peer['shown'], 40)} is forgotten\n")
    return 0


def find(backend: Backend, who: str) -> Peer:
    """Whom a person means; only the backend can tell."""
    if not who.strip():
        raise CommandError("an empty name is nobody's: see `fog peer ls`", USAGE)
    return backend.get(f"{PEERS}/find", Peer, name=who[:200])


def _with_address(backend: Backend) -> Me:
    """Who one is; where the mixnet is only being joined, after a moment."""
    tries = JOIN_TRIES
    while True:
        me = backend.get("/api/v1/chat", Me)
        tries -= 1
        if me["card"] is not None or not tries:
            return me
        if tries == JOIN_TRIES - 1:
            note("joining the mixnet for the first time takes a moment")
        time.sleep(JOIN_PAUSE_S)


def _minute(at: str | None) -> str:
    """A time where the reader is, with how far that is from UTC."""
    if at is None:
        return "never"
    return datetime.fromisoformat(at).astimezone().isoformat(" ", "minutes")


def _trust(peer: Peer) -> str:
    if peer["blocked"]:
        return "blocked"
    return f"{peer['trust']}, key refused" if peer["key_refused_at"] else peer["trust"]


def _standard_input() -> str:
    if os.isatty(STDIN):
        note("paste the card, and end with Ctrl-D")
    try:
        data = read_descriptor(STDIN, LONGEST_CARD, "standard input")
    except TooLarge as error:
        raise CommandError(f"that is no card: {error.strerror}", USAGE) from None
    return one_line(data.decode("ascii", "replace"), LONGEST_CARD)
