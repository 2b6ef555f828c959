"""P3, for any program: killed at every event and replayed, it orders the same and ends the same.

Goal: no combination of steps, timers, groups, cancellations, children, signals, sagas and runs that
go on makes an execution that was rebuilt from its history differ from the one that lived it.
A run that is reset goes on from an event as one that lived to it.
Method: random trees of these are carried out on the engine in memory, once by an orchestrator that
lives and once by one that is killed after every commit; the histories have to be equal, byte for
byte, and each has to replay from the log as it was before each of its inputs.

``ORCHESTRATOR_PROGRAMS=5000`` tries so many programs instead of what fits a normal run.
"""

import os
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, example, given, settings

from orchestrator import RunClosed
from orchestrator.core.errors import ResetRefused
from orchestrator.core.events import (
    INPUTS,
    CancelRequested,
    Event,
    HistoryCopied,
    RequestRejected,
    RunBlocked,
    RunReset,
    RunStarted,
    TerminateRequested,
    encode,
)
from orchestrator.core.replay import replay
from orchestrator.testing import WorkflowEnvironment
from tests.properties.nodes import PEOPLE, PROGRAMS, STREAMS, Spec, orc, program

EXAMPLES = int(os.environ.get("ORCHESTRATOR_PROGRAMS", "400"))

#: By id and number of the run.
Histories = dict[tuple[str, int], list[Event]]


def carried_out(spec: Spec, people: list[tuple[int, str]], *, killed: bool) -> Histories:
    """Return the histories of all runs; every one of them has ended."""
    with WorkflowEnvironment(orc, replay_every_turn=killed) as env:
        env.start(program, spec, id="p")
        for number, (seconds, what) in enumerate(people):
            env.skip(seconds)
            try:
                _do(orc.run("p"), what, number)
            except RunClosed:
                break
        env.skip(hours=2)
        for run in orc.list(closed=False):
            env.run(run.workflow_id).terminate("the test is over")
        env.skip(hours=2)
        assert not orc.list(closed=False)
        found = {}
        for run in orc.list():
            one = orc.run(run.workflow_id, run.run)
            assert one.verify()
            found[run.workflow_id, run.run] = [item.event for item in one.history()]
        return found


def _do(handle: Any, what: str, number: int) -> None:
    if what == "cancel":
        handle.cancel("changed my mind")
    elif what == "terminate":
        handle.terminate("enough")
    elif what.startswith("reset"):
        length = len(handle.history())
        with suppress(ResetRefused):
            handle.reset(1 + length * int(what.split()[1]) // 100, despite_effects=True)
    elif what == "reseed":
        handle.reseed(number, None if number % 2 else STREAMS[0], id=f"reseed-{number}")
    else:
        handle.signal(what, what.upper(), id=f"signal-{number}")


def told(history: list[Event]) -> list[bytes]:
    """Return the events as bytes, without the ids that clients make up for their requests."""
    made_up = {"request_id": ""}
    return [
        encode(replace(one, **made_up) if _is_requested(one) else one)  # type: ignore[arg-type]
        for one in history
    ]


def _is_requested(event: Event) -> bool:
    return isinstance(
        event,
        RunStarted
        | CancelRequested
        | TerminateRequested
        | HistoryCopied
        | RequestRejected
        | RunReset,
    )


def check_prefixes(workflow_id: str, run: int, history: list[Event]) -> None:
    """Replay the history as it was before each of its inputs, and whole."""
    copied = max((i for i, one in enumerate(history) if isinstance(one, HistoryCopied)), default=0)
    for index, event in enumerate(history):
        # What is copied comes with the first commit: there is no history without all of it.
        if index > copied and isinstance(event, INPUTS):
            replay(program.definition, workflow_id, run, history[:index]).execution.close()
    replayed = replay(program.definition, workflow_id, run, history)
    assert replayed.execution.is_finished or isinstance(history[-1], RunReset)
    assert replayed.pending == []
    replayed.execution.close()


@settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(spec=PROGRAMS, people=PEOPLE)
@example(spec={"kind": "Chance"}, people=[])
@example(
    spec={"kind": "GoOn", "part": {"kind": "GoOn", "part": {"kind": "Signal", "name": "a"}}},
    people=[(0, "a")],
)
@example(
    spec={
        "kind": "Child",
        "policy": "terminate",
        "type": "wait_cancellation_requested",
        "starts": False,
        "part": {"kind": "Signal", "name": "a"},
    },
    people=[(1, "b"), (5, "reset 96"), (1, "reset 55"), (0, "reset 90")],
)
def test_a_program_killed_at_every_event_orders_the_same_and_ends_the_same(
    spec: Spec, people: list[tuple[int, str]]
) -> None:
    lived = carried_out(spec, people, killed=False)
    killed = carried_out(spec, people, killed=True)
    assert lived.keys() == killed.keys()
    for (workflow_id, run), history in lived.items():
        assert told(killed[workflow_id, run]) == told(history)
        assert not any(isinstance(one, RunBlocked) for one in history)
        check_prefixes(workflow_id, run, history)
