from __future__ import annotations

import importlib.metadata
import pickle

import betanet
from betanet import _core, _errors


def test_all_names_what_is_public_and_nothing_else() -> None:
    public = {name for name in vars(betanet) if not name.startswith("_")} | {"__version__"}
    assert sorted(betanet.__all__) == sorted(public)


def test_the_version_is_the_distributions() -> None:
    assert betanet.__version__ == importlib.metadata.version("fog-compute")


def test_every_reason_has_its_exception() -> None:
    assert {kind.reason for kind in betanet.PacketError.__subclasses__()} == set(
        betanet.PACKET_ERRORS
    )


def test_every_error_reaches_another_process() -> None:
    kinds = [kind for kind in vars(_errors).values() if isinstance(kind, type)]
    errors = [kind for kind in kinds if issubclass(kind, betanet.BetanetError)]
    assert len(errors) > len(betanet.PACKET_ERRORS)
    more = {betanet.NotEnoughNodes: (3, 2), betanet.NoiseError: ("replayed",)}
    for kind in errors:
        error = kind("why", *more.get(kind, ()))
        copied = pickle.loads(pickle.dumps(error))
        assert (type(copied), str(copied), vars(copied)) == (kind, "why", vars(error))


def test_classes_of_the_core_know_their_package() -> None:
    for name in _core.__all__:
        thing = getattr(_core, name)
        if isinstance(thing, type):
            assert thing.__module__ in {"betanet", "betanet._core"}
