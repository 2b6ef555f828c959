"""Gauges for Prometheus: the newest value of every metric, by run and branch.

PR1  Labels are bounded: the branch that was silent longest leaves when too many are there.
PR2  In a worker that forks, ``PROMETHEUS_MULTIPROC_DIR`` names a folder for the children's values,
     and whoever serves them calls prometheus_client's ``mark_process_dead`` for a child that ended.
     A value that left (PR1) stays in that folder until then: the client cannot remove it.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.training.errors import TrainingDependencyMissing
from orchestrator.training.sinks import Point

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge

#: Branches shown at a time: more than a fleet trains at once, few enough for a scrape.
BRANCHES_MAX = 500


class PrometheusSink:
    """See `sinks.Sink`.  Several sinks of one registry share its gauges."""

    name = "prometheus"

    def __init__(self, registry: "CollectorRegistry | None" = None) -> None:
        """Take the gauges of a registry; of the client's own unless one is given.

        Raises:
            TrainingDependencyMissing: prometheus-client is not installed.
        """
        try:
            import prometheus_client
        except ImportError as error:
            raise TrainingDependencyMissing(
                "the Prometheus sink", "prometheus-client", "prometheus"
            ) from error
        chosen = registry if registry is not None else prometheus_client.REGISTRY
        self._value, self._step, self._epoch = _gauges(chosen)
        self._shown: OrderedDict[tuple[str, str], set[str]] = OrderedDict()

    def write(self, points: Sequence[Point]) -> None:
        """See `sinks.Sink`."""
        for point in points:
            place = (point.run, point.branch)
            shown = self._shown.setdefault(place, set())
            self._shown.move_to_end(place)
            self._step.labels(*place).set(point.step)
            self._epoch.labels(*place).set(point.epoch)
            for name, value in point.values.items():
                self._value.labels(*place, name).set(value)
                shown.add(name)
        while len(self._shown) > BRANCHES_MAX:
            self._forget(*self._shown.popitem(last=False))

    def close(self) -> None:
        """Take this sink's runs from the gauges."""
        while self._shown:
            self._forget(*self._shown.popitem())

    def _forget(self, place: tuple[str, str], names: set[str]) -> None:
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            # The client warns that it cannot (PR2).
            return
        self._step.remove(*place)
        self._epoch.remove(*place)
        for name in names:
            self._value.remove(*place, name)


@lru_cache(maxsize=16)
def _gauges(registry: "CollectorRegistry") -> "tuple[Gauge, Gauge, Gauge]":
    """Return the gauges of a registry, which takes a name only once."""
    from prometheus_client import Gauge

    def gauge(name: str, about: str, *labels: str) -> Gauge:
        return Gauge(
            f"orchestrator_training_{name}",
            about,
            ("run", "branch", *labels),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )

    return (
        gauge("value", "Newest value of a metric of the training", "metric"),
        gauge("step", "Steps since the first of the run"),
        gauge("epoch", "Epoch in progress, counted from 0"),
    )
