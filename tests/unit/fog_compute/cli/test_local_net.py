"""What is said of a home's own net that carries nothing."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from fog_compute.cli import local_net
from fog_compute.cli.local_net import net_trouble, trouble_in
from fog_compute.layout import HomeLayout

RAN_OUT = "the network has had no valid consensus for 23 s"


def net(*troubles: str | None, gone: str = "") -> bytes:
    nodes: list[object] = [{"health": None, "http": None, "name": "authority", "pid": 7}]
    nodes += [
        {"name": f"n-{number}", "pid": 8, "health": {"healthy": not text, "trouble": text}}
        for number, text in enumerate(troubles)
    ]
    if gone:
        nodes.append({"name": gone, "pid": None, "health": None})
    return json.dumps({"nodes": nodes}).encode()


def test_what_most_nodes_complain_of_is_told() -> None:
    assert trouble_in(net(None, RAN_OUT, "slow", RAN_OUT)) == RAN_OUT
    assert trouble_in(net("a\n\x1b[2Jb")) == "a [2Jb"
    assert trouble_in(net(None, None)) == ""
    assert trouble_in(net(None, gone="exit-1")) == "not running now: exit-1"


@pytest.mark.parametrize("data", [b"", b"[]", b'{"nodes": 3}'])
def test_report_of_another_program_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        trouble_in(data)


def test_net_is_asked_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = HomeLayout(tmp_path)
    program = tmp_path / "betanet"
    program.write_text(f"#!/bin/sh\necho '{net(RAN_OUT).decode()}'\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(local_net, "find_betanet", lambda: program)
    assert net_trouble(layout) == ""  # there is none
    layout.net.mkdir()
    assert net_trouble(layout) == RAN_OUT
    program.write_text("#!/bin/sh\necho no JSON\n")
    assert net_trouble(layout) == ""
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(local_net, "ASK_S", 0.05)
    assert net_trouble(layout) == ""
