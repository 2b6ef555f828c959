"""Many histories against the code of an app, in several processes.

RP1  Given files, or events, it reaches no store and no broker.
RP2  Results come in the order of the sources, however many processes there are.
RP3  What one history does to its process (a bug in C, memory) costs no other one its result.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from orchestrator.app import Orchestrator
from orchestrator.client.history_file import RecordedHistory, history_files
from orchestrator.core import guard
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ConfigurationError
from orchestrator.core.limits import ACTIVATION_MS_MAX
from orchestrator.engine.watchdog import Watchdog
from orchestrator.replaying.one import Source, replay_source
from orchestrator.replaying.results import ReplayReport, ReplayResult, ReplayStatus

Registry = Mapping[str, WorkflowDefinition]

_DIED = "the process that replayed it died; replay this one alone, with --jobs 1, to see why"


class Replayer:
    """Replays histories against the code that is there now.

        report = Replayer(orc).replay(["histories/"])
        assert report, report.unfit

    Args:
        workflows: The app's orchestrator, with every module that registers a workflow imported;
            or the definitions by name.
        jobs: Processes; with 1 everything happens here.  More are forked from this one, so that
            they have its workflows: make them before you start threads.
        fail_fast: Stop at the first history that does not fit.

    Raises:
        ConfigurationError: Fewer than one job, or more than one where processes cannot be forked.
    """

    def __init__(
        self, workflows: Orchestrator | Registry, *, jobs: int = 1, fail_fast: bool = False
    ) -> None:
        if jobs < 1:
            raise ConfigurationError("jobs of the replayer", str(jobs), "at least 1 is wanted")
        if jobs > 1 and "fork" not in multiprocessing.get_all_start_methods():
            raise ConfigurationError(
                "jobs of the replayer", str(jobs), "this system cannot fork processes: use 1"
            )
        self._orchestrator = workflows if isinstance(workflows, Orchestrator) else None
        self._registry = dict(
            workflows.driven if isinstance(workflows, Orchestrator) else workflows
        )
        self._jobs = jobs
        self._fail_fast = fail_fast

    def replay(self, sources: Iterable[Source] | str | Path | RecordedHistory) -> ReplayReport:
        """Replay files, folders of files, and histories at hand (`RecordedHistory.of`).

        Raises:
            HistoryFileError: A path that does not exist, or a folder without a history.
        """
        if isinstance(sources, str | Path | RecordedHistory):
            sources = [sources]
        return self._report(list(_spread(sources)))

    def replay_open(self, type: str | None = None) -> ReplayReport:
        """Replay the open runs of the store, as they stand; they are exported for it, and go on.

        Runs that no orchestrator has seen yet have no history, and are not in the report.

        Raises:
            ConfigurationError: It was given definitions alone: it knows no store.
            StoreUnavailable, UsageError: See `Orchestrator.export_open`.
        """
        if self._orchestrator is None:
            raise ConfigurationError("replayer", "no store", "give it the Orchestrator")
        with tempfile.TemporaryDirectory(prefix="orchestrator-replay-") as folder:
            exported = self._orchestrator.export_open(folder, type=type)
            report = self._report(exported.files).from_store(folder)
        failed = [
            ReplayResult(
                source=workflow_id,
                workflow_id=workflow_id,
                status=ReplayStatus.UNREADABLE,
                message=message,
            )
            for workflow_id, message in exported.failed.items()
        ]
        return ReplayReport(results=[*report.results, *failed], is_cut_short=report.is_cut_short)

    def _report(self, sources: list[Source] | list[Path]) -> ReplayReport:
        results: list[ReplayResult] = []
        jobs = min(self._jobs, len(sources))
        with self._forked(sources, jobs) if jobs > 1 else self._here(sources) as found:
            for result in found:
                results.append(result)
                if self._fail_fast and not result:
                    break
        return ReplayReport(results=results, is_cut_short=len(results) < len(sources))

    @contextmanager
    def _here(self, sources: Iterable[Source]) -> Iterator[Iterator[ReplayResult]]:
        guard.install()
        watchdog = Watchdog(ACTIVATION_MS_MAX)
        try:
            yield (replay_source(self._registry, each, watchdog) for each in sources)
        finally:
            watchdog.close()

    @contextmanager
    def _forked(self, sources: Iterable[Source], jobs: int) -> Iterator[Iterator[ReplayResult]]:
        pool = _pool(jobs, self._registry)
        try:
            futures = [(each, pool.submit(_replay_here, each)) for each in sources]
            yield (self._result(each, future) for each, future in futures)
        finally:
            pool.shutdown(cancel_futures=True)

    def _result(self, source: Source, future: "Future[ReplayResult]") -> ReplayResult:
        try:
            return future.result()
        except BrokenProcessPool:
            # One process that dies takes the pool with it: find out whose fault it was (RP3).
            return self._alone(source)

    def _alone(self, source: Source) -> ReplayResult:
        with _pool(1, self._registry) as pool:
            try:
                return pool.submit(_replay_here, source).result()
            except BrokenProcessPool:
                name = str(source)
                if isinstance(source, RecordedHistory):
                    name = source.header.workflow_id
                return ReplayResult(source=name, status=ReplayStatus.FAILED, message=_DIED)


def jobs_default() -> int:
    """Return how many processes this machine has room for."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spread(sources: Iterable[Source]) -> Iterator[Source]:
    for source in sources:
        if isinstance(source, RecordedHistory):
            yield source
        else:
            yield from history_files([source])


def _pool(jobs: int, registry: Registry) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(registry,),
    )


class _Process:
    """What a forked process replays with; set once, right after the fork."""

    registry: Registry
    watchdog: Watchdog


def _begin(registry: Registry) -> None:
    guard.install()
    _Process.registry = registry
    _Process.watchdog = Watchdog(ACTIVATION_MS_MAX)


def _replay_here(source: Source) -> ReplayResult:
    return replay_source(_Process.registry, source, _Process.watchdog)
