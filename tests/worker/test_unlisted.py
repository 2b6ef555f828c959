"""Promise: the message of a step stands on no list, and nothing is lost for that (UL1-UL4)."""

import json
import signal

from celery import Celery

from orchestrator.store.ports import Message
from tests.acceptance.child import END_S_MAX
from tests.worker.bench import MODULE, WAIT_MS, Bench, pause

QUEUE = "celery"
UNACKED = "unacked"
#: A worker that takes more than it can run.
GREEDY = "4"


def plain(bench: Bench, task: str, *args: object) -> Message:
    """Return the message of a task that is no step."""
    app = Celery("client", broker=bench.env["STEPS_URL"], set_as_current=False)
    task_id = f"plain-{task}-{args}"
    app.send_task(f"{MODULE}.{task}", args=args, task_id=task_id, queue="made")
    app.close()
    body = bench.client.rpop("made")
    assert isinstance(body, bytes)
    envelope = json.loads(body)
    envelope["properties"]["delivery_info"]["routing_key"] = QUEUE
    return Message(queue=QUEUE, body=json.dumps(envelope).encode())


def wait_for_queue(bench: Bench, length: int) -> None:
    """Wait until so many messages are left in the queue."""
    for _ in range(WAIT_MS // 20):
        if bench.client.llen(QUEUE) == length:
            return
        pause()
    raise AssertionError(f"{bench.client.llen(QUEUE)} messages wait, not {length}: {bench.log()}")


def steps_waiting(bench: Bench) -> list[int]:
    """Return the steps whose messages are in the queue, the next one first."""
    messages = [json.loads(body) for body in bench.client.lrange(QUEUE, 0, -1)]
    return [message["headers"]["orc"]["step"] for message in reversed(messages)]


def test_only_plain_tasks_stand_on_the_list_of_what_was_handed_out(bench: Bench) -> None:
    with bench.worker("-c", "1", STEPS_PREFETCH=GREEDY):
        bench.send("nap", 2, step=1)
        bench.next_note()
        bench.push(plain(bench, "add", 1))
        second = bench.send("add", 2, step=2)
        wait_for_queue(bench, 0)
        (listed,) = bench.client.hvals(UNACKED)
        assert json.loads(listed)[0]["headers"]["id"].startswith("plain-add")
        assert bench.outcome(second)["result"] == 2
        assert {bench.next_note() for _ in range(3)} == {"nap over", "add 1 0", "add 2 0"}
    assert bench.client.hlen(UNACKED) == 0


def test_steps_count_against_the_prefetch_limit(bench: Bench) -> None:
    with bench.worker("-c", "1", STEPS_PREFETCH=GREEDY):
        bench.send("nap", 4, step=1)
        bench.next_note()
        for step in range(2, 10):
            bench.send("add", step, step=step)
        wait_for_queue(bench, 4)
        # Its own pulse shows that the worker has had every occasion to take more.
        app = Celery("client", broker=bench.env["STEPS_URL"], set_as_current=False)
        (reserved,) = (app.control.inspect(timeout=5, limit=1).reserved() or {}).values()
        app.close()
        assert (len(reserved), bench.client.llen(QUEUE)) == (4, 4)


def test_what_a_worker_had_taken_goes_back_to_its_queue_when_it_stops(bench: Bench) -> None:
    with bench.worker("-c", "1", STEPS_PREFETCH=GREEDY) as process:
        first = bench.send("nap", 2, step=1)
        bench.next_note()
        for step in (2, 3, 4):
            bench.send("add", step, step=step)
        wait_for_queue(bench, 0)
        process.send_signal(signal.SIGTERM)
        assert bench.outcome(first)["result"] == "rested"
        assert process.wait(timeout=END_S_MAX) == 0
    assert sorted(steps_waiting(bench)) == [2, 3, 4]
    with bench.worker("-c", "1"):
        results = [bench.outcome(bench_key)["result"] for bench_key in map(bench.key, (2, 3, 4))]
    assert results == [2, 3, 4]


def test_step_that_celery_requeues_goes_back_to_its_queue(bench: Bench) -> None:
    with bench.worker("-c", "1"):
        bench.send("killed_and_requeued")
        # Its attempt has a claim still: the copy that came back is refused.
        for _ in range(WAIT_MS // 20):
            if "this copy is not wanted" in bench.log():
                break
            pause()
        assert "this copy is not wanted" in bench.log()
    assert bench.client.llen(QUEUE) == 0
