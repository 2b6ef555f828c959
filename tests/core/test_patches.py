"""A patch turns once, at the first activation that was not decided, and is replayed the same."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import workflow
from orchestrator.core.errors import ActivationFailed, ForbiddenInWorkflow, NondeterminismError
from orchestrator.core.events import (
    COMMANDS,
    Event,
    Input,
    PatchMarked,
    RunBlocked,
    RunStarted,
    RunUnblocked,
    SignalReceived,
    StepCompleted,
    StepScheduled,
    decode,
    encode,
)
from orchestrator.core.limits import PATCH_ID_CHARS_MAX
from orchestrator.core.replay import Replayed, replay
from tests.core.driver import START_MS, Driver, define, kinds, tasks_of

Drive = Callable[..., Driver]
Function = Callable[..., Awaitable[Any]]


def replayed_as(function: Function, history: list[Event]) -> Replayed:
    return replay(define(function), "w-1", 1, history)


def markers(history: list[Event]) -> list[PatchMarked]:
    return [event for event in history if isinstance(event, PatchMarked)]


def signal(number: int) -> SignalReceived:
    return SignalReceived(at_ms=START_MS + number, signal="go", signal_id=f"s{number}")


async def old_loop() -> None:
    while True:
        await workflow.signal("go")


async def new_loop() -> None:
    while True:
        await workflow.signal("go")
        if workflow.patched("audit"):
            await workflow.step("audit")


async def deprecated_loop() -> None:
    while True:
        await workflow.signal("go")
        workflow.deprecate_patch("audit")
        await workflow.step("audit")


async def clean_loop() -> None:
    while True:
        await workflow.signal("go")
        await workflow.step("audit")


def go_on(replayed: Replayed, history: list[Event], event: Input) -> list[Event]:
    commands = replayed.execution.apply(event)
    history += [event, *commands]
    return list(commands)


def test_a_new_run_takes_the_new_branch_and_has_one_marker_however_often_it_asks(
    drive: Drive,
) -> None:
    run = drive(new_loop)
    for step in (1, 2, 3):
        assert tasks_of(run.signal("go")) == ["audit"]
        run.complete(step)
    (marker,) = markers(run.history)
    assert (marker.patch, marker.activation, marker.deprecated) == ("audit", 2, False)


def test_a_loop_that_met_the_patch_in_replay_takes_the_new_branch_afterwards(drive: Drive) -> None:
    run = drive(old_loop)
    run.signal("go")
    run.signal("go")
    history = list(run.history)
    replayed = replayed_as(new_loop, history)
    assert tasks_of(go_on(replayed, history, signal(3))) == ["audit"]  # type: ignore[arg-type]
    replayed.execution.close()


def test_the_activations_before_a_marker_keep_the_old_branch_though_they_ordered_nothing(
    drive: Drive,
) -> None:
    answers: list[bool] = []

    async def noted() -> None:
        while True:
            await workflow.signal("go")
            answers.append(workflow.patched("audit"))

    run = drive(old_loop)
    run.signal("go")
    run.signal("go")
    history = list(run.history)
    replayed = replayed_as(noted, history)
    go_on(replayed, history, signal(3))
    replayed.execution.close()
    assert answers == [False, False, True]
    answers.clear()
    replayed_as(noted, history).execution.close()
    assert answers == [False, False, True]


def test_a_patch_after_the_last_recorded_command_of_an_activation_is_off(drive: Drive) -> None:
    async def old() -> None:
        task = asyncio.create_task(workflow.step("first"))
        await workflow.sleep(0)
        await task

    async def new() -> None:
        task = asyncio.create_task(workflow.step("first"))
        await workflow.sleep(0)
        if workflow.patched("more"):
            await workflow.step("more")
        await task

    replayed = replayed_as(new, drive(old).history)
    assert replayed.pending == []
    replayed.execution.close()


def test_what_a_blocked_run_owes_is_decided_by_the_new_code_and_replays_the_same(
    drive: Drive,
) -> None:
    run = drive(old_loop)
    run.signal("go")
    history = list(run.history)
    blocked = RunBlocked(at_ms=START_MS, kind="bug", message="no")
    history += [signal(8), blocked, signal(9)]
    replayed = replayed_as(new_loop, history)
    assert [type(one) for one in replayed.pending] == [PatchMarked, StepScheduled]
    history += [RunUnblocked(at_ms=START_MS), *replayed.pending]
    replayed.execution.close()
    (marker,) = markers(history)
    assert marker.activation == 3
    again = replayed_as(new_loop, history)
    assert again.pending == []
    again.execution.close()


def test_what_an_unblocked_run_decided_without_ordering_keeps_the_old_branch(drive: Drive) -> None:
    history = list(drive(old_loop).history)
    history += [signal(1), RunBlocked(at_ms=START_MS, kind="bug", message="no"), signal(2)]
    history.append(RunUnblocked(at_ms=START_MS))
    replayed = replayed_as(new_loop, history)
    assert replayed.pending == []
    assert tasks_of(go_on(replayed, history, signal(3))) == ["audit"]  # type: ignore[arg-type]
    replayed.execution.close()


def test_a_run_that_is_blocked_again_at_once_has_decided_nothing(drive: Drive) -> None:
    history = list(drive(old_loop).history)
    blocked = RunBlocked(at_ms=START_MS, kind="limit", message="no")
    history += [signal(1), blocked, signal(2), RunUnblocked(at_ms=START_MS), blocked]
    replayed = replayed_as(new_loop, history)
    assert [type(one) for one in replayed.pending] == [PatchMarked, StepScheduled]
    assert markers(list(replayed.pending))[0].activation == 2
    replayed.execution.close()


def test_an_activation_that_ordered_something_stays_decided_in_a_blocked_run(drive: Drive) -> None:
    async def old() -> None:
        await workflow.step("first")

    async def new() -> None:
        task = asyncio.create_task(workflow.step("first"))
        await workflow.sleep(0)
        if workflow.patched("more"):
            await workflow.step("more")
        await task

    blocked = RunBlocked(at_ms=START_MS, kind="bug", message="no")
    replayed = replayed_as(new, [*drive(old).history, blocked])
    assert replayed.pending == []
    replayed.execution.close()


def test_deprecate_patch_replays_histories_with_the_marker(drive: Drive) -> None:
    run = drive(new_loop)
    run.signal("go")
    run.complete(1)
    replayed = replayed_as(deprecated_loop, run.history)
    assert tasks_of(list(replayed.execution.apply(signal(7)))) == ["audit"]
    replayed.execution.close()


def test_deprecate_patch_replays_histories_without_the_marker(drive: Drive) -> None:
    run = drive(clean_loop)
    run.signal("go")
    run.complete(1)
    replayed_as(deprecated_loop, run.history).execution.close()


def test_code_without_the_patch_replays_a_deprecated_marker_and_no_other(drive: Drive) -> None:
    deprecated = drive(deprecated_loop)
    deprecated.signal("go")
    (marker,) = markers(deprecated.history)
    assert marker.deprecated
    replayed_as(clean_loop, deprecated.history).execution.close()
    patched = drive(new_loop)
    patched.signal("go")
    with pytest.raises(NondeterminismError) as caught:
        replayed_as(clean_loop, patched.history)
    assert "PatchMarked(patch='audit'" in caught.value.recorded


def test_old_code_over_a_marker_is_refused(drive: Drive) -> None:
    run = drive(new_loop)
    run.signal("go")
    with pytest.raises(NondeterminismError):
        replayed_as(old_loop, run.history)


def test_a_marker_keeps_its_bytes_and_an_undeprecated_one_says_nothing_of_it() -> None:
    marker = PatchMarked(at_ms=1, patch="a", activation=2)
    assert b"deprecated" not in encode(marker)
    assert decode({"type": "PatchMarked", "at_ms": 1, "patch": "a", "activation": 2}) == marker


@pytest.mark.parametrize("name", ["", "x" * (PATCH_ID_CHARS_MAX + 1), 7])
def test_a_name_that_cannot_be_is_refused_in_one_sentence(drive: Drive, name: Any) -> None:
    async def flow() -> None:
        workflow.patched(name)

    with pytest.raises(ActivationFailed, match="patch"):
        drive(flow)


def test_code_that_is_unwound_records_no_marker(drive: Drive) -> None:
    asked: list[bool] = []

    async def flow() -> None:
        try:
            await workflow.signal("go")
        finally:
            asked.append(workflow.patched("late"))

    run = drive(flow)
    assert kinds(run.terminate()) == ["RunTerminated"]
    assert asked, "the code was unwound"


def test_a_query_cannot_ask_for_a_patch(drive: Drive) -> None:
    async def flow() -> None:
        @workflow.on_query("which")
        def which() -> bool:
            return workflow.patched("audit")

        await workflow.signal("go")

    run = drive(flow)
    with pytest.raises(ForbiddenInWorkflow, match="patched"):
        run.execution.query("which", [])


# --- any program, any patches, replayed after every input -----------------------------------------

#: A place in a round: a patch or none, what the old branch orders there, and what the new one does.
Place = tuple[str | None, bool, bool]
ROUNDS = st.lists(
    st.lists(
        st.tuples(st.sampled_from([None, "a", "b"]), st.booleans(), st.booleans()), max_size=3
    ),
    min_size=1,
    max_size=5,
)


def program(rounds: list[list[Place]], answers: list[bool], *, is_new: bool) -> Function:
    async def flow() -> None:
        for places in rounds:
            await workflow.signal("go")
            for patch, old, new in places:
                is_on = False
                if is_new and patch is not None:
                    is_on = workflow.patched(patch)
                    answers.append(is_on)
                if new if is_on else old:
                    await workflow.step("new" if is_on else "old")

    return flow


def next_input(history: list[Event], number: int) -> Input:
    settled = {event.step for event in history if isinstance(event, StepCompleted)}
    for event in history:
        if isinstance(event, StepScheduled) and event.step not in settled:
            return StepCompleted(at_ms=START_MS + number, step=event.step, attempt=1)
    return signal(number)


@settings(max_examples=200, deadline=None)
@given(ROUNDS, st.integers(0, 8), st.integers(0, 20), st.integers(0, 3))
def test_any_old_history_under_patched_code_is_decided_the_same_after_every_kill(
    rounds: list[list[Place]], before: int, blocked_at: int, owed: int
) -> None:
    history: list[Event] = []
    driver = Driver(program(rounds, [], is_new=False))
    history += driver.history
    driver.close()
    number = 0

    def alive(function: Function) -> Replayed:
        return replay(define(function), "w-1", 1, history)

    def step_on(function: Function) -> None:
        nonlocal number
        number += 1
        replayed = alive(function)
        go_on(replayed, history, next_input(history, number))
        replayed.execution.close()

    for _ in range(before):
        step_on(program(rounds, [], is_new=False))
    # What the code decided when it first saw the old history.
    known: list[bool] = []
    first = alive(program(rounds, known, is_new=True))
    first.execution.close()
    assert not any(known), "what the old code decided keeps the old branch"
    before_last = 0
    for turn in range(20):
        if turn == blocked_at:
            # The last input is decided anew if it ordered nothing; what came before it is not.
            fixed = len(known) if isinstance(history[-1], COMMANDS) else before_last
            history.append(RunBlocked(at_ms=START_MS, kind="bug", message="no"))
            history.extend(signal(1_000 + n) for n in range(owed))
        answers: list[bool] = []
        # A kill: nothing is left but the history.
        replayed = alive(program(rounds, answers, is_new=True))
        if turn == blocked_at:
            history += [RunUnblocked(at_ms=START_MS), *replayed.pending]
            assert answers[:fixed] == known[:fixed], "what was decided is decided anew"
            known = list(answers)
        assert answers == known, "a later replay decides otherwise"
        number += 1
        before_last = len(answers)
        go_on(replayed, history, next_input(history, number))
        known = list(answers)
        replayed.execution.close()
    assert isinstance(history[0], RunStarted)
    assert len(markers(history)) == len({marker.patch for marker in markers(history)})
