"""Promise: everything a person needs of a run can be done with ``celery -A … workflow``."""

import json

from orchestrator.core import events as e
from tests.acceptance.stack import Stack
from tests.acceptance.together import together


@together
def test_order_is_started_watched_and_approved_from_the_command_line(stack: Stack) -> None:
    order = json.dumps({"id": "typed", "total": "9000"})
    started = stack.command("start", "order", "--input", order, "--id", "typed")
    assert (started.returncode, started.stdout.strip()) == (0, "typed"), started.stderr
    handle = stack.orc.run("typed")
    stack.wait_for_published(handle, status="awaiting_approval")
    listed = stack.command("list", "--open", "--type", "order", "--json")
    assert "typed" in [run["workflow_id"] for run in json.loads(listed.stdout)], listed.stderr
    stacks = stack.command("query", "typed", "stack")
    assert "sagas/order.py" in stacks.stdout, stacks.stderr
    signalled = stack.command("signal", "typed", "approve", '{"approved": true, "by": "ana"}')
    assert signalled.returncode == 0, signalled.stderr
    stack.wait_for_event(handle, e.SignalReceived, signal="approve")
    shown = stack.command("show", "typed", "--json")
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert told["verification"]["verified"] is True
    assert told["history"][0]["event"]["type"] == "RunStarted"


@together
def test_runs_are_cancelled_and_terminated_from_the_command_line(stack: Stack) -> None:
    ends = {"cancel": "cancelled", "terminate": "terminated"}
    for verb in ends:
        stack.start("stepwise", verb, id=verb)
        done = stack.command(verb, verb, "--reason", "typed by a person")
        assert done.returncode == 0, done.stderr
    for verb, status in ends.items():
        handle = stack.orc.run(verb)
        assert stack.wait_for_end(handle) == status
        assert "typed by a person" in str(handle.describe().failure)
        stack.check_history(handle)


@together
def test_mistakes_on_the_command_line_are_told_in_a_line(stack: Stack) -> None:
    unknown = stack.command("show", "never-started")
    assert unknown.returncode == 1
    assert "no run has the id 'never-started'" in unknown.stderr
    invalid = stack.command("start", "order", "--input", '{"id": "x"}', "--id", "invalid")
    assert invalid.returncode == 2
    assert "total" in invalid.stderr
    assert "Traceback" not in unknown.stderr + invalid.stderr
