from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

import betanet
from tests.unit.betanet.chains import MAILBOX

Outcome = betanet.ProcessedPacket | betanet.RejectedPacket


@pytest.fixture
def pipeline() -> Iterator[betanet.PacketPipeline]:
    with betanet.PacketPipeline(2) as pipeline:
        yield pipeline


def packet_for(key: betanet.PublicKey, payload: bytes) -> bytes:
    return betanet.create_packet([betanet.Hop(os.urandom(32), key)], MAILBOX, payload)


def reason(outcome: Outcome) -> str | None:
    return outcome.reason if isinstance(outcome, betanet.RejectedPacket) else None


def receive(pipeline: betanet.PacketPipeline, count: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        batch = pipeline.recv_batch(timeout=30.0)
        assert batch, f"{len(outcomes)} of {count} outcomes came"
        outcomes += batch
    return outcomes


def test_a_batch_comes_back_in_order(pipeline: betanet.PacketPipeline) -> None:
    payloads = [n.to_bytes(2) for n in range(500)]
    outcomes = pipeline.process_batch([packet_for(pipeline.public_key, p) for p in payloads])
    assert [outcome.payload for outcome in outcomes] == payloads
    assert {outcome.kind for outcome in outcomes} == {"deliver"}
    assert {outcome.mailbox for outcome in outcomes} == {MAILBOX}


def test_bad_packets_are_rejected_in_their_places(pipeline: betanet.PacketPipeline) -> None:
    good = packet_for(pipeline.public_key, b"hello")
    other = packet_for(betanet.SecretKey.generate().public, b"hello")
    packets: list[bytes | bytearray] = [
        b"",
        good,
        other,
        good,
        bytes(10_000_000),
        os.urandom(2475),
        bytearray(good),
    ]
    outcomes = pipeline.process_batch(packets)
    reasons = [reason(outcome) for outcome in outcomes]
    assert reasons[:1] + reasons[2:3] + reasons[4:5] == ["wrong_length", "bad_mac", "wrong_length"]
    assert sorted(map(str, (reasons[1], reasons[3], reasons[6]))) == ["None", "replay", "replay"]
    assert reasons[5] in {"unknown_version", "bad_parity", "bad_alpha", "bad_mac"}


def test_a_rejected_packet_has_the_fields_of_a_processed_one_empty(
    pipeline: betanet.PacketPipeline,
) -> None:
    (rejected,) = pipeline.process_batch([b"garbage"])
    assert isinstance(rejected, betanet.RejectedPacket)
    fields = (rejected.next_hop, rejected.mailbox, rejected.surb_id, rejected.payload)
    assert fields == (None, None, None, b"")
    assert rejected.delay_ms == 0.0
    assert rejected.kind == "rejected"
    assert betanet.PACKET_ERRORS[rejected.reason] is betanet.WrongLength


def test_eight_identical_packets_in_a_batch_pass_once(pipeline: betanet.PacketPipeline) -> None:
    packet = packet_for(pipeline.public_key, b"hello")
    reasons = [reason(outcome) for outcome in pipeline.process_batch([packet] * 8)]
    assert sorted(map(str, reasons)) == ["None"] + ["replay"] * 7


def test_an_empty_batch_is_empty(pipeline: betanet.PacketPipeline) -> None:
    assert pipeline.process_batch([]) == []
    assert pipeline.get_stats().packets_processed == 0


def test_submitted_packets_come_out(pipeline: betanet.PacketPipeline) -> None:
    payloads = {n.to_bytes(2) for n in range(200)}
    for payload in payloads:
        pipeline.submit_packet(memoryview(packet_for(pipeline.public_key, payload)))
    pipeline.submit_packet(b"garbage")
    outcomes = receive(pipeline, 201)
    assert {outcome.payload for outcome in outcomes if reason(outcome) is None} == payloads
    assert pipeline.recv_batch() == []


def test_a_flooded_pipeline_refuses_and_recovers() -> None:
    with betanet.PacketPipeline(1, queue_depth=4) as pipeline:
        for _ in range(4):
            pipeline.submit_packet(b"garbage")
        with pytest.raises(betanet.QueueFull):
            pipeline.submit_packet(b"garbage")
        assert len(receive(pipeline, 4)) == 4
        pipeline.submit_packet(b"garbage")
        assert len(receive(pipeline, 1)) == 1


def test_a_batch_is_received_in_pieces(pipeline: betanet.PacketPipeline) -> None:
    for _ in range(5):
        pipeline.submit_packet(b"garbage")
    receive_all = receive(pipeline, 5)
    assert len(receive_all) == 5
    assert pipeline.recv_batch(0, timeout=1.0) == []


def test_the_counters_count_every_decision(pipeline: betanet.PacketPipeline) -> None:
    good = [packet_for(pipeline.public_key, b"hello") for _ in range(300)]
    pipeline.process_batch([*good, b"garbage", good[0]])
    stats = pipeline.get_stats()
    assert (stats.packets_processed, stats.packets_dropped) == (302, 2)
    assert stats.throughput_pps > 0
    assert stats.average_latency_ms > 0


def test_several_threads_share_a_pipeline(pipeline: betanet.PacketPipeline) -> None:
    batches = [[packet_for(pipeline.public_key, b"x") for _ in range(50)] for _ in range(4)]
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda b=batch: outcomes.extend(pipeline.process_batch(b)))
        for batch in batches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reason(outcome) for outcome in outcomes] == [None] * 200


def test_delays_follow_the_mean() -> None:
    with betanet.PacketPipeline(1, mean_delay_ms=0.0) as pipeline:
        (outcome,) = pipeline.process_batch([packet_for(pipeline.public_key, b"")])
        assert outcome.delay_ms == 0.0


def test_a_closed_pipeline_says_so_and_keeps_its_counters() -> None:
    pipeline = betanet.PacketPipeline(1)
    pipeline.process_batch([b"garbage"])
    with pipeline:
        pass
    pipeline.close()
    with pytest.raises(betanet.Closed):
        pipeline.submit_packet(b"garbage")
    with pytest.raises(betanet.Closed):
        pipeline.process_batch([b"garbage"])
    with pytest.raises(betanet.Closed):
        pipeline.recv_batch()
    with pytest.raises(betanet.Closed):
        pipeline.__enter__()
    assert pipeline.get_stats().packets_processed == 1


def test_closing_wakes_who_waits() -> None:
    pipeline = betanet.PacketPipeline(1)
    outcomes: list[Outcome] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        with contextlib.suppress(betanet.Closed):
            outcomes.extend(pipeline.recv_batch(timeout=60.0))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10)
    pipeline.close()
    thread.join(10)
    assert not thread.is_alive()
    assert outcomes == []


@pytest.mark.parametrize(("workers", "depth"), [(0, 1), (1, 0), (100_000, 1)])
def test_a_pipeline_without_workers_or_room_is_refused(workers: int, depth: int) -> None:
    with pytest.raises(ValueError, match=r"(num_workers|queue_depth) must be 1 to"):
        betanet.PacketPipeline(workers, queue_depth=depth)


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_a_timeout_that_is_none_is_refused(
    timeout: float, pipeline: betanet.PacketPipeline
) -> None:
    with pytest.raises(ValueError, match="timeout"):
        pipeline.recv_batch(timeout=timeout)


def test_a_forked_child_is_told_and_can_end() -> None:
    pipeline = betanet.PacketPipeline(1)
    processor = betanet.SphinxProcessor()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for inherited in (
                lambda: pipeline.process_batch([b"garbage"]),
                pipeline.get_stats,
                lambda: processor.process_packet(b"garbage"),
            ):
                with pytest.raises(betanet.Closed):
                    inherited()
            processor.close()
            del pipeline
            with betanet.PacketPipeline(1) as own:
                status = 0 if own.process_batch([b"garbage"])[0].kind == "rejected" else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert pipeline.process_batch([b"garbage"])[0].kind == "rejected"
    pipeline.close()
    with pytest.raises(betanet.PacketError):
        processor.process_packet(b"garbage")


def signalled_meanwhile(code: str) -> subprocess.CompletedProcess[str]:
    """Run code that is sent SIGINT again and again, from a thread of its own."""
    script = f"""
import _thread, os, signal, threading, betanet
pipeline = betanet.PacketPipeline(1)
endless = [b"garbage"] * 3_000_000
main = threading.main_thread().ident
stop = threading.Event()
def signal_again_and_again():
    while not stop.wait(0.05):
        if pipeline.get_stats().packets_processed:
            signal.pthread_kill(main, signal.SIGINT)
            return
thread = threading.Thread(target=signal_again_and_again)
{textwrap.indent(textwrap.dedent(code), "").strip()}
"""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )


def test_ctrl_c_ends_a_batch_between_its_groups() -> None:
    done = signalled_meanwhile(
        """
        thread.start()
        try:
            pipeline.process_batch(endless)
        except KeyboardInterrupt:
            print(pipeline.get_stats().packets_processed < len(endless))
        print(pipeline.process_batch([b""])[0].reason)
        """
    )
    assert (done.returncode, done.stdout.split()) == (0, ["True", "wrong_length"]), done.stderr


def test_a_fork_while_a_batch_is_unwrapped_raises_in_the_child_alone() -> None:
    done = signalled_meanwhile(
        """
        children = []
        def fork(*_):
            children.append(os.fork())
        signal.signal(signal.SIGINT, fork)
        thread.start()
        try:
            print(len(pipeline.process_batch(endless)) == len(endless), flush=True)
        except betanet.Closed:
            os._exit(7 if children == [0] else 8)
        print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
        """
    )
    assert (done.returncode, done.stdout.split()) == (0, ["True", "7"]), done.stderr


def test_the_long_names_are_aliases() -> None:
    assert betanet.PyPacketPipeline is betanet.PacketPipeline
    assert betanet.PySphinxProcessor is betanet.SphinxProcessor
