"""A registry of one process, whose metrics say which values their labels take."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

import fog_compute

__all__ = [
    "CONTENT_TYPE",
    "Family",
    "Followed",
    "Registry",
    "Values",
    "families_of",
]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Of `Registry.render`: all servers of this century read it, and no name here needs a later one."""

Values: TypeAlias = Iterable[str] | str
"""The values that a label takes; or, where they are not counted up, what they are, in words."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as it is exported.

    Attributes:
        name: with its suffix, without that of a histogram's series.
        kind: counter, gauge or histogram.
        meaning: what it counts, in one sentence.
        labels: the values that each takes, or what they are where they are not counted up.
    """

    name: str
    kind: str
    meaning: str
    labels: Mapping[str, tuple[str, ...] | str]


class _Series(CollectorRegistry):
    """A registry without the time at which each series began: that is one more series for each."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            created = f"{metric.name}_created"
            samples = [one for one in metric.samples if one.name != created]
            lean = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            lean.samples = samples
            yield lean


class Registry:
    """All metrics of one process, those of the process itself among them.

    Counters and histograms whose labels have listed values stand at zero from the start, so that
    the first event is a step, too.
    """

    __slots__ = ("_labels", "_series")

    def __init__(self) -> None:
        self._series: Final = _Series()
        self._labels: Final[dict[str, Mapping[str, tuple[str, ...] | str]]] = {}
        ProcessCollector(registry=self._series)
        build = self.gauge(
            "fog_build_info", "1; its label says what runs.", version="the version of fog-compute"
        )
        build.labels(fog_compute.__version__).set(1)

    def counter(self, name: str, meaning: str, **labels: Values) -> Counter:
        """Make a counter; ``name`` is without ``_total``."""
        values = self._note(name, labels)
        made = Counter(name, meaning, tuple(labels), registry=self._series)
        for one in _listed(values):
            made.labels(*one)
        return made

    def gauge(self, name: str, meaning: str, **labels: Values) -> Gauge:
        """Make a gauge; one that has labels has no series before it is set."""
        self._note(name, labels)
        return Gauge(name, meaning, tuple(labels), registry=self._series)

    def histogram(
        self, name: str, meaning: str, buckets: Sequence[float], **labels: Values
    ) -> Histogram:
        """Make a histogram with these upper bounds."""
        values = self._note(name, labels)
        made = Histogram(name, meaning, tuple(labels), registry=self._series, buckets=buckets)
        for one in _listed(values):
            made.labels(*one)
        return made

    def render(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self._series)

    def value(self, name: str, **labels: str) -> float | None:
        """What a series stands at, named as it is exported; None if there is none."""
        return self._series.get_sample_value(name, labels)

    def families(self) -> Sequence[Family]:
        """All metrics, by name."""
        return families_of(self._series.collect(), self._labels)

    def _note(self, name: str, labels: Mapping[str, Values]) -> Mapping[str, tuple[str, ...] | str]:
        values = {
            label: each if isinstance(each, str) else tuple(each) for label, each in labels.items()
        }
        self._labels[name] = MappingProxyType(values)
        return values


def _listed(values: Mapping[str, tuple[str, ...] | str]) -> Iterator[tuple[str, ...]]:
    """All combinations of the labels' values, if there are labels and all values are listed."""
    listed = [each for each in values.values() if not isinstance(each, str)]
    if values and len(listed) == len(values):
        yield from itertools.product(*listed)


def families_of(
    metrics: Iterable[Metric],
    said: Mapping[str, Mapping[str, tuple[str, ...] | str]] = MappingProxyType({}),
) -> list[Family]:
    """Metrics as they are exported, by name.

    Args:
        metrics: a registry's, or those of a page that was read.
        said: what is known of the labels of some; of the others, the values that are there.
    """
    found = [
        Family(
            f"{metric.name}_total" if metric.type == "counter" else metric.name,
            metric.type,
            metric.documentation,
            said.get(metric.name) or _values_in(metric),
        )
        for metric in metrics
    ]
    return sorted(found, key=lambda family: family.name)


def _values_in(metric: Metric) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for sample in metric.samples:
        for label, value in sample.labels.items():
            if label != "le":
                found.setdefault(label, {})[value] = None
    return {label: tuple(values) for label, values in found.items()}


class Followed:
    """A counter that follows counts which others keep, and which begin anew with what keeps them.

    What they counted between the last look and their new beginning is lost; the counter never goes
    back.
    """

    __slots__ = ("_counter", "_seen")

    def __init__(self, counter: Counter) -> None:
        self._counter: Final = counter
        self._seen: Final[dict[tuple[str, ...], int]] = {}

    def now(self, count: int, *labels: str) -> None:
        """Take note of what a count stands at."""
        before = self._seen.get(labels, 0)
        self._counter.labels(*labels).inc(count - before if count >= before else count)
        self._seen[labels] = count
