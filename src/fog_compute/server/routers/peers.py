"""People: whom one knows, made contacts by their cards, verified, blocked, forgotten."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Path, Query

from fog_compute.errors import NotFound
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.server.dependencies import Services
from fog_compute.server.openapi import answers
from fog_compute.server.peer_schemas import BlockIn, CardIn, NameIn, PeerOut, PeersOut, WordsIn

__all__ = ["Fingerprint", "router"]

router = APIRouter(tags=["chat"])

Fingerprint: TypeAlias = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="Whose: 64 hexadecimal digits.")
]


@router.get("/peers")
async def show_peers(services: Services) -> PeersOut:
    """List the people whom one knows, and those whom one met; contacts first, by name."""
    people = await services.get_service("messaging").people()
    found = sorted(people.book, key=lambda one: (not one.is_kept, one.shown.lower()))
    return PeersOut(peers=[PeerOut.of(one) for one in found])


@router.post("/peers", status_code=HTTPStatus.CREATED, responses=answers(409))
async def add_peer(card: CardIn, services: Services) -> PeerOut:
    """Make somebody a contact by their card; a newer card replaces an older one."""
    people = await services.get_service("messaging").people()
    read = ContactCard.parse(card.card)
    return PeerOut.of(await people.change(lambda now: people.book.add(read, now, card.petname)))


@router.get("/peers/find", responses=answers(404))
async def find_peer(
    services: Services,
    name: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description="One's own name for them, theirs, their fingerprint, or at least four"
            " digits with which it begins.",
        ),
    ],
) -> PeerOut:
    """Say whom a name means; several are told in the detail."""
    people = await services.get_service("messaging").people()
    return PeerOut.of(people.book.find(name))


@router.get("/peers/{fingerprint}", responses=answers(404))
async def get_peer(fingerprint: Fingerprint, services: Services) -> PeerOut:
    """Show one person."""
    people = await services.get_service("messaging").people()
    peer = people.book.get(fingerprint)
    if peer is None:
        raise NotFound(f"nobody has the fingerprint {fingerprint}")
    return PeerOut.of(peer)


@router.post("/peers/{fingerprint}/verify", responses=answers(404, 409))
async def verify_peer(fingerprint: Fingerprint, read: WordsIn, services: Services) -> PeerOut:
    """Note that somebody read these words aloud; others than theirs are refused."""
    people = await services.get_service("messaging").people()
    words = read.words
    return PeerOut.of(await people.change(lambda _: people.book.verify(fingerprint, words)))


@router.post("/peers/{fingerprint}/block", responses=answers(404))
async def block_peer(fingerprint: Fingerprint, block: BlockIn, services: Services) -> PeerOut:
    """Let nothing of somebody's be shown, or let it again."""
    people = await services.get_service("messaging").people()
    blocked = block.blocked
    return PeerOut.of(await people.change(lambda _: people.book.block(fingerprint, blocked)))


@router.post("/peers/{fingerprint}/name", responses=answers(404))
async def name_peer(fingerprint: Fingerprint, name: NameIn, services: Services) -> PeerOut:
    """Call somebody by a name of one's own."""
    people = await services.get_service("messaging").people()
    petname = name.petname
    return PeerOut.of(await people.change(lambda _: people.book.rename(fingerprint, petname)))


@router.delete("/peers/{fingerprint}", responses=answers(404))
async def forget_peer(fingerprint: Fingerprint, services: Services) -> PeerOut:
    """Forget somebody: keys, names and addresses; the answer is who it was."""
    people = await services.get_service("messaging").people()
    return PeerOut.of(await people.change(lambda _: people.book.remove(fingerprint)))
