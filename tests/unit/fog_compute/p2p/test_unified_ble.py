"""The whole system over the mesh itself: virtual Bluetooth, and a mixnet in memory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from fog_compute.p2p.bitchat.ble_scanner import ScanPolicy
from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.identity import IdentityFile
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.transport import Reach, TransportType
from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig
from fog_compute.store import Store
from fog_compute.testing.ether import Ether
from fog_compute.testing.messaging import MemoryAir, MemoryTransport

HTX, BLE = TransportType.BETANET_HTX, TransportType.BITCHAT_BLE


async def until_all_arrived(
    systems: list[UnifiedDecentralizedSystem], count: int, seconds: float = 60
) -> None:
    async with asyncio.timeout(seconds):
        for system in systems:
            while True:
                log = await system.log(limit=10_000)
                shown = [one for one in log if not one.outgoing]
                if len(shown) >= count and not system.waiting:
                    break
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_conversation_goes_from_the_mixnet_to_bluetooth_and_back(tmp_path: Path) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06: over the transports as they are."""
    mixnet, ether = MemoryAir(HTX, stores=True), Ether(lambda one, other: True)
    identities = []
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        identities.append(IdentityFile(tmp_path / name / "identity.json").load_or_make(name)[0])
    systems: list[UnifiedDecentralizedSystem] = []
    async with AsyncExitStack() as stack:
        for number, name in enumerate(("ann", "bob")):
            other = identities[1 - number].fingerprint
            store = await stack.enter_async_context(await Store.open(tmp_path / name / "fog.db"))
            system = UnifiedDecentralizedSystem(
                None,
                UnifiedP2PConfig(tmp_path / name / "identity.json", tmp_path / name / "card"),
                store=store,
                transports=[MemoryTransport(mixnet, identities[number].fingerprint, [other])],
                rng=Random(number),
            )
            systems.append(await stack.enter_async_context(system))

        async def say(first: int, end: int) -> None:
            for number in range(first, end):
                for system, to in zip(systems, reversed(identities), strict=True):
                    body = b"%d" % number if number % 10 else b"%d" % number + b" " * 300
                    await system.send_message(
                        DecentralizedMessage(body=body, receiver_id=to.fingerprint)
                    )
                await asyncio.sleep(0.01)

        await say(0, 40)
        for number, system in enumerate(systems):
            system.manager.register_transport(
                BLE,
                BitChatTransport(
                    identities[number],
                    name=f"node {number}",
                    radio=ether.radio(number, interval_ms=15.0),
                    scan=ScanPolicy(gap_s=(0.0, 0.05)),
                    rng=Random(number),
                ),
            )
        mixnet.set_up(False)
        await say(40, 100)
        async with asyncio.timeout(20):
            for system, to in zip(systems, reversed(identities), strict=True):
                while system.reaches().get(to.fingerprint, {}).get(BLE) is not Reach.DIRECT:
                    await asyncio.sleep(0.05)
        await say(100, 140)
        await until_all_arrived(systems, 140)
        for system in systems:
            await system.manager.unregister_transport(BLE)
        await say(140, 170)
        mixnet.set_up(True)
        await until_all_arrived(systems, 170)

        for system in systems:
            log = await system.log(limit=10_000)
            shown = [int(one.message.text) for one in log if not one.outgoing]
            assert shown == list(range(170))
            assert not any(one.late for one in log)
            states = {state for one in log for state in one.states.values()}
            assert states == {DeliveryState.DELIVERED}


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_group_hears_over_both_ways_and_is_shown_nothing_twice(tmp_path: Path) -> None:
    """INV-P2P-04, INV-P2P-11, INV-BITCHAT-97: two are near, one is far away."""
    mixnet, ether = MemoryAir(HTX, stores=True), Ether(lambda one, other: True)
    names = ("ann", "bob", "zoe")
    identities = []
    for name in names:
        (tmp_path / name).mkdir()
        identities.append(IdentityFile(tmp_path / name / "identity.json").load_or_make(name)[0])
    systems: list[UnifiedDecentralizedSystem] = []
    near: list[BitChatTransport] = []
    async with AsyncExitStack() as stack:
        for number, name in enumerate(names):
            store = await stack.enter_async_context(await Store.open(tmp_path / name / "fog.db"))
            others = [one.fingerprint for one in identities if one is not identities[number]]
            system = UnifiedDecentralizedSystem(
                None,
                UnifiedP2PConfig(tmp_path / name / "identity.json", tmp_path / name / "card"),
                store=store,
                transports=[MemoryTransport(mixnet, identities[number].fingerprint, others)],
                rng=Random(number),
            )
            systems.append(await stack.enter_async_context(system))
            for one in identities:
                if one is not identities[number]:
                    system.contacts.add(ContactCard.make(one, "x" + one.fingerprint[:4], {}, 1), 1)
            if name != "zoe":
                mesh_of = BitChatTransport(
                    identities[number],
                    name=name,
                    book=system.contacts,
                    groups=system.groups,
                    radio=ether.radio(number, interval_ms=15.0),
                    scan=ScanPolicy(gap_s=(0.0, 0.05)),
                    rng=Random(number),
                )
                near.append(mesh_of)
                system.manager.register_transport(BLE, mesh_of)
        ann, bob, zoe = systems
        async with asyncio.timeout(20):
            while ann.reaches().get(identities[1].fingerprint, {}).get(BLE) is not Reach.DIRECT:
                await asyncio.sleep(0.05)
        group = await ann.make_group("us", [one.fingerprint for one in identities[1:]])
        async with asyncio.timeout(20):
            while not (group in bob.groups and group in zoe.groups):
                await asyncio.sleep(0.05)
        for number in range(20):
            await ann.send_message(DecentralizedMessage(body=b"%d" % number, room=group))
            await bob.send_message(DecentralizedMessage(body=b"%d" % (100 + number), room=group))
        await until_all_arrived([ann], 20)
        await until_all_arrived([bob], 21)
        await until_all_arrived([zoe], 41)
        for system, by in ((bob, identities[0]), (zoe, identities[0]), (ann, identities[1])):
            log = await system.log(limit=1000)
            shown = [
                int(one.message.text)
                for one in log
                if one.message.sender == by.fingerprint and one.message.body
            ]
            assert [one % 100 for one in shown] == list(range(20))
        states = {state for one in await ann.log(limit=99) for state in one.states.values()}
        assert states == {DeliveryState.DELIVERED}
        # Each was said in the mesh once, for whoever is near, and not to Bob or Ann alone.
        mesh = near[0].mesh
        assert mesh is not None
        assert mesh.counts["kept"] >= 40
