"""The tables of life cycles are total: every pair is either drawn, or refused."""

import itertools

import pytest

from orchestrator.core import events
from orchestrator.core.states import (
    RUN_TERMINAL,
    RUN_TRANSITIONS,
    STEP_TRANSITIONS,
    RunFact,
    RunState,
    StepFact,
    StepState,
    next_run_state,
    next_step_state,
)


@pytest.mark.parametrize(("state", "fact"), list(itertools.product(RunState, RunFact)))
def test_a_run_moves_as_drawn_or_not_at_all(state: RunState, fact: RunFact) -> None:
    drawn = RUN_TRANSITIONS[state].get(fact)
    if drawn is None:
        with pytest.raises(AssertionError, match="not possible"):
            next_run_state(state, fact)
    else:
        assert next_run_state(state, fact) is drawn


@pytest.mark.parametrize(("state", "fact"), list(itertools.product(StepState, StepFact)))
def test_a_step_moves_as_drawn_or_the_fact_comes_too_late(state: StepState, fact: StepFact) -> None:
    assert next_step_state(state, fact) is STEP_TRANSITIONS[state].get(fact)


def test_every_state_can_be_reached_and_every_open_one_left() -> None:
    reached, frontier = {RunState.PENDING}, [RunState.PENDING]
    while frontier:
        found = set(RUN_TRANSITIONS[frontier.pop()].values()) - reached
        reached |= found
        frontier += found
    assert reached == set(RunState)
    for state in set(RunState) - RUN_TERMINAL:
        assert set(RUN_TRANSITIONS[state].values()) - {state}


def test_no_run_ends_while_a_saga_is_undone() -> None:
    for state in (RunState.COMPENSATING, RunState.COMPENSATION_FAILED):
        assert not RUN_TERMINAL & set(RUN_TRANSITIONS[state].values())


def test_a_claimed_step_is_claimed_by_nobody_else() -> None:
    claimable = {state for state in StepState if next_step_state(state, StepFact.CLAIM)}
    assert claimable == {StepState.SCHEDULED}


def test_every_fact_of_a_run_is_an_event() -> None:
    for fact in RunFact:
        assert hasattr(events, fact.value)
