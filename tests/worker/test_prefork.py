"""Promise: any task of the app is a step, unchanged, in a prefork worker.

Whatever happens to a step's process, its attempt ends with exactly one outcome, told as soon as it
can be known.
"""

import json
import os
import signal
import subprocess
import sys

import pytest
from redis import Redis

from orchestrator.blobs import DirectoryBlobs
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.core.values import Json
from orchestrator.embedded import EmbeddedServer
from tests.acceptance.child import END_S_MAX
from tests.worker.bench import MODULE, ROOT, Bench


def pid_of(note: str) -> int:
    """Return the pid at the end of a note."""
    return int(note.rpartition(" ")[2])


def test_tasks_of_every_kind_run_as_steps(served: Bench) -> None:
    order: dict[str, Json] = {"id": "o-1", "total": 20, "due": "2026-01-02"}
    keys = [
        served.send("add", 1, step=1, kwargs={"right": 2}),
        served.send("total", order, step=2, kwargs={"factor": 2}),
        served.send("own_total", order, step=3),
        served.send("audited", 5, step=4),
        served.send("aio", 6, step=5),
        served.send("add", {"__type__": "x", "__value__": 1}, step=6),
    ]
    outcomes = [served.outcome(key) for key in keys]
    assert [outcome.get("result") for outcome in outcomes[:5]] == [
        3,
        {"total": 40, "type": "Order", "due": "2026-01-02"},
        {"id": "o-1", "total": 21, "due": None},
        5,
        {"value": 6, "key": f"{served.run}.5"},
    ]
    # What kombu's own JSON would refuse to decode reaches the body as it was sent.
    assert outcomes[5]["kind"] == "failed"
    assert outcomes[5]["failure"]["type"] == "TypeError"
    assert "audited tests.worker.steps_app.audited 1" in served.diary()


def test_plain_calls_of_the_same_tasks_are_left_alone(served: Bench) -> None:
    message = json.loads(served.message(served.send("add", 1), "add").body)
    assert served.outcome(served.send("add", 2, step=2))["result"] == 2
    del message["headers"]["orc"]
    message["body"] = "W1s0LCA1XSwge30sIHt9XQ=="  # [[4, 5], {}, {}]
    served.client.lpush("celery", json.dumps(message))
    # Two children: the first two steps may run in either order.
    assert {served.next_note(), served.next_note()} == {"add 1 0", "add 2 0"}
    assert served.next_note() == "add 4 5"


def test_refused_copy_does_not_run_the_body(served: Bench) -> None:
    key = served.send("nap", 1)
    for _ in range(4):
        served.push(served.message(key, "nap", 1))
    assert served.outcome(key)["result"] == "rested"
    served.push(served.message(key, "nap", 1))
    assert served.outcome(served.send("add", 1, step=2))["result"] == 1
    assert [line.split()[0] for line in served.diary()] == ["nap", "nap", "add"]
    assert served.log().count("this copy is not wanted or another one runs") == 5


def test_claim_lives_while_the_body_is_deep_in_c_code(served: Bench) -> None:
    key = served.send("in_c_code", 5)
    assert served.next_note().startswith("in C")
    served.watch_renewals(key, times=2)
    assert served.outcome(key)["result"] == "done"


def test_killed_child_is_told_as_lost_before_its_claim_expires(served: Bench) -> None:
    key = served.send("nap", 60)
    os.kill(pid_of(served.next_note()), signal.SIGKILL)
    outcome = served.outcome(key, wait_ms=CLAIM_TTL_MS - 1000)
    assert (outcome["kind"], outcome["failure"]["type"]) == ("lost", "WorkerLost")
    assert served.outcome(served.send("add", 1, step=2))["result"] == 1


def test_exit_of_the_body_is_lost_not_completed(served: Bench) -> None:
    assert served.outcome(served.send("leaves"))["kind"] == "lost"
    assert served.outcome(served.send("add", 1, step=2))["result"] == 1


def test_hard_time_limit_is_a_time_out(served: Bench) -> None:
    outcome = served.outcome(served.send("too_long"))
    assert (outcome["kind"], outcome["failure"]["type"]) == ("timed_out", "TimeLimitExceeded")


def test_soft_time_limit_of_celery_is_a_failure_of_the_body(served: Bench) -> None:
    outcome = served.outcome(served.send("soft_limited"))
    assert (outcome["kind"], outcome["failure"]["type"]) == ("failed", "SoftTimeLimitExceeded")


def celery_control(bench: Bench, *arguments: str) -> None:
    """Send a remote-control command, as an operator does."""
    code = (
        f"from {MODULE} import app; app.control.revoke({arguments[0]!r}, "
        f"terminate={arguments[1] == 'terminate'}, reply=True, timeout=2)"
    )
    env = {**os.environ, **bench.env}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT)


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "waiting"])
def test_revoked_step_is_cancelled(bench: Bench, *, is_running: bool) -> None:
    with bench.worker("-c", "1"):
        if is_running:
            key = bench.send("nap", 60)
            bench.next_note()
            celery_control(bench, str(key), "terminate")
        else:
            blocker = bench.send("nap", 3, step=2)
            bench.next_note()
            celery_control(bench, f"{bench.run}.1.1", "ignore")
            key = bench.send("add", 1)
        outcome = bench.outcome(key)
        assert (outcome["kind"], outcome["failure"]["type"]) == ("cancelled", "TaskRevoked")
        assert outcome.get("ran", True) is is_running
        if not is_running:
            assert bench.outcome(blocker)["result"] == "rested"
            assert "add 1 0" not in bench.diary()


def test_unknown_task_is_told_at_once_and_may_be_tried_again(served: Bench) -> None:
    outcome = served.outcome(served.send("nobody.knows"))
    assert (outcome["kind"], outcome["ran"]) == ("failed", False)
    assert outcome["failure"]["type"] == "UnknownTask"
    assert "non_retryable" not in outcome["failure"]


@pytest.mark.parametrize("task", ["nap", "aio_sleep"])
def test_cancelled_step_is_interrupted_though_it_never_heartbeats(served: Bench, task: str) -> None:
    key = served.send(task, *([60] if task == "nap" else []))
    served.next_note()
    served.commit(steps_cancelled=[1])
    assert served.outcome(key)["kind"] == "cancelled"
    # The child is as good as new, and the next step is not hit by a late signal.
    assert served.outcome(served.send("nap", 3, step=2))["result"] == "rested"
    if task == "aio_sleep":
        assert served.diary()[0] == "aio cleans up"


def test_heartbeat_tells_a_cancelled_step_to_stop(served: Bench) -> None:
    key = served.send("beats")
    served.next_note()
    served.commit(steps_cancelled=[1])
    outcome = served.outcome(key)
    assert (outcome["kind"], outcome["failure"]["type"]) == ("cancelled", "StepCancelled")


def test_superseded_attempt_is_stopped_and_its_outcome_refused(bench: Bench) -> None:
    with bench.worker("-c", "2") as process:
        old = bench.send("nap", 60)
        bench.next_note()
        # The owner gives the attempt up (its time-out) and sends the next one.
        new = bench.send("add", 1, attempt=2)
        assert bench.outcome(new)["result"] == 1
        bench.commit(steps_settled=[new])
        bench.wait_for_log(f"{old}: outcome came too late", process)


def test_details_of_a_heartbeat_reach_the_next_attempt(served: Bench) -> None:
    assert served.outcome(served.send("details"))["failure"]["message"] == "first"
    assert served.outcome(served.send("details", attempt=2))["result"] == {"batch": 1}


@pytest.mark.parametrize(
    ("task", "delay_ms", "message"),
    [("again", 7_000, "busy"), ("auto_again", 9_000, "busy as well")],
)
def test_celery_retry_becomes_a_failure_with_its_delay(
    served: Bench, task: str, delay_ms: int, message: str
) -> None:
    failure = served.outcome(served.send(task))["failure"]
    assert failure["type"] == "ConnectionError"
    assert failure["message"] == message
    assert failure["next_retry_delay_ms"] == delay_ms


def test_failure_is_told_with_its_place_and_celery_sees_it_too(served: Bench) -> None:
    outcome = served.outcome(served.send("fail", "no stock"))
    assert outcome["kind"] == "failed"
    assert outcome["failure"]["type"] == "ValueError"
    assert outcome["failure"]["message"] == "no stock"
    assert "steps_app.py" in outcome["failure"]["traceback"]
    assert served.outcome(served.send("add", 1, step=2))["result"] == 1
    assert "raised unexpected: ValueError('no stock')" in served.log()


def test_large_result_travels_by_reference(served: Bench) -> None:
    ref = find_blob_ref(served.outcome(served.send("big", 100_000))["result"])
    assert ref is not None
    assert DirectoryBlobs(served.env["STEPS_BLOBS"]).get(ref) == "x" * 100_000


def test_result_without_json_form_is_a_failure_for_good_that_did_its_work(served: Bench) -> None:
    outcome = served.outcome(served.send("a_set"))
    assert outcome["failure"]["type"] == "ResultNotJson"
    assert (outcome["failure"]["non_retryable"], outcome["ran"]) == (True, True)


def test_arguments_that_do_not_validate_are_refused_before_the_body(served: Bench) -> None:
    outcome = served.outcome(served.send("total", {"id": "o-1", "total": "secret"}))
    assert outcome["failure"]["type"] == "InvalidPayload"
    assert (outcome["failure"]["non_retryable"], outcome["ran"]) == (True, False)
    assert "total: Input should be a valid integer" in outcome["failure"]["message"]
    assert "secret" not in outcome["failure"]["message"]


def test_claims_live_while_a_warm_shutdown_waits_for_its_steps(bench: Bench) -> None:
    with bench.worker("-c", "1") as process:
        key = bench.send("nap", 7)
        bench.next_note()
        process.send_signal(signal.SIGTERM)
        # The first one may still have been on its way when the signal came.
        bench.watch_renewals(key, times=2)
        assert bench.outcome(key)["result"] == "rested"
        assert process.wait(timeout=END_S_MAX) == 0


def test_claims_live_while_the_worker_reconnects_to_its_broker(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        EmbeddedServer(tmp_path_factory.mktemp("broker")) as broker,
        bench.worker("-c", "1", STEPS_BROKER=broker.url),
    ):
        key = bench.send("nap", 7, queue="elsewhere")
        body = bench.client.rpop("elsewhere")
        assert isinstance(body, bytes)
        with Redis.from_url(broker.url) as elsewhere:
            elsewhere.lpush("celery", body)
        bench.next_note()
        broker.kill()
        bench.watch_renewals(key, times=2)
        assert bench.outcome(key)["result"] == "rested"


def test_optimized_python_is_refused(bench: Bench) -> None:
    with (
        pytest.raises(AssertionError, match="assertions switched off"),
        bench.worker("-c", "1", python=("-O",)),
    ):
        pass
