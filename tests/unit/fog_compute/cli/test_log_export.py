"""Log lines sent to a collector: a real one over HTTP, and what waits while it is away."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from fog_compute.cli.log_export import records, sending
from fog_compute.cli.log_export.records import Sent
from fog_compute.cli.log_export.sending import keep_sending, read_places, write_places
from fog_compute.cli.log_lines import Follower, Line, Place, Wanted, parse
from fog_compute.layout import HomeLayout
from fog_compute.testing.clock import ManualClock

WAIT_S = 30.0


class Collector(HTTPServer):
    """Takes logs over OTLP and HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.requests: list[tuple[str, dict[str, str], ExportLogsServiceRequest]] = []
        self.came = threading.Event()
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        message = ExportLogsServiceRequest.FromString(body)
        self.server.requests.append((self.path, dict(self.headers), message))
        self.send_response(self.server.status)
        self.end_headers()
        self.server.came.set()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def layout(tmp_path: Path) -> HomeLayout:
    found = HomeLayout(tmp_path / "home")
    found.logs.mkdir(parents=True)
    return found


def line(second: int, message: str, level: str = "INFO", **fields: object) -> str:
    at = f"2026-11-27T10:00:{second:02}.500000Z"
    return json.dumps({"timestamp": at, "level": level, "message": message, **fields}) + "\n"


def test_process_sends_what_logs_hold_and_goes_on_where_it_stood(
    collector: Collector, layout: HomeLayout
) -> None:
    """INV-LOG-05."""
    log = layout.logs / "backend.log"
    named = {"service": "fog-backend", "node": "backend", "target": "fog_compute.server"}
    log.write_text(
        line(1, "poll.failed", "DEBUG", worker="w", **named)
        + line(2, "task.failed", "WARN", work="w", count=7, **named)
        + "panicked at 192.0.2.7\n"
    )
    environment = {
        **os.environ,
        "FOG_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }

    def run() -> None:
        command = [sys.executable, "-m", "fog_compute.cli.log_export", "--home", str(layout.root)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "ready"
            assert collector.came.wait(WAIT_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        collector.came.clear()

    run()
    with log.open("a") as more:
        more.write(line(3, "task.ended", **named))
    run()

    (path, headers, first), (_, _, second) = collector.requests
    assert (path, headers["authorization"]) == ("/v1/logs", "Bearer x")
    told = {
        attribute.key: attribute.value.string_value
        for attribute in first.resource_logs[0].resource.attributes
    }
    assert (told["service.name"], told["service.instance.id"]) == ("fog-backend", "backend")
    (failed,) = first.resource_logs[0].scope_logs[0].log_records
    assert first.resource_logs[0].scope_logs[0].scope.name == "fog_compute.server"
    assert (failed.body.string_value, failed.severity_text) == ("task.failed", "WARN")
    assert (failed.severity_number, failed.time_unix_nano) == (13, 1795773602_500_000_000)
    assert {one.key for one in failed.attributes} == {"work", "count"}
    assert first.resource_logs[1].scope_logs[0].log_records[0].body.string_value == (
        "panicked at [address]"
    )
    (ended,) = second.resource_logs[0].scope_logs[0].log_records
    assert ended.body.string_value == "task.ended"


class _Sink:
    """A collector that refuses as often as it is told to."""

    def __init__(self, refusals: int = 0, poison: str = "") -> None:
        self.refusals = refusals
        self.poison = poison
        self.taken: list[str] = []
        self.largest = 0

    def __call__(self, lines: Sequence[Line]) -> Sent:
        if self.refusals:
            self.refusals -= 1
            return Sent.AWAY
        if self.poison in [one.message for one in lines]:
            return Sent.REFUSED
        self.largest = max(self.largest, len(lines))
        self.taken += [one.message for one in lines]
        return Sent.TAKEN


def follower(layout: HomeLayout, most_bytes: int = 2000) -> Follower:
    return Follower(
        layout, (), Wanted(), places=read_places(layout.exported_file), most_bytes=most_bytes
    )


async def run(
    layout: HomeLayout, sink: _Sink, stop: asyncio.Event, clock: ManualClock | None = None
) -> None:
    clock = clock or ManualClock()
    await keep_sending(follower(layout), sink, layout.exported_file, clock, stop)


@pytest.mark.asyncio
async def test_all_is_sent_in_bounded_requests_before_the_end(
    layout: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "AT_ONCE", 3)
    names = [f"a.n{number}" for number in range(100)]
    log = layout.logs / "net.log"
    log.write_text("".join(line(1, name) for name in names))
    stop = asyncio.Event()
    stop.set()
    sink = _Sink()

    await run(layout, sink, stop)

    assert sink.taken == names
    assert sink.largest == 3
    assert read_places(layout.exported_file) == {"net": Place(log.stat().st_size, 0)}


@pytest.mark.asyncio
async def test_what_a_collector_that_is_away_missed_waits_in_the_files(layout: HomeLayout) -> None:
    """INV-LOG-05."""
    (layout.logs / "net.log").write_text(line(1, "a.first"))
    clock, stop, sink = ManualClock(), asyncio.Event(), _Sink(refusals=7)
    sent = asyncio.create_task(run(layout, sink, stop, clock))

    async with asyncio.timeout(WAIT_S):
        while not sink.taken:
            await clock.advance(61)
            await asyncio.to_thread(lambda: None)  # what waits in threads has its turn
    stop.set()
    await sent

    assert sink.taken == ["a.first"]


@pytest.mark.asyncio
async def test_end_does_not_wait_for_a_collector_and_loses_nothing(layout: HomeLayout) -> None:
    """INV-LOG-05."""
    (layout.logs / "net.log").write_text(line(1, "a.first"))
    stop = asyncio.Event()
    stop.set()

    await run(layout, _Sink(refusals=99), stop)
    sink = _Sink()
    await run(layout, sink, stop)

    assert sink.taken == ["a.first"]


@pytest.mark.asyncio
async def test_lines_of_a_log_that_was_cut_meanwhile_are_sent(layout: HomeLayout) -> None:
    """INV-LOG-05."""
    log = layout.logs / "net.log"
    log.write_text(line(1, "a.first"))
    stop = asyncio.Event()
    stop.set()
    sink = _Sink()
    await run(layout, sink, stop)
    log.with_suffix(".log.1").write_text(line(1, "a.first") + line(2, "a.second"))
    log.write_text(line(3, "a.third"))

    await run(layout, sink, stop)

    assert sink.taken == ["a.first", "a.second", "a.third"]


@pytest.mark.asyncio
async def test_line_that_is_refused_for_good_holds_up_no_other(
    layout: HomeLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    """INV-LOG-05."""
    names = [f"a.n{number}" for number in range(100)]
    (layout.logs / "net.log").write_text("".join(line(1, name) for name in names))
    stop = asyncio.Event()
    stop.set()
    sink = _Sink(poison=names.pop(41))

    await run(layout, sink, stop)

    assert sink.taken == names
    assert capsys.readouterr().out.count("lines.refused") == 1


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (200, Sent.TAKEN),
        (302, Sent.AWAY),
        (400, Sent.REFUSED),
        (401, Sent.AWAY),
        (413, Sent.REFUSED),
        (500, Sent.AWAY),
    ],
)
def test_answer_of_a_collector_says_what_became_of_lines(
    status: int, sent: Sent, collector: Collector
) -> None:
    collector.status = status
    lines = [parse("net", line(1, "a.first").encode(), "")]

    assert records.sender(collector.url)(lines) is sent
    assert len(collector.requests) == 1


@pytest.mark.parametrize("at", ["1960-01-01T00:00:00Z", "2600-01-01T00:00:00Z", "no time"])
def test_line_of_an_impossible_time_is_sent_without_one(at: str, collector: Collector) -> None:
    lines = [parse("net", json.dumps({"timestamp": at, "message": "a.first"}).encode(), "")]

    assert records.sender(collector.url)(lines) is Sent.TAKEN
    ((_, _, request),) = collector.requests
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert (record.body.string_value, record.time_unix_nano) == ("a.first", 0)


@pytest.mark.parametrize("kept", ['{"net": "x"}', '{"net": [-7, 1]}', '{"net": [7]}', "["])
def test_damaged_places_are_none(kept: str, layout: HomeLayout) -> None:
    write_places(layout.exported_file, {"net": Place(7, 1)})
    assert read_places(layout.exported_file) == {"net": Place(7, 1)}
    layout.exported_file.write_text(kept)
    assert read_places(layout.exported_file) == {}


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/logs"),
        ("http://c:3100/otlp/", "http://c:3100/otlp/v1/logs"),
        ("http://c/v1/logs", "http://c/v1/logs"),
    ],
)
def test_collector_takes_logs_below_its_base(endpoint: str, url: str) -> None:
    assert records.logs_url(endpoint) == url
