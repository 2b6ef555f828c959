"""The steps of a run, as its history tells them: names, attempts, failures, what undoes what.

No arguments and no results: those are Flower's own pages' to show, or to hide.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.client.summary import HistoryEvent
from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.values import Json
from orchestrator.store.ports import AttemptKey, RunKey


@dataclass(slots=True, kw_only=True)
class StepLine:
    """One step.

    Args:
        step: Its number in the run, from 1.
        task: Name of the Celery task.
        compensates: Number of the step that it undoes; None where it undoes none.
        is_local: Whether it runs in the orchestrator, and so is no task in Flower.
        attempt: The last one, from 1.
        status: "scheduled", "completed", "failed", "cancelled", "retrying" or "parked".
        failures: What went wrong, by attempt.
    """

    step: int
    task: str
    compensates: int | None = None
    is_local: bool = False
    attempt: int = 1
    status: str = "scheduled"
    failures: dict[int, Failure] = field(default_factory=dict)

    def task_ids(self, run: RunKey) -> list[str]:
        """Return the ids of its Celery tasks, one an attempt; none for a local step."""
        if self.is_local:
            return []
        return [
            str(AttemptKey(workflow_id=run.workflow_id, run=run.run, step=self.step, attempt=n))
            for n in range(1, self.attempt + 1)
        ]

    def as_json(self, run: RunKey, *, with_payloads: bool) -> dict[str, Json]:
        """Return it as a JSON object; parts that say nothing are left out."""
        data: dict[str, Json] = {
            "step": self.step,
            "task": self.task,
            "status": self.status,
            "attempt": self.attempt,
            "task_ids": list[Json](self.task_ids(run)),
        }
        if self.compensates is not None:
            data["undoes"] = self.compensates
        if self.is_local:
            data["local"] = True
        if self.failures:
            data["failures"] = {
                str(n): worded(failure, with_payloads=with_payloads)
                for n, failure in self.failures.items()
            }
        return data


def worded(failure: Failure, *, with_payloads: bool) -> str:
    """Return a failure in a line; its message may quote a payload, its type does not."""
    if not with_payloads or not failure.message:
        return failure.type
    return f"{failure.type}: {failure.message}"


def steps_of(history: Iterable[HistoryEvent]) -> list[StepLine]:
    """Return the steps that a history has scheduled so far, in their order."""
    lines: dict[int, StepLine] = {}
    for each in history:
        event = each.event
        if isinstance(event, e.StepScheduled):
            lines[event.step] = StepLine(
                step=event.step,
                task=event.task,
                compensates=event.compensates,
                is_local=bool(event.options.get("local")),
            )
        elif (step := getattr(event, "step", None)) in lines:
            _apply(lines[step], event)
    return list(lines.values())


def _apply(line: StepLine, event: e.Event) -> None:
    """Note in `line` what an event says of its step."""
    if isinstance(event, e.StepCompleted):
        line.attempt, line.status = event.attempt, "completed"
    elif isinstance(event, e.StepFailed):
        line.attempt = max(line.attempt, event.attempt)
        line.status = "cancelled" if event.kind == "cancelled" else "failed"
        line.failures[event.attempt] = event.failure
    elif isinstance(event, e.StepAttemptFailed):
        line.attempt = event.attempt
        line.status = "paused" if line.status == "paused" else "retrying"
        line.failures[event.attempt] = event.failure
    elif isinstance(event, e.StepParked):
        line.attempt, line.status = max(line.attempt, event.attempt), "parked"
        line.failures[event.attempt] = event.failure
    elif isinstance(event, e.StepPaused):
        line.status = "paused"
    elif isinstance(event, e.StepRetried | e.StepUnparked | e.StepUnpaused):
        line.attempt, line.status = max(line.attempt, event.attempt), "scheduled"
