"""What a run may know of itself: all of it is in its history."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.core.events import HistoryCopied, RunStarted
from orchestrator.core.search_attributes import SearchValue, decode_attributes
from orchestrator.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentInfo:
    """Which run ordered this one."""

    workflow_id: str
    run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """Which schedule started a run, and for which instant."""

    schedule_id: str
    scheduled_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What `workflow.info` returns; attributes and memo as they are now.

    `first_run` is the number of the first run of the chain, `continued_from` of the one before.
    `headers` are what came with the start; see `core.interceptors`.
    `history_length` counts the events up to the input of this activation.  `attempt`: see
    `core.run_retry`.
    """

    workflow_id: str
    run: int
    workflow: str
    version: str
    started_at_ms: int
    parent: ParentInfo | None = None
    schedule: ScheduleInfo | None = None
    search_attributes: Mapping[str, SearchValue] = field(default_factory=dict)
    memo: Mapping[str, Json] = field(default_factory=dict)
    first_run: int = 1
    continued_from: int | None = None
    history_length: int = 0
    is_continue_as_new_suggested: bool = False
    attempt: int = 1
    headers: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, workflow_id: str, run: int, started: RunStarted) -> "RunInfo":
        """Return what the run's first event says of it."""
        by, due = started.parent, started.scheduled
        return cls(
            workflow_id=workflow_id,
            run=run,
            workflow=started.workflow,
            version=started.version,
            started_at_ms=started.at_ms,
            parent=ParentInfo(workflow_id=str(by["workflow"]), run=int(str(by["run"])))
            if by
            else None,
            schedule=ScheduleInfo(
                schedule_id=str(due["schedule"]), scheduled_at_ms=int(str(due["at_ms"]))
            )
            if due
            else None,
            search_attributes=decode_attributes(started.search_attributes),
            memo=started.memo,
            first_run=started.first_run or run,
            continued_from=started.continued_from or None,
            attempt=started.attempt,
            headers=started.headers,
        )

    def after_copy(self, copied: HistoryCopied, workflow_id: str, run: int) -> "RunInfo":
        """Return what a run knows of itself behind the part of its history that was copied."""
        return replace(
            self,
            workflow_id=workflow_id,
            run=run,
            first_run=copied.first_run or run,
            continued_from=copied.continued_from or None,
        )
