"""What a running process tells of itself, beside what the reference says that it tells."""

from __future__ import annotations

import urllib.request
from collections.abc import Collection

from prometheus_client.parser import text_string_to_metric_families

import metrics_reference
from fog_compute.observability.metrics import Family, families_of

__all__ = ["Exported", "sections"]

COMMON = "Every Python process"


def sections() -> dict[str, list[Family]]:
    """The metrics of the reference, by kind of process; those of every process are in each."""
    found = {title: list(each) for title, each in metrics_reference.python_sections().items()}
    common = found.pop(COMMON)
    ours = {title: [*each, *common] for title, each in found.items()}
    rust = metrics_reference.rust_sections()
    return {**ours, **{title: list(each) for title, each in rust.items()}}


class Exported:
    """The metrics that one process exports now."""

    def __init__(self, url: str, key: str | None = None) -> None:
        request = urllib.request.Request(f"{url}/metrics")
        if key is not None:
            request.add_header("authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            self.kind = answer.headers["content-type"]
            text = answer.read().decode()
        self._metrics = list(text_string_to_metric_families(text))

    def differs(self, listed: Collection[Family]) -> list[str]:
        """In what it is not what is listed: names, kinds, labels, and values of labels."""
        found = {one.name: one for one in families_of(self._metrics)}
        wanted = {one.name: one for one in listed}
        wrong = [f"{name} is not listed" for name in found.keys() - wanted.keys()]
        wrong += [f"{name} is not exported" for name in wanted.keys() - found.keys()]
        for name in found.keys() & wanted.keys():
            ours, theirs = found[name], wanted[name]
            if ours.kind != theirs.kind:
                wrong.append(f"{name} is a {ours.kind}")
            if ours.labels and ours.labels.keys() != theirs.labels.keys():
                wrong.append(f"{name} has the labels {sorted(ours.labels)}")
            for label, values in theirs.labels.items():
                if not isinstance(values, str):
                    more = set(ours.labels.get(label, ())) - set(values)
                    wrong += [f"{name} has {label} {value}" for value in more]
        return sorted(wrong)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series of a name that have these labels."""
        return sum(
            sample.value
            for metric in self._metrics
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
