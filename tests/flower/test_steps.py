"""What Flower's page of a run says of its steps is what the history says."""

from orchestrator.client.summary import HistoryEvent
from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.flower.steps import StepLine, steps_of, worded
from orchestrator.store.ports import RunKey

RUN = RunKey(workflow_id="order.42", run=1)
REFUSED = Failure(type="Refused", message="card 4711 is blocked")


def lines(*events: e.Event) -> dict[int, StepLine]:
    """Return the lines of a history, by step."""
    history = [HistoryEvent(seq=n, event=event, head="") for n, event in enumerate(events, 1)]
    return {line.step: line for line in steps_of(history)}


def scheduled(step: int, **parts: object) -> e.StepScheduled:
    """Return a step's first event."""
    event: dict[str, object] = {"at_ms": 0, "step": step, "task": "tasks.pay", "args_digest": ""}
    return e.StepScheduled(**{**event, **parts})  # type: ignore[arg-type]


def attempt_failed(step: int, attempt: int) -> e.StepAttemptFailed:
    """Return the end of an attempt that another one follows."""
    return e.StepAttemptFailed(
        at_ms=0, step=step, attempt=attempt, kind="failed", failure=REFUSED, retry_at_ms=1
    )


def test_step_has_one_task_id_for_each_attempt() -> None:
    line = lines(
        scheduled(1),
        attempt_failed(1, 1),
        e.StepRetried(at_ms=0, step=1, attempt=2),
        e.StepCompleted(at_ms=0, step=1, attempt=2),
    )[1]
    assert line.task_ids(RUN) == ["order.42.1.1.1", "order.42.1.1.2"]
    assert (line.status, line.attempt, line.failures) == ("completed", 2, {1: REFUSED})


def test_step_is_retrying_between_attempts_and_scheduled_in_them() -> None:
    assert lines(scheduled(1), attempt_failed(1, 1))[1].status == "retrying"
    again = e.StepRetried(at_ms=0, step=1, attempt=2)
    assert lines(scheduled(1), attempt_failed(1, 1), again)[1].status == "scheduled"


def test_step_that_a_person_holds_back_is_paused_also_after_its_attempt_failed() -> None:
    paused = e.StepPaused(at_ms=0, step=1, attempt=1, reason="")
    unpaused = e.StepUnpaused(at_ms=0, step=1, attempt=2)
    assert lines(scheduled(1), paused)[1].status == "paused"
    assert lines(scheduled(1), paused, attempt_failed(1, 1))[1].status == "paused"
    assert lines(scheduled(1), paused, attempt_failed(1, 1), unpaused)[1].status == "scheduled"


def test_step_that_gave_up_was_cancelled_or_waits_for_a_person_says_so() -> None:
    for kind, status in (("failed", "failed"), ("timed_out", "failed"), ("cancelled", "cancelled")):
        end = e.StepFailed(at_ms=0, step=1, attempt=1, kind=kind, failure=REFUSED)
        assert lines(scheduled(1), end)[1].status == status
    parked = e.StepParked(at_ms=0, step=1, attempt=3, kind="failed", failure=REFUSED)
    line = lines(scheduled(1), parked)[1]
    assert (line.status, line.attempt) == ("parked", 3)


def test_undo_names_its_step_and_a_local_step_no_task() -> None:
    found = lines(
        scheduled(1, options={"local": True}), scheduled(2, task="tasks.refund", compensates=1)
    )
    assert found[1].as_json(RUN, with_payloads=True)["local"] is True
    assert found[1].task_ids(RUN) == []
    assert found[2].as_json(RUN, with_payloads=True)["undoes"] == 1
    assert "undoes" not in found[1].as_json(RUN, with_payloads=True)


def test_message_of_a_failure_is_a_payload() -> None:
    assert worded(REFUSED, with_payloads=True) == "Refused: card 4711 is blocked"
    assert worded(REFUSED, with_payloads=False) == "Refused"
    line = lines(scheduled(1), attempt_failed(1, 1))[1]
    assert "4711" not in str(line.as_json(RUN, with_payloads=False))
    assert "4711" in str(line.as_json(RUN, with_payloads=True))


def test_events_of_no_step_and_of_unknown_ones_change_nothing() -> None:
    stray = e.StepCompleted(at_ms=0, step=9, attempt=1)
    assert lines(e.SagaCommitted(at_ms=0, saga=1), stray) == {}
