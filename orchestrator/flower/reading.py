"""What the pages read of the store, with a bound on every answer and on the time for it."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.app import Orchestrator
from orchestrator.client.summary import RunSummary
from orchestrator.core.errors import InvalidWorkflowId, RunNotFound, StoreUnavailable
from orchestrator.core.values import Json
from orchestrator.flower.hiding import hides_payloads
from orchestrator.flower.steps import StepLine, steps_of, worded
from orchestrator.store.ports import AttemptKey, RunKey

T = TypeVar("T")

#: A page waits no longer for the store; it then says that the store cannot be read.
READ_SECONDS_MAX = 4.0
#: Runs on a page.
RUNS_SHOWN = 100
#: Runs that the API returns at most.
RUNS_MAX = 1_000
#: Events of the longest history that a page reads for its steps; it is read as a whole.
EVENTS_MAX = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run and its steps; where these were not read, `steps` is empty and `unread` says why."""

    run: RunSummary
    steps: list[StepLine]
    unread: str = ""

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        with_payloads = not hides_payloads()
        steps = [line.as_json(self.run.key, with_payloads=with_payloads) for line in self.steps]
        data: dict[str, Json] = {"run": run_json(self.run), "steps": list[Json](steps)}
        if self.unread:
            data["unread"] = self.unread
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which runs are wanted; "" takes every status, or every type."""

    status: str = ""
    type: str = ""
    limit: int = RUNS_SHOWN


async def list_runs(app: Any, wanted: Filter) -> list[RunSummary]:
    """Return the newest runs of a Celery app's orchestrator.

    Raises:
        StoreUnavailable: No answer in time.
        ConfigurationError: The app has no orchestrator, or no store that it could read.
    """
    orc = Orchestrator.of(app)
    runs = await _in_time(
        orc.aio.list(
            type=wanted.type or None,
            status=wanted.status or None,
            limit=max(1, min(wanted.limit, RUNS_MAX)),
        )
    )
    return list(runs)


async def read_run(app: Any, workflow_id: str, run: int) -> RunView:
    """Return a run and its steps; run 0 is the latest one of the id.

    Raises:
        RunNotFound, InvalidWorkflowId: There is none.
        StoreUnavailable: No answer in time.
        ConfigurationError: As `list_runs`.
    """
    handle = Orchestrator.of(app).aio.run(workflow_id, run)
    summary = await _in_time(handle.describe())
    if summary.seq > EVENTS_MAX:
        return RunView(run=summary, steps=[], unread=f"more than {EVENTS_MAX} events")
    try:
        history = await _in_time(handle.history())
    except ValueError as error:
        return RunView(run=summary, steps=[], unread=f"an entry is no event: {error}")
    return RunView(run=summary, steps=steps_of(history))


async def find_run(app: Any, task_id: str) -> RunKey | None:
    """Return the run whose id, or the id of one of whose attempts, is `task_id`.

    Raises:
        StoreUnavailable: No answer in time.
        ConfigurationError: As `list_runs`.
    """
    for key in possible_runs(task_id):
        try:
            handle = Orchestrator.of(app).aio.run(key.workflow_id, key.run)
            return (await _in_time(handle.describe())).key
        except (RunNotFound, InvalidWorkflowId):
            continue
    return None


def possible_runs(task_id: str) -> list[RunKey]:
    """Return the runs that `task_id` may be about; ids contain dots, so there may be two."""
    found = []
    with suppress(ValueError):  # not the id of an attempt
        found.append(AttemptKey.parse(task_id).run_key)
    workflow_id, _, run = task_id.rpartition(".")
    if workflow_id and run.isdecimal():
        found.append(RunKey(workflow_id=workflow_id, run=int(run)))
    return [key for key in found if key.run > 0]


#: Parts of a run that may tell of its input; why a run is blocked may be the text of an exception.
_PAYLOADS = (
    *("result", "state", "blocked", "search_attributes", "memo"),
    *("summary", "details", "current_details"),
)


def run_json(run: RunSummary) -> dict[str, Json]:
    """Return a run as a JSON object, without payloads where these are hidden."""
    data = run.as_json()
    if hides_payloads():
        for name in _PAYLOADS:
            data.pop(name, None)
    if run.failure is not None:
        data["failure"] = worded(run.failure, with_payloads=not hides_payloads())
    return data


async def _in_time(answer: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(answer, READ_SECONDS_MAX)
    except TimeoutError as error:
        raise StoreUnavailable("reading", f"silent for {READ_SECONDS_MAX:g} s") from error
