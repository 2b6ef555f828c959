"""Every sink shows what it was given, goes on where another process stopped, and stays bounded.

MLflow and TensorBoard are optional: what is used of them is checked with fakes of their clients,
and with the libraries themselves where they are installed.
"""

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest

from orchestrator.training import sinks_prometheus, sinks_tensorboard
from orchestrator.training.errors import BadRecord, TrainingDependencyMissing
from orchestrator.training.sinks import Point, point_of
from orchestrator.training.sinks_jsonl import JsonlSink, read_points
from orchestrator.training.sinks_mlflow import BATCH_METRICS_MAX, Api, MlflowSink
from orchestrator.training.sinks_prometheus import PrometheusSink
from orchestrator.training.sinks_tensorboard import TensorBoardSink
from tests.training.evidence_sinks import record


def point(step: int, **more: Any) -> Point:
    """Return the point of one step."""
    return point_of(record(step, **more))


def points(*steps: int, **more: Any) -> list[Point]:
    """Return the points of steps."""
    return [point(step, **more) for step in steps]


def test_a_record_is_read_with_every_number_as_it_is() -> None:
    found = point_of(
        {**record(12), "metrics": {"loss": 0.1, "nan": math.nan, "inf": "inf", "n": 3}}
    )
    assert (found.run, found.branch, found.step, found.epoch) == ("run-1", "main", 12, 1)
    assert found.values["loss"] == 0.1
    assert math.isnan(found.values["nan"])
    assert (found.values["inf"], found.values["n"]) == (math.inf, 3.0)
    with pytest.raises(BadRecord, match="metrics"):
        point_of({})


# JSON lines


def test_lines_are_json_for_any_reader(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "deep" / "metrics.jsonl")
    sink.write([point(3, loss=0.25, bad=math.nan, worse=-math.inf)])
    sink.close()
    (line,) = (tmp_path / "deep" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "run": "run-1",
        "branch": "main",
        "epoch": 0,
        "step": 3,
        "metrics": {"loss": 0.25, "bad": "nan", "worse": "-inf"},
    }


def test_the_last_word_on_a_step_counts_and_branches_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonlSink(path).write(points(0, 1, 2, loss=3.0))
    JsonlSink(path).write([*points(2, 3, loss=1.0), *points(2, branch="main@2", loss=9.0)])
    JsonlSink(path).write(points(0, run="run-2", loss=7.0))
    found = read_points(path, run="run-1")
    assert [(p.branch, p.step, p.values["loss"]) for p in found] == [
        ("main", 0, 3.0),
        ("main", 1, 3.0),
        ("main", 2, 1.0),
        ("main", 3, 1.0),
        ("main@2", 2, 9.0),
    ]
    assert [p.step for p in read_points(path, run="run-1", branch="main@2")] == [2]


def test_a_writer_killed_in_a_line_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonlSink(path).write(points(0, 1))
    whole = path.read_bytes()
    for torn_at in range(whole.index(b"\n") + 2, len(whole)):
        path.write_bytes(whole[:torn_at])
        JsonlSink(path).write(points(2))
        found = [p.step for p in read_points(path, run="run-1")]
        # All of a line but its end is the line: only then is step 1 there.
        assert found == ([0, 1, 2] if torn_at == len(whole) - 1 else [0, 2])


def test_lines_that_are_no_points_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"run": 1}\n\xff\xfe\n[]\n7\n\n{"metrics": []}\n')
    JsonlSink(path).write(points(5))
    assert [p.step for p in read_points(path, run="run-1")] == [5]


def test_a_file_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path, bytes_max=1000)
    for step in range(100):
        sink.write(points(step))
    files = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert files.keys() <= {"metrics.jsonl", "metrics.jsonl.1"}
    assert sum(files.values()) < 2500
    assert read_points(tmp_path / "metrics.jsonl.1", run="run-1")


def test_a_full_disk_is_an_error_for_the_lane(tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        JsonlSink("/dev/full").write(points(0))


# Prometheus


def shown(registry: prometheus_client.CollectorRegistry) -> dict[str, float]:
    """Return what a scrape of a registry says, by name and labels."""
    text = prometheus_client.generate_latest(registry).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_gauges_show_the_newest_value_by_run_and_branch() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusSink(registry).write(
        [*points(1, 12, loss=0.5), *points(3, branch="b", loss=math.nan)]
    )
    found = shown(registry)
    assert found['orchestrator_training_step{branch="main",run="run-1"}'] == 12
    assert found['orchestrator_training_epoch{branch="main",run="run-1"}'] == 1
    assert found['orchestrator_training_value{branch="main",metric="loss",run="run-1"}'] == 0.5
    assert math.isnan(found['orchestrator_training_value{branch="b",metric="loss",run="run-1"}'])


def test_a_second_sink_of_a_registry_shares_its_gauges() -> None:
    registry = prometheus_client.CollectorRegistry()
    one, other = PrometheusSink(registry), PrometheusSink(registry)
    one.write(points(1))
    other.write(points(2, run="run-2"))
    assert len(shown(registry)) == 6
    one.close()
    assert {name for name in shown(registry) if "run-1" in name} == set()
    assert len(shown(registry)) == 3


def test_the_branch_that_was_silent_longest_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks_prometheus, "BRANCHES_MAX", 3)
    registry = prometheus_client.CollectorRegistry()
    sink = PrometheusSink(registry)
    for run in ("a", "b", "c", "a", "d", "e"):
        sink.write(points(1, run=run))
    steps = [name for name in shown(registry) if name.startswith("orchestrator_training_step")]
    assert sorted(name.partition('run="')[2][0] for name in steps) == ["a", "d", "e"]


# TensorBoard


@dataclass
class Written:
    """A fake of TensorBoard's writer."""

    folder: str
    scalars: list[tuple[str, float, int]] = field(default_factory=list)
    flushed: int = 0
    closed: bool = False

    def add_scalar(self, tag: str, data: float, step: int) -> None:
        self.scalars.append((tag, data, step))

    def flush(self) -> None:
        self.flushed = len(self.scalars)

    def close(self) -> None:
        self.closed = True


def test_every_branch_has_a_folder_below_its_runs(tmp_path: Path) -> None:
    opened: list[Written] = []

    def open_writer(folder: str) -> Written:
        opened.append(Written(folder))
        return opened[-1]

    sink = TensorBoardSink(tmp_path, open_writer=open_writer)
    sink.write([*points(1, 2, loss=0.5), *points(1, run="../..", branch="..", loss=2.0)])
    assert opened[0].folder == str(tmp_path / "run-1" / "main")
    assert opened[0].scalars == [("loss", 0.5, 1), ("loss", 0.5, 2)]
    assert all(writer.flushed == len(writer.scalars) for writer in opened)
    # Ids are other people's words: none leaves the folder.
    assert Path(opened[1].folder).resolve().is_relative_to(tmp_path)
    assert Path(opened[1].folder).resolve() != tmp_path
    sink.close()
    assert all(writer.closed for writer in opened)


def test_no_more_files_are_open_than_allowed(tmp_path: Path) -> None:
    opened: list[Written] = []

    def open_writer(folder: str) -> Written:
        opened.append(Written(folder))
        return opened[-1]

    sink = TensorBoardSink(tmp_path, open_writer=open_writer)
    for number in range(sinks_tensorboard.WRITERS_MAX + 2):
        sink.write(points(1, run=f"run-{number}"))
    assert [writer.closed for writer in opened[:3]] == [True, True, False]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoardSink(tmp_path)
    sink.write(points(1, 2, loss=0.5))
    sink.write(points(3, loss=0.25))
    sink.close()
    found = EventAccumulator(str(tmp_path / "run-1" / "main")).Reload()
    (tag,) = [tag for tags in found.Tags().values() if isinstance(tags, list) for tag in tags]
    assert tag == "loss"
    assert [event.step for event in found.Tensors("loss")] == [1, 2, 3]


# MLflow


class Tracking:
    """A fake of MLflow's client: one server that several clients share."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: list[dict[str, str]] = []
        self.logged: list[tuple[str, list[Any]]] = []
        self.asked = 0

    def get_experiment_by_name(self, name: str) -> Any:
        self.asked += 1
        found = self.experiments.get(name)
        return SimpleNamespace(experiment_id=found) if found else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments) + 1))

    def search_runs(self, experiments: Sequence[str], wanted: str, max_results: int) -> list[Any]:
        assert list(experiments) == list(self.experiments.values())
        said = [
            " AND ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
            for tags in self.runs
        ]
        found = [index for index, text in enumerate(said) if text == wanted]
        return [self._run(index) for index in found[:max_results]]

    def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
        assert run_name
        self.runs.append(tags)
        return self._run(len(self.runs) - 1)

    def log_batch(self, run_id: str, metrics: list[Any]) -> None:
        assert len(metrics) <= 1000
        self.logged.append((run_id, metrics))

    def _run(self, index: int) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id=f"id-{index}"))


def mlflow_sink(server: Tracking) -> MlflowSink:
    """Return a sink for the fake."""
    return MlflowSink("http://nowhere", api=Api(server, lambda *m: m), now_ms=lambda: 1_700)


def test_a_branch_is_one_mlflow_run_in_whatever_process() -> None:
    server = Tracking()
    mlflow_sink(server).write(points(1, 2, loss=0.5))
    mlflow_sink(server).write([*points(3, loss=0.25), *points(3, branch="b", loss=0.1)])
    assert server.logged == [
        ("id-0", [("loss", 0.5, 1_700, 1), ("loss", 0.5, 1_700, 2)]),
        ("id-0", [("loss", 0.25, 1_700, 3)]),
        ("id-1", [("loss", 0.1, 1_700, 3)]),
    ]


def test_a_known_branch_asks_the_server_nothing_more() -> None:
    server = Tracking()
    sink = mlflow_sink(server)
    sink.write(points(1))
    asked = server.asked
    sink.write(points(2))
    assert server.asked == asked
    sink.close()


def test_calls_are_no_larger_than_mlflow_takes() -> None:
    server = Tracking()
    many = {f"m{n}": float(n) for n in range(90)}
    mlflow_sink(server).write(points(*range(30), **many))
    assert sum(len(metrics) for _, metrics in server.logged) == 2700
    assert max(len(metrics) for _, metrics in server.logged) == BATCH_METRICS_MAX


def test_an_id_that_mlflows_filter_cannot_say_is_not_searched_for() -> None:
    server = Tracking()
    mlflow_sink(server).write(points(1, run="o'hara"))
    assert server.runs == [{"orchestrator.run": "o'hara", "orchestrator.branch": "main"}]


def test_mlflow_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = (tmp_path / "mlruns").as_uri()
    MlflowSink(place).write(points(1, 2, loss=0.5))
    MlflowSink(place).write([*points(3, loss=0.25), *points(3, branch="b", loss=math.nan)])
    client = mlflow.tracking.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("orchestrator").experiment_id
    runs = {run.data.tags["orchestrator.branch"]: run for run in client.search_runs([experiment])}
    assert sorted(runs) == ["b", "main"]
    history = client.get_metric_history(runs["main"].info.run_id, "loss")
    assert sorted((entry.step, entry.value) for entry in history) == [(1, 0.5), (2, 0.5), (3, 0.25)]


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [
        ("prometheus_client", lambda: PrometheusSink(), "prometheus"),
        ("tensorboard.summary", lambda: TensorBoardSink("runs"), "tensorboard"),
        ("mlflow.entities", lambda: MlflowSink("http://nowhere"), "mlflow"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, make: Any, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrainingDependencyMissing, match=rf"celery-orchestrator\[{extra}\]"):
        make()
