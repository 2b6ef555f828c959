"""What the scripts decide about an attempt is what the table of states says."""

from collections.abc import Callable

import pytest

from orchestrator.core.states import StepFact, StepState, next_step_state
from orchestrator.store.ports import AttemptKey, CommitResult, StepRow
from tests.store.world import DONE, LONG_MS, World

STATES = [
    *(StepState.SCHEDULED, StepState.PAUSED, StepState.CLAIMED),
    *(StepState.CANCELLING, StepState.POSTED),
]


def bring_to(world: World, state: StepState) -> AttemptKey:
    key = world.send(world.open_run())
    if state is StepState.PAUSED:
        pause(world, key)
    elif state is not StepState.SCHEDULED:
        world.store.claim(key, "w/1", ttl_ms=LONG_MS)
    if state is StepState.CANCELLING:
        cancel(world, key)
    if state is StepState.POSTED:
        world.store.post_outcome(key, "w/1", DONE)
    return key


def claim(world: World, key: AttemptKey) -> None:
    world.store.claim(key, "w/2", ttl_ms=LONG_MS)


def post(world: World, key: AttemptKey) -> None:
    for token in ("", "w/1"):
        world.store.post_outcome(key, token, DONE)


def cancel(world: World, key: AttemptKey) -> None:
    done = world.commit(key.run_key, ["cancel"], steps_cancelled=[key.step])
    assert done is CommitResult.COMMITTED


def pause(world: World, key: AttemptKey) -> None:
    done = world.commit(key.run_key, ["pause"], steps_paused=[key.step])
    assert done is CommitResult.COMMITTED


def unpause(world: World, key: AttemptKey) -> None:
    sent = StepRow(step=key.step, attempt=key.attempt)
    done = world.commit(key.run_key, ["unpause"], steps_sent=[sent])
    assert done is CommitResult.COMMITTED


FACTS: dict[StepFact, Callable[[World, AttemptKey], None]] = {
    StepFact.CLAIM: claim,
    StepFact.POST: post,
    StepFact.CANCEL: cancel,
    StepFact.PAUSE: pause,
    StepFact.UNPAUSE: unpause,
}


@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize("state", STATES)
def test_scripts_move_an_attempt_as_the_table_says(
    world: World, state: StepState, fact: StepFact
) -> None:
    key = bring_to(world, state)
    assert world.store.read_step(key.run_key, key.step)["state"] == state.value
    FACTS[fact](world, key)
    # A fact that comes too late changes nothing.
    wanted = next_step_state(state, fact) or state
    assert world.store.read_step(key.run_key, key.step)["state"] == wanted.value
