"""The service around the native core: what it says when it cannot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import betanet
from fog_compute.errors import (
    ChannelDown,
    ChannelError,
    ChannelTimeout,
    ConfigError,
    FogError,
    PrivacyUnavailable,
    ServiceUnavailable,
)
from fog_compute.levels import PrivacyLevel
from fog_compute.vpn import MessageChannel, Received
from fog_compute.vpn.betanet import BetanetChannel, BetanetService
from fog_compute.vpn.directory import TaskLimits, shown_name


class Failing:
    """A client whose every call fails in one way."""

    address = "fog1me"

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def request(self, *_: object, **__: object) -> bytes:
        raise self.error

    async def reply(self, *_: object) -> None:
        raise self.error


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("folder", "bootstrap", "reason"),
    [
        ("net.json/clients", "net.json", "net.json/clients"),
        ("clients", "n" * 256, "File name too long"),
    ],
)
async def test_folder_or_file_that_the_disk_refuses_is_own_trouble_and_no_crash(
    tmp_path: Path, folder: str, bootstrap: str, reason: str
) -> None:
    (tmp_path / "net.json").touch()
    service = BetanetService(folder=tmp_path / folder, bootstrap=tmp_path / bootstrap)

    with pytest.raises(ServiceUnavailable, match=f"cannot join the network of .*{reason}"):
        await service.status()


@pytest.mark.asyncio
async def test_machine_that_gives_the_client_no_threads_is_own_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(**_: object) -> betanet.Client:
        raise OSError("cannot start the threads of the mixnet client: none left")

    (tmp_path / "net.json").touch()
    service = BetanetService(folder=tmp_path / "clients", bootstrap=tmp_path / "net.json")
    monkeypatch.setattr(betanet.Client, "open", refuse)

    with pytest.raises(ServiceUnavailable, match=r"cannot start the threads .*: none left"):
        await service.status()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (betanet.Timeout("late"), ChannelTimeout),
        (betanet.NetworkError("refused"), ChannelError),
        (betanet.Offline("no edge"), ChannelDown),
        (betanet.Closed("closed"), ChannelDown),
        (betanet.NotEnoughNodes("few", 7, 5), PrivacyUnavailable),
    ],
)
async def test_errors_of_the_core_become_errors_of_the_fog(
    error: Exception, kind: type[FogError]
) -> None:
    channel = BetanetChannel(Failing(error), PrivacyLevel.SECRET)  # type: ignore[arg-type]  # fails as the client does

    with pytest.raises(kind) as caught:
        await channel.request("fog1you", b"x")

    assert caught.value.__cause__ is error
    assert isinstance(caught.value, ChannelDown) is (kind is ChannelDown)
    if isinstance(caught.value, PrivacyUnavailable):
        assert (caught.value.needed, caught.value.available) == (7, 5)


@pytest.mark.asyncio
async def test_message_without_way_back_cannot_be_answered() -> None:
    channel = BetanetChannel(Failing(AssertionError()), PrivacyLevel.PRIVATE)  # type: ignore[arg-type]  # must not be reached

    with pytest.raises(ChannelError, match="wants no answer"):
        await channel.reply(Received("id", b""), b"x")


def test_channel_is_a_message_channel() -> None:
    channel = BetanetChannel(Failing(AssertionError()), PrivacyLevel.PRIVATE)  # type: ignore[arg-type]  # only looked at

    assert isinstance(channel, MessageChannel)
    assert channel.address == "fog1me"


@pytest.mark.asyncio
async def test_service_without_a_network_says_so(tmp_path: Path) -> None:
    async with BetanetService() as service:
        with pytest.raises(ServiceUnavailable, match="has no network"):
            await service.client(PrivacyLevel.PRIVATE)
    async with BetanetService(folder=tmp_path, bootstrap=tmp_path / "net.json") as service:
        with pytest.raises(ConfigError, match="no bootstrap file"):
            await service.status()


@pytest.mark.asyncio
async def test_closed_service_is_not_used_again(tmp_path: Path) -> None:
    service = BetanetService(folder=tmp_path, bootstrap=tmp_path / "net.json")
    await service.close()
    await service.close()

    with pytest.raises(ServiceUnavailable, match="closed"):
        await service.client(PrivacyLevel.PRIVATE)


@pytest.mark.asyncio
async def test_nodes_are_those_that_the_client_of_the_default_level_goes_by(
    tmp_path: Path,
) -> None:
    found = betanet.Consensus("n", 7, 0, 1, 2, 3, True, ())

    class Listing:
        closed = False

        def consensus(self) -> betanet.Consensus:
            if self.closed:
                raise betanet.Closed("closed")
            return found

        async def close(self) -> None:
            pass

    async with BetanetService(folder=tmp_path, bootstrap=tmp_path / "net.json") as service:
        assert service.consensus() is None, "it opens no client"
        assert service._clients is not None
        client = Listing()
        service._clients._open[PrivacyLevel.PRIVATE, ""] = client  # type: ignore[assignment]  # lists only
        assert service.consensus() is found
        client.closed = True
        assert service.consensus() is None
    assert BetanetService().consensus() is None


@pytest.mark.asyncio
async def test_workers_whose_keys_begin_alike_are_told_apart(tmp_path: Path) -> None:
    listed = [
        SimpleNamespace(
            name="w",
            id="123456" + digit * 58,
            address=f"fog1{digit}",
            kinds=["wasm"],
            slots=1,
            memory_bytes=1,
            groups=[],
            level=level,
            limits=betanet.WorkerLimits(1500, 2, 3) if level else None,
        )
        # The last one is of no level of ours, whatever it is.
        for digit, level in (("a", 3), ("b", None), ("c", 4))
    ]

    class Listing:
        async def workers(self) -> list[SimpleNamespace]:
            return listed

        def status(self) -> object:
            return object()

        async def close(self) -> None:
            pass

    async with BetanetService(folder=tmp_path, bootstrap=tmp_path / "net.json") as service:
        assert service._clients is not None
        service._clients._open[PrivacyLevel.PRIVATE, ""] = Listing()  # type: ignore[assignment]  # lists only
        offers = await service.workers()

    assert len({offer.name for offer in offers}) == 2
    assert [offer.level for offer in offers] == [PrivacyLevel.PRIVATE, None]
    assert [offer.limits for offer in offers] == [TaskLimits(1.5, 2, 3), None]
    assert {shown_name(offer.name) for offer in offers} == {"w-123456"}
