"""Metrics for an MLflow tracking server: one MLflow run for every branch of a run.

ML1  A branch that goes on, in this process or another, goes on in the MLflow run it had: it is
     found again by its tags.
ML2  MLflow appends: of a step that is trained again it keeps both points.
ML3  A server that does not answer is given up after two seconds, without the client's own retries:
     the sink's lane decides about those.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.training.errors import TrainingDependencyMissing
from orchestrator.training.sinks import Point

#: Tags by which an MLflow run is found again (ML1).
RUN_TAG = "orchestrator.run"
BRANCH_TAG = "orchestrator.branch"
#: MLflow runs remembered; a forgotten one is found again by its tags.
RUNS_MAX = 100
#: What MLflow takes in one call.
BATCH_METRICS_MAX = 1000
#: For the client, unless somebody has set them (ML3).
CLIENT_SETTINGS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def _now_ms() -> int:
    # For the axis of a plot; nothing is decided by it.
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Api:
    """What is used of mlflow: an ``MlflowClient``, and what makes a metric for ``log_batch``.

    `metric` takes key, value, time in milliseconds and step.
    """

    client: Any
    metric: Callable[[str, float, int, int], Any]


class MlflowSink:
    """See `sinks.Sink`."""

    name = "mlflow"

    def __init__(
        self,
        tracking_uri: str,
        *,
        experiment: str = "orchestrator",
        api: Api | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """Report to a server, which is asked nothing yet; by mlflow's own client unless given one.

        Raises:
            TrainingDependencyMissing: mlflow is not installed.
        """
        found = api if api is not None else _mlflow(tracking_uri)
        self._client, self._metric = found.client, found.metric
        self._experiment = experiment
        self._now_ms = now_ms
        self._runs: OrderedDict[tuple[str, str], str] = OrderedDict()

    def write(self, points: Sequence[Point]) -> None:
        """See `sinks.Sink`."""
        by_place: dict[tuple[str, str], list[Any]] = {}
        now_ms = self._now_ms()
        for point in points:
            metrics = by_place.setdefault((point.run, point.branch), [])
            for name, value in point.values.items():
                metrics.append(self._metric(name, value, now_ms, point.step))
        for place, metrics in by_place.items():
            run_id = self._run_id(place)
            for at in range(0, len(metrics), BATCH_METRICS_MAX):
                self._client.log_batch(run_id, metrics=metrics[at : at + BATCH_METRICS_MAX])

    def close(self) -> None:
        """Leave the MLflow runs open: another worker may go on with them."""
        self._runs.clear()

    def _run_id(self, place: tuple[str, str]) -> str:
        if place not in self._runs:
            self._runs[place] = self._found(place) or self._created(place)
        self._runs.move_to_end(place)
        while len(self._runs) > RUNS_MAX:
            self._runs.popitem(last=False)
        return self._runs[place]

    def _found(self, place: tuple[str, str]) -> str | None:
        """Return the MLflow run that has a branch's tags (ML1)."""
        if any("'" in part for part in place):
            # Cannot be said in MLflow's filter; such a branch begins anew in every process.
            return None
        run, branch = place
        wanted = f"tags.`{RUN_TAG}` = '{run}' AND tags.`{BRANCH_TAG}` = '{branch}'"
        runs = self._client.search_runs([self._experiment_id()], wanted, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _created(self, place: tuple[str, str]) -> str:
        run, branch = place
        made = self._client.create_run(
            self._experiment_id(),
            tags={RUN_TAG: run, BRANCH_TAG: branch},
            run_name=f"{run} {branch}",
        )
        return str(made.info.run_id)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self._experiment))


def _mlflow(tracking_uri: str) -> Api:
    try:
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise TrainingDependencyMissing("the MLflow sink", "mlflow-skinny", "mlflow") from error
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    return Api(MlflowClient(tracking_uri=tracking_uri), Metric)
