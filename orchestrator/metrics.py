"""Metrics of an orchestrator for Prometheus, under the names that Temporal's SDKs give them.

``celery -A app orchestrator --metrics-port 9464`` serves them; `PrometheusObserver` is for programs
that serve their own.  Each name begins with ``orchestrator_``; instants are the store's clock.

    workflow_completed, workflow_failed, workflow_canceled, workflow_terminated,
    workflow_continue_as_new      ends of runs, by workflow_type
    workflow_endtoend_latency     from the beginning of a run to its end
    workflow_task_execution_latency       one input applied to the code of a run
    workflow_task_execution_failed        runs blocked, by failure_reason
    workflow_task_replay_latency          a history applied to the code of its run
    workflow_task_schedule_to_start_latency   how long the oldest arrival of a partition lay unread
    activity_succeed_endtoend_latency     from the order of a step to its result, by activity_type
    activity_execution_failed             attempts that failed, by activity_type and failure_reason
    sticky_cache_size, sticky_cache_hit, sticky_cache_miss   runs in memory, and those looked for
    workflows_resting                     open runs that cannot be worked on: not blocked, not well
    partitions, commits_refused           what is owned; commits that did not become history
"""

from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.core import events as e
from orchestrator.core.errors import ConfigurationError
from orchestrator.engine.observing import Committed, Observer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Seconds: a task of milliseconds as well as a run of weeks.
_RUN_BUCKETS = (0.05, 0.1, 0.5, 1, 5, 10, 60, 600, 3_600, 86_400, 604_800, 2_592_000)
_TASK_BUCKETS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60)

_NAMESPACE = "orchestrator"
_TYPE, _TASK, _REASON = "workflow_type", "activity_type", "failure_reason"
#: Names that are told apart: whoever may start runs could make up any number of them.
NAMES_MAX = 1_000

_ENDS: dict[type[e.Event], str] = {
    e.RunCompleted: "completed",
    e.RunFailed: "failed",
    e.RunCancelled: "canceled",
    e.RunTerminated: "terminated",
    e.RunReset: "terminated",
    e.RunContinuedAsNew: "continue_as_new",
}


class _Metrics:
    """Makes metrics of one registry."""

    def __init__(self, registry: "CollectorRegistry | None") -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ConfigurationError(
                "metrics",
                "no prometheus-client",
                "install it: pip install 'celery-orchestrator[prometheus]'",
            ) from error
        self._client = prometheus_client
        self.registry = prometheus_client.REGISTRY if registry is None else registry

    def counter(self, name: str, text: str, *labels: str) -> "Counter":
        return self._client.Counter(
            name, text, labels, namespace=_NAMESPACE, registry=self.registry
        )

    def gauge(self, name: str, text: str) -> "Gauge":
        return self._client.Gauge(name, text, namespace=_NAMESPACE, registry=self.registry)

    def latency(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _TASK_BUCKETS
    ) -> "Histogram":
        return self._client.Histogram(
            name,
            text,
            labels,
            namespace=_NAMESPACE,
            unit="seconds",
            buckets=buckets,
            registry=self.registry,
        )


class PrometheusObserver(Observer):
    """See the module, and `engine.observing.Observer`."""

    def __init__(self, registry: "CollectorRegistry | None" = None) -> None:
        """Take the metrics of a registry; of the client's own unless one is given.

        Raises:
            ConfigurationError: prometheus-client is not installed.
        """
        made = _Metrics(registry)
        self.registry = made.registry
        self._shown: set[str] = set()
        self._ends = {
            name: made.counter(f"workflow_{name}", f"Runs that ended: {name}.", _TYPE)
            for name in dict.fromkeys(_ENDS.values())
        }
        self._lasted = made.latency(
            "workflow_endtoend_latency",
            "From start to end of a run.",
            _TYPE,
            buckets=_RUN_BUCKETS,
        )
        self._activated = made.latency(
            "workflow_task_execution_latency", "One input applied to the code of a run.", _TYPE
        )
        self._blocked = made.counter(
            "workflow_task_execution_failed", "Times that a run was blocked.", _TYPE, _REASON
        )
        self._replayed = made.latency(
            "workflow_task_replay_latency", "A history applied to the code of its run.", _TYPE
        )
        self._waited = made.latency(
            "workflow_task_schedule_to_start_latency", "How long the oldest arrival lay unread."
        )
        self._took = made.latency(
            "activity_succeed_endtoend_latency",
            "From the order of a step to its result.",
            _TASK,
            buckets=_RUN_BUCKETS,
        )
        self._attempts = made.counter(
            "activity_execution_failed", "Attempts at steps that failed.", _TASK, _REASON
        )
        self._hits = made.counter("sticky_cache_hit", "Runs that were in memory when wanted.")
        self._misses = made.counter("sticky_cache_miss", "Runs that were read from their history.")
        self._runs = made.gauge("sticky_cache_size", "Runs in memory.")
        self._rested = made.gauge(
            "workflows_resting", "Open runs that cannot be worked on; the log says why."
        )
        self._partitions = made.gauge("partitions", "Partitions owned.")
        self._refused = made.counter("commits_refused", "Commits that are not history.", "result")

    def committed(self, commit: Committed) -> None:
        """See `Observer`."""
        workflow = self._named(commit.workflow)
        for event in commit.events:
            name = _ENDS.get(type(event))
            if name is not None:
                self._ends[name].labels(workflow).inc()
                lasted_ms = event.at_ms - commit.started_at_ms
                self._lasted.labels(workflow).observe(lasted_ms / 1000)
                continue
            match event:
                case e.RunBlocked():
                    self._blocked.labels(workflow, event.kind).inc()
                case e.StepCompleted() if event.step in commit.steps:
                    step = commit.steps[event.step]
                    took_ms = event.at_ms - step.scheduled_at_ms
                    task = self._named(step.scheduled.task)
                    self._took.labels(task).observe(took_ms / 1000)
                case e.StepFailed() | e.StepAttemptFailed() if event.step in commit.steps:
                    task = self._named(commit.steps[event.step].scheduled.task)
                    self._attempts.labels(task, event.kind).inc()

    def refused(self, result: str) -> None:
        """See `Observer`."""
        self._refused.labels(result).inc()

    def activated(self, workflow: str, seconds: float) -> None:
        """See `Observer`."""
        self._activated.labels(self._named(workflow)).observe(seconds)

    def replayed(self, workflow: str, seconds: float) -> None:
        """See `Observer`."""
        self._replayed.labels(self._named(workflow)).observe(seconds)

    def looked_up(self, *, is_in_memory: bool) -> None:
        """See `Observer`."""
        (self._hits if is_in_memory else self._misses).inc()

    def rested(self, count: int) -> None:
        """See `Observer`."""
        self._rested.set(count)

    def turned(self, *, runs: int, partitions: int, waited_ms: "Sequence[int]") -> None:
        """See `Observer`."""
        self._runs.set(runs)
        self._partitions.set(partitions)
        for waited in waited_ms:
            self._waited.observe(waited / 1000)

    def _named(self, name: str) -> str:
        if name not in self._shown:
            if len(self._shown) >= NAMES_MAX:
                return "(others)"
            self._shown.add(name)
        return name


@contextmanager
def serve(observer: PrometheusObserver, host: str, port: int) -> "Iterator[int]":
    """Serve the metrics over HTTP from a thread of its own; yield the port, and end with the block.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr=host, registry=observer.registry)
    except OSError as error:
        raise ConfigurationError(
            "metrics", f"{host}:{port} cannot be had: {error.strerror}", "name another port, or 0"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
