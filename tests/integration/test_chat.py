"""Two people on two fogs: a conversation by commands, over a real net, with a backend killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.fogs import RunningFog, running_fog, until

WAIT_S = 90.0


def texts(fog: RunningFog) -> list[str]:
    return [str(one["text"]) for one in fog.json("chat", "log", "--limit", "1000")]


@pytest.mark.slow
def test_a_conversation_by_commands_survives_a_killed_backend(tmp_path: Path) -> None:
    with running_fog(tmp_path / "ada", environment={"FOG_CHAT_NAME": "Ada"}) as ada:
        net = {"FOG_CHAT_NAME": "Bob", "FOG_NET": str(ada.home / "net" / "net.json")}
        with running_fog(tmp_path / "bob", environment=net) as bob:
            ada.json("peer", "add", bob.json("peer", "card")["card"], "--as", "bob")
            bob.json("peer", "add", ada.json("peer", "card")["card"], "--as", "ada")
            words = bob.json("chat", "me")["words"]
            assert ada.json("peer", "verify", "bob", *words)["trust"] == "verified"

            sent = ada.json("chat", "send", "bob", "hello", "--wait", "60s")
            assert sent["state"] in ("delivered", "read")
            for number in range(5):
                ada.json("chat", "send", "bob", str(number))
            os.kill(bob.pid("backend"), signal.SIGKILL)
            for number in range(5, 10):
                ada.json("chat", "send", "bob", str(number))
            bob.json("chat", "send", "ada", "and back")

            every = ["hello", *map(str, range(10))]
            until(
                lambda: [one for one in texts(bob) if one != "and back"] == every,
                WAIT_S,
                lambda: f"bob has {texts(bob)}",
            )
            until(lambda: "and back" in texts(ada), WAIT_S, lambda: f"ada has {texts(ada)}")
            bob.json("chat", "wipe", "--force")
            assert texts(bob) == []
            assert not (bob.home / "daemon" / "identity.json").exists() or (
                bob.json("chat", "me")["words"] != words
            )
