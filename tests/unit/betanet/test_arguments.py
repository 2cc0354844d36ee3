"""Numbers that no caller should pass: an error that names the argument, whatever the number."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import mmap
import os
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

import betanet
from betanet import _core
from tests.unit.betanet.chains import Chain

NOT_NUMBERS: Final[tuple[object, ...]] = (None, "1", b"1", [1], object(), True, False, 1j)
WHOLE: Final = (-1, -(2**63), 2**64, 2**70, -(2**5000), 2**5000)
NOT_WHOLE: Final[tuple[object, ...]] = (*NOT_NUMBERS, 1.5, math.nan)
LONG: Final = (-0.001, -1e300, -math.inf, math.nan, -(2**5000))

PROCESSOR = betanet.SphinxProcessor()
PIPELINE = betanet.PacketPipeline(1)
PATH = Chain.of(1).path
PATHS: Final = {"dir": "unused", "bootstrap": "unused"}


def teardown_module() -> None:
    PROCESSOR.close()
    PIPELINE.close()


def client() -> betanet.Client:
    """A client whose core is never reached."""

    class Unreached:
        async def run(self, *_: object) -> None:
            raise AssertionError("the argument was let through")

    core = SimpleNamespace(
        send=None,
        request=None,
        receive=None,
        reply=None,
        commit=None,
        ping=None,
        publish_worker=None,
    )
    unused = betanet.Client(cast("Any", Unreached()), cast("_core.Client", core))
    unused._is_closed = True  # there is nothing to close
    return unused


def opened(**arguments: Any) -> Awaitable[object]:
    return betanet.Client.open(dir="unused", bootstrap="unused", **arguments)


def published(**arguments: Any) -> Awaitable[object]:
    given: dict[str, Any] = {"name": "n", "kinds": ["wasm"], "slots": 1, "memory_bytes": 1}
    return client().publish_worker(**(given | arguments))


Call = Callable[..., Any]
CALLS: Final[dict[tuple[str, str], Call]] = {
    ("Client.open", "edges"): opened,
    ("Client.open", "hops"): opened,
    ("Client.open", "level"): opened,
    ("Client.send", "hops"): lambda **a: client().send("to", b"", **a),
    ("Client.try_send", "hops"): lambda **a: client().try_send("to", b"", **a),
    ("Client.request", "hops"): lambda **a: client().request("to", b"", **a),
    ("Client.request", "reply_packets"): lambda **a: client().request("to", b"", **a),
    ("Client.request", "timeout"): lambda **a: client().request("to", b"", **a),
    ("Client.receive", "timeout"): lambda **a: client().receive(**a),
    ("Client.reply", "handle"): lambda **a: client().reply(body=b"", **a),
    ("Client.ping", "hops"): lambda **a: client().ping(**a),
    ("Client.publish_worker", "slots"): published,
    ("Client.publish_worker", "memory_bytes"): published,
    ("Client.publish_worker", "lifetime"): published,
    ("PacketPipeline", "num_workers"): betanet.PacketPipeline,
    ("PacketPipeline", "mean_delay_ms"): betanet.PacketPipeline,
    ("PacketPipeline", "queue_depth"): betanet.PacketPipeline,
    ("PacketPipeline", "replay_capacity"): betanet.PacketPipeline,
    ("PacketPipeline.recv_batch", "max_packets"): PIPELINE.recv_batch,
    ("PacketPipeline.recv_batch", "timeout"): PIPELINE.recv_batch,
    ("SphinxProcessor", "mean_delay_ms"): betanet.SphinxProcessor,
    ("SphinxProcessor", "replay_capacity"): betanet.SphinxProcessor,
    ("create_packet", "parity"): lambda **a: betanet.create_packet(PATH, bytes(16), b"", **a),
    ("create_packets", "parity"): lambda **a: betanet.create_packets([(PATH, bytes(16), b"")], **a),
    ("create_surb", "parity"): lambda **a: betanet.create_surb(PATH, bytes(16), **a),
    ("delay_quantile", "mean_ns"): lambda **a: betanet.delay_quantile(**({"x": 1} | a)),
    ("delay_quantile", "x"): lambda **a: betanet.delay_quantile(**({"mean_ns": 1} | a)),
}
SECONDS: Final = ("timeout", "lifetime", "mean_delay_ms")
NUMERIC: Final = ("int", "float")


def test_every_numeric_argument_of_a_public_callable_is_tried() -> None:
    folder = Path(betanet.__file__).parent
    found = set()
    for file in ("_core.pyi", "_client.py"):
        for node in ast.parse((folder / file).read_text()).body:
            match node:
                case ast.FunctionDef(name=name) if name in betanet.__all__:
                    found |= numeric(name, node)
                case ast.ClassDef(name=name) if name in betanet.__all__:
                    if file == "_core.pyi" and name == "Client":
                        continue  # the engine behind the public one
                    for method in node.body:
                        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                            place = name if method.name == "__new__" else f"{name}.{method.name}"
                            if not method.name.startswith("_") or method.name == "__new__":
                                found |= numeric(place, method)
    assert found == set(CALLS)


def numeric(place: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[tuple[str, str]]:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    kinds = {item.arg: ast.unparse(item.annotation) for item in arguments if item.annotation}
    return {(place, name) for name, kind in kinds.items() if kind.split(" |")[0] in NUMERIC}


async def call(place: tuple[str, str], value: object) -> None:
    outcome = CALLS[place](**{place[1]: value})
    if inspect.isawaitable(outcome):
        await outcome


@pytest.mark.asyncio
@pytest.mark.parametrize("place", CALLS, ids="-".join)
async def test_a_number_out_of_bounds_is_an_error_that_names_it(place: tuple[str, str]) -> None:
    values = LONG if place[1] in SECONDS else WHOLE
    for value in values:
        with pytest.raises(ValueError, match=place[1]):
            await call(place, value)


@pytest.mark.asyncio
@pytest.mark.parametrize("place", CALLS, ids="-".join)
async def test_what_is_no_number_is_an_error_that_names_the_argument(
    place: tuple[str, str],
) -> None:
    values = NOT_NUMBERS if place[1] in SECONDS else NOT_WHOLE
    for value in values:
        if value is None and place in (("Client.receive", "timeout"), ("Client.open", "level")):
            continue  # without end, of every level
        with pytest.raises(TypeError, match=place[1]):
            await call(place, value)


@pytest.mark.asyncio
async def test_what_is_no_text_or_path_is_an_error_that_names_the_argument() -> None:
    other: Any = 5
    for call, name, kind in (
        (client().send(other, b""), "to", TypeError),
        (client().send("\ud800", b""), "to", betanet.InvalidAddress),
        (client().request("\ud800", b""), "to", betanet.InvalidAddress),
        (client().send("to", b"", id="\ud800" * 32), "id", ValueError),
        (client().send("to", b"", id=other), "id", TypeError),
        (client().commit(other), "id", TypeError),
        (published(name="\ud800"), "name", ValueError),
        (published(kinds=["\ud800"]), "kinds", ValueError),
        (published(kinds=[b"wasm"]), "kinds", TypeError),
        (published(groups=None), "groups", TypeError),
        *(
            (cast("Any", betanet.Client.open)(**(PATHS | {name: value})), name, kind)
            for name in ("dir", "bootstrap")
            for value, kind in (
                ("", ValueError),
                ("a\0b", ValueError),
                ("\ud800", ValueError),
                (b"bytes", TypeError),
                (None, TypeError),
            )
        ),
    ):
        with pytest.raises(kind, match=f"^{name} must be"):
            await call


@pytest.mark.asyncio
async def test_of_an_endless_list_only_as_much_is_taken_as_is_of_use() -> None:
    with pytest.raises(AssertionError, match="let through"):
        await published(kinds=itertools.repeat("wasm"))


def test_what_is_far_too_long_is_refused_by_its_length_and_not_copied() -> None:
    size = 1 << 40
    with os.fdopen(os.memfd_create("long"), "wb") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as endless:
            surb, opener = betanet.create_surb(PATH, bytes(16))
            for make, kind in (
                (betanet.PublicKey, betanet.InvalidKey),
                (betanet.Surb.parse, betanet.InvalidSurb),
                (surb.reply, betanet.BuildError),
                (opener.open, betanet.WrongLength),
                (betanet.vrf_hash, betanet.InvalidProof),
                (lambda long: betanet.vrf_verify(long, b"", b""), betanet.InvalidKey),
                (lambda long: betanet.create_packet(PATH, bytes(16), long), betanet.BuildError),
                (lambda long: betanet.create_packets([(PATH, bytes(16), long)]), ValueError),
                (lambda long: betanet.Hop(long, PROCESSOR.public_key), ValueError),
                (lambda long: PROCESSOR.process_packet(long), betanet.WrongLength),
            ):
                with pytest.raises(kind):
                    make(cast("Any", endless))
                with (
                    memoryview(endless).cast("Q") as words,
                    pytest.raises((kind, betanet.InvalidSurb)),
                ):
                    make(cast("Any", words))


def test_texts_are_no_lists_of_texts() -> None:
    for name in ("kinds", "groups"):
        with pytest.raises(TypeError, match=f"{name} must be a list of texts"):
            published(**{name: "wasm"}).__await__().__next__()


def test_a_batch_that_finds_no_memory_is_an_error_and_not_the_end() -> None:
    script = textwrap.dedent(
        """
        import resource, betanet
        pipeline = betanet.PacketPipeline(1)
        packet = bytes(betanet.Geometry.native().packet_len)
        # A thread that starts maps twice the heap that it keeps: what is used is known after it.
        pipeline.process_batch([packet])
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), resource.RLIM_INFINITY))
        for size in (400_000, 100_000, 37_000):
            try:
                pipeline.process_batch([packet] * size)
            except MemoryError:
                print("refused")
        try:
            betanet.create_packets([([], bytes(16), packet[:2048])] * 150_000)
        except MemoryError:
            print("refused")
        print(len(pipeline.process_batch([packet] * 100)))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 4 + ["100"]), done.stderr


def test_where_the_system_gives_no_threads_it_is_an_error_and_not_a_panic() -> None:
    script = textwrap.dedent(
        """
        import asyncio, betanet

        async def main():
            try:
                await betanet.Client.open(dir="unused", bootstrap="unused")
            except betanet.BetanetError as error:
                print(error)

        asyncio.run(main())
        """
    )
    # No thread has room for a stack of this size.
    environment = os.environ | {"RUST_MIN_STACK": str(1 << 46)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cannot start the threads of the mixnet client: ")


def test_the_name_of_a_suite_that_does_not_exist_is_shown_in_part() -> None:
    with pytest.raises(ValueError, match="no suite is called") as refused:
        betanet.Geometry.of_suite("\x1b\n" * 1_000_000)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["wall_ms", "scratch_bytes", "output_bytes"])
async def test_a_limit_of_a_worker_out_of_bounds_is_an_error_that_names_it(name: str) -> None:
    """INV-LINK-93"""
    for value in (*WHOLE, 2**53):
        given: dict[str, Any] = {"wall_ms": 1, "scratch_bytes": 0, "output_bytes": 0, name: value}
        with pytest.raises(ValueError, match=name):
            await published(limits=betanet.WorkerLimits(**given))
