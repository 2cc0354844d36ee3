"""What it costs to watch an idle fog, and how fast the dashboards' questions are answered.

Starts a fog with its Prometheus, Alertmanager and exporter of the machine, and counts the processor
time of all its processes: while they watch, and before and after that while they are frozen, as if
nobody watched.
Then another Prometheus gets an hour of samples of all that was seen, and is asked everything that
the dashboards ask. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import psutil

ROOT: Final = Path(__file__).resolve().parents[1]
WATCHERS: Final = ("prometheus", "alertmanager", "node-exporter")
SETTLED_S: Final = 2.0
WATCHED_S: Final = 21.0
"""More than one scrape of everything."""

ALONE_S: Final = 6.0
"""Twice."""

SCRAPES: Final = 5
SPAN_S: Final = 3600
STEP_S: Final = 15
"""Of the range that a dashboard shows at first, and of the points in it."""

READY_S: Final = 60.0


@contextlib.contextmanager
def fog(home: Path) -> Iterator[dict[str, Any]]:
    """A fog of two workers that is watched; gives what it says of its processes."""
    settings = {
        "FOG_HOME": str(home),
        "FOG_PORT": "0",
        "FOG_PROMETHEUS_PORT": "0",
        "FOG_ALERTMANAGER_PORT": "0",
        "FOG_WORKERS": "2",
        "FOG_KINDS": "wasm",  # the interpreter of scripts would be compiled meanwhile
        "FOG_CHAT_BLE": "0",
    }
    command = [sys.executable, "-P", "-m", "fog_compute.cli.main", "up", "--monitoring", "--json"]
    process = subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True
    )
    try:
        lines = iter(process.stdout or ())
        if not any(json.loads(line).get("event") == "ready" for line in lines):
            sys.exit("the fog did not come up")
        yield json.loads((home / "fog.json").read_text("utf-8"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=READY_S)


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """What processes have used so far; one that is gone used nothing more."""
    used = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def percents_of_core(
    groups: Sequence[Sequence[psutil.Process]], seconds: float
) -> tuple[float, ...]:
    """What each group of processes uses of one core, all in the same time."""
    before, began = [processor_seconds(group) for group in groups], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    after = [processor_seconds(group) for group in groups]
    return tuple(100 * (late - early) / took for early, late in zip(before, after, strict=True))


def unwatched(processes: Sequence[psutil.Process], watchers: Sequence[psutil.Process]) -> float:
    """What processes use of one core while those that watch are frozen."""
    for one in watchers:
        one.suspend()
    try:
        (found,) = percents_of_core((processes,), ALONE_S)
    finally:
        for one in watchers:
            one.resume()
    return found


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    """The body of an answer."""
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        sys.exit(f"{path} is answered with {answer.status}: {body[:400]!r}")
    return body


def connect(url: str) -> http.client.HTTPConnection:
    """A connection that stays, as Prometheus has one."""
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)


def scrapes_ms(home: Path) -> list[float]:
    """How long each node takes to say its metrics, several times each."""
    targets = json.loads((home / "monitoring/targets/betanet-mixnodes.json").read_text("utf-8"))
    took = []
    for target in targets:
        with contextlib.closing(connect(f"http://{target['targets'][0]}")) as connection:
            for _ in range(SCRAPES):
                began = time.perf_counter()
                get(connection, "/metrics")
                took.append((time.perf_counter() - began) * 1000)
    return took


def questions() -> list[str]:
    """The paths of everything that the dashboards ask, each as Grafana would."""
    place = ROOT / "monitoring/grafana/queries.py"
    spec = importlib.util.spec_from_file_location("dashboard_queries", place)
    if spec is None or spec.loader is None:
        sys.exit(f"{place} cannot be loaded")
    module = sys.modules["dashboard_queries"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    now = time.time()
    paths = []
    for asked in module.queries():
        words: Mapping[str, object] = {"query": asked.expr, "time": now}
        if not asked.instant:
            words = {"query": asked.expr, "start": now - SPAN_S, "end": now, "step": STEP_S}
        kind = "query" if asked.instant else "query_range"
        paths.append(f"/api/v1/{kind}?{urlencode(words)}")
    return paths


def asked_ms(prometheus: str) -> list[float]:
    """How long each question takes, after it was asked once."""
    took = []
    with contextlib.closing(connect(prometheus)) as connection:
        paths = questions()
        for path in paths:
            get(connection, path)
        for path in paths:
            began = time.perf_counter()
            get(connection, path)
            took.append((time.perf_counter() - began) * 1000)
    return took


def percentile(values: Sequence[float], which: int) -> float:
    """One of them, or between two."""
    return statistics.quantiles(values, n=100, method="inclusive")[which - 1]


@contextlib.contextmanager
def hour_of(seen: str, folder: Path) -> Iterator[str]:
    """A Prometheus that has had the same samples for an hour; gives its address.

    ``seen`` is what another one has at the moment, as it hands it on.
    """
    folder.mkdir()
    now = int(time.time())
    moments = range(now - SPAN_S, now, STEP_S)
    with (folder / "samples").open("w", encoding="utf-8") as samples:
        for line in seen.splitlines():
            if not line.startswith("#"):
                sample = line.rpartition(" ")[0]
                samples.writelines(f"{sample} {moment}\n" for moment in moments)
        samples.write("# EOF\n")
    data = folder / "data"
    words = ("tsdb", "create-blocks-from", "openmetrics", folder / "samples", data)
    subprocess.run([tool("promtool"), *words], check=True, stdout=subprocess.DEVNULL)
    (folder / "prometheus.yml").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as place:
        address = f"127.0.0.1:{place.getsockname()[1]}"
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": data}
    command = [tool("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    process = subprocess.Popen(
        [*command, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + READY_S
        while not is_ready(f"http://{address}"):
            if time.monotonic() > deadline:
                sys.exit("the Prometheus of an hour is not ready")
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def is_ready(url: str) -> bool:
    """Whether a Prometheus answers questions by now."""
    with contextlib.closing(connect(url)) as connection:
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False


def tool(name: str) -> str:
    """One of the programs of Debian's package `prometheus`."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        sys.exit(f"{name} is not here (Debian: prometheus)")
    return found


def measure(home: Path) -> dict[str, Any]:
    """All figures, and what they depend on."""
    with fog(home) as state:
        owner = psutil.Process(state["pid"])
        processes = [owner, *owner.children(recursive=True)]
        children = state["children"]
        watchers = [psutil.Process(children[name]) for name in WATCHERS if name in children]
        prometheus = next(one for one in watchers if one.pid == children["prometheus"])
        time.sleep(SETTLED_S)
        # Before and after, for a fog that has just started comes to rest by and by.
        first = unwatched(processes, watchers)
        watched, beside, own = percents_of_core((processes, watchers, [prometheus]), WATCHED_S)
        alone = (first + unwatched(processes, watchers)) / 2
        resident = prometheus.memory_info().rss
        url = state["monitoring"]["prometheus"]
        scraped = scrapes_ms(home)
        with contextlib.closing(connect(url)) as connection:
            seen = get(connection, "/federate?match[]=%7B__name__%3D~%22.%2B%22%7D").decode()
        with hour_of(seen, home.with_name("hour")) as filled:
            asked = asked_ms(filled)
        summary = {
            "prometheus_rss_mb": round(resident / 1e6, 1),
            "prometheus_cpu_pct": round(own, 2),
            "watchers_cpu_pct": round(beside, 2),
            "watched_cpu_pct": round(watched, 2),
            "unwatched_cpu_pct": round(alone, 2),
            "monitoring_cpu_pct": round(watched - alone, 2),
            "scrape_ms_node": round(statistics.median(scraped), 2),
            "dashboard_query_ms_p99": round(percentile(asked, 99), 1),
        }
        details = {
            "series": sum(not line.startswith("#") for line in seen.splitlines()),
            "questions": len(asked),
            "watchers": [name for name in WATCHERS if name in children],
            "watchers_rss_mb": round(sum(one.memory_info().rss for one in watchers) / 1e6, 1),
            "dashboard_query_ms_p50": round(statistics.median(asked), 1),
            "dashboard_query_ms_max": round(max(asked), 1),
        }
    return {"summary": summary, "details": details}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(json.dumps(measure(Path(place) / "home")) + "\n")


if __name__ == "__main__":
    main()
