"""Making, changing and leaving groups, as their rosters are to be."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final

from fog_compute.errors import NotFound
from fog_compute.p2p.core.actions import Action
from fog_compute.p2p.core.contacts import NameTaken, PeerBook
from fog_compute.p2p.core.groups import Groups, NotMaker
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import InvalidMessage
from fog_compute.p2p.core.outbox import OutboxFull
from fog_compute.p2p.core.peer import alike
from fog_compute.p2p.core.rosters import NO_KEY, Member, Roster
from fog_compute.p2p.core.router import Router
from fog_compute.p2p.driver import RouterDriver
from fog_compute.p2p.store_book import StoreBook
from fog_compute.rooms import NEAR
from fog_compute.text import one_line

__all__ = ["OwnGroups"]


class OwnGroups:
    """One person's say in groups."""

    def __init__(
        self,
        identity: Identity,
        name: str,
        contacts: PeerBook,
        groups: Groups,
        router: Router,
        driver: RouterDriver,
        book: StoreBook,
    ) -> None:
        """Speak for ``identity``, whom others see as ``name``, in ``groups``."""
        self._identity: Final = identity
        self._name: Final = name
        self._contacts: Final = contacts
        self._groups: Final = groups
        self._router: Final = router
        self._driver: Final = driver
        self._book: Final = book

    async def make(self, name: str, members: Iterable[str]) -> str:
        """Make a group and tell its members; return its id, the room of its messages.

        Raises:
            NotFound: a member is not known.
            NameTaken: one is in another group of this name, or it means all who are near.
            InvalidMessage: there are too many members.
        """
        self._check_name(name)
        roster = self._roster(secrets.token_hex(16), name, self._people(members, None), 1)
        await self._driver.ask(
            lambda now: self._router.submit(roster.message(), now, roster=roster)
        )
        return roster.id

    async def change(self, group: str, name: str, members: Iterable[str]) -> None:
        """Give a group of ours another name or other members; whoever is out is told.

        Who is blocked is not told: nothing is sent to them.

        Raises:
            NotFound: there is no such group, or a new member is not known.
            NotMaker: somebody else made it.
            NameTaken: one is in another group of the new name.
            InvalidMessage: there are too many members.
            OutboxFull: too much waits; or the group is changed, and so much waits for somebody who
                is out of it that they are not told.
        """
        wanted, untold = tuple(members), list[OutboxFull]()

        def ask(now: float) -> tuple[str, list[Action]]:
            # In one turn: what comes between changes the group too, or ends before all are told.
            known = self._known(group)
            if known.maker != self._identity.fingerprint:
                raise NotMaker("this group was made by somebody else: ask them to change it")
            if alike(name) != alike(known.name):
                self._check_name(name)
            people = self._people(wanted, known)
            roster = self._roster(group, name, people, known.epoch + 1)
            id_, actions = self._router.submit(roster.message(), now, roster=roster)
            notice = self._roster(group, name, people, roster.epoch, NO_KEY)
            for one in known.members:
                if one in roster.members:
                    continue
                try:
                    actions += self._router.submit(notice.message(one), now)[1]
                except InvalidMessage:
                    pass  # they are blocked
                except OutboxFull as error:
                    untold.append(error)
            return id_, actions

        await self._driver.ask(ask)
        if untold:
            raise OutboxFull(
                f"the group is changed, and not everybody who is out was told: {untold[0]}"
            )

    async def leave(self, group: str) -> None:
        """Be in a group no more, and destroy its key; its other members are not told.

        Raises:
            NotFound: there is no such group.
            StoreError: the key is deleted, and may still stand in the file of the database.
        """
        self._known(group)
        await self._driver.ask(lambda now: ("", self._router.leave(group, now)))
        await self._book.scrub()

    def _check_name(self, name: str) -> None:
        """Make no second group of a name by which one says which is meant."""
        if alike(name).strip() == NEAR:
            raise NameTaken(f"{NEAR} is what all who are near hear: call the group otherwise")
        rosters = map(self._groups.roster, self._groups)
        if any(one is not None and alike(one.name) == alike(name) for one in rosters):
            raise NameTaken(
                f"you are in a group called {one_line(name, 40)} already: call this one otherwise"
            )

    def _known(self, group: str) -> Roster:
        known = self._groups.roster(group)
        if known is None:
            raise NotFound("there is no such group here")
        return known

    def _people(self, members: Iterable[str], before: Roster | None) -> list[Member]:
        """The others, with the keys that are known of them now."""
        own = self._identity.fingerprint
        return [self._member(one, before) for one in dict.fromkeys(members) if one != own]

    def _member(self, fingerprint: str, before: Roster | None) -> Member:
        peer = self._contacts.get(fingerprint)
        if peer is not None:
            return Member(fingerprint, peer.signing_public, peer.name)
        member = None if before is None else before.member(fingerprint)
        if member is None:
            raise NotFound(
                f"nobody here knows the fingerprint {one_line(fingerprint, 64)}: add their card"
            )
        return member

    def _roster(
        self, group: str, name: str, people: list[Member], epoch: int, key: bytes | None = None
    ) -> Roster:
        return Roster.make(self._identity, group, name, people, epoch, as_maker=self._name, key=key)
