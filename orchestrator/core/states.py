"""Life of a run and of a step, each as one table.

Rule 1: every state and every legal transition is in this file.  Other code asks
`next_run_state` and `next_step_state`; it never compares states to work out what may follow.
Rule 2: this file knows nothing of Redis, Celery, clocks or workflow code.

The tables are total: a pair that is absent is illegal.  ``tests/core/test_states.py`` walks
every pair, and the diagrams in ARCHITECTURE.md are printed from them.

``blocked`` is not a state: a blocked run keeps the state it has and rests in it, while its
inputs are recorded, until fitting code is deployed.
"""

from enum import Enum


class RunState(Enum):
    """Where a run is in its life."""

    PENDING = "pending"  #: accepted by the store; it has not begun
    RUNNING = "running"
    COMPENSATING = "compensating"  #: a saga undoes its steps, newest first
    COMPENSATION_FAILED = "compensation_failed"  #: an undo gave up; a person has to decide
    PARKED = "parked"  #: a step after the point of no return gave up; a person has to decide
    COMPLETED = "completed"
    FAILED = "failed"  #: also the end of a compensated saga; history tells which
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    CONTINUED_AS_NEW = "continued_as_new"  #: ended here; the next run of the id goes on


class RunFact(Enum):
    """The facts that move a run; each is an event in its history."""

    STARTED = "RunStarted"
    COMPENSATION_STARTED = "CompensationStarted"
    COMPENSATION_COMPLETED = "CompensationCompleted"  #: the last open one; the ledger counts
    STEP_PARKED = "StepParked"
    STEP_UNPARKED = "StepUnparked"  #: the last parked one; the ledger counts
    COMPLETED = "RunCompleted"
    FAILED = "RunFailed"
    CANCELLED = "RunCancelled"
    TERMINATED = "RunTerminated"
    CONTINUED_AS_NEW = "RunContinuedAsNew"
    RESET = "RunReset"


_ENDINGS = {
    RunFact.COMPLETED: RunState.COMPLETED,
    RunFact.FAILED: RunState.FAILED,
    RunFact.CANCELLED: RunState.CANCELLED,
    RunFact.TERMINATED: RunState.TERMINATED,
    RunFact.CONTINUED_AS_NEW: RunState.CONTINUED_AS_NEW,
    RunFact.RESET: RunState.TERMINATED,
}

RUN_TERMINAL = frozenset(_ENDINGS.values())
#: The same as the store and readers know them.
CLOSED_STATUSES = tuple(state.value for state in RunState if state in RUN_TERMINAL)

RUN_TRANSITIONS: dict[RunState, dict[RunFact, RunState]] = {
    RunState.PENDING: {RunFact.STARTED: RunState.RUNNING, RunFact.TERMINATED: RunState.TERMINATED},
    RunState.RUNNING: {
        RunFact.COMPENSATION_STARTED: RunState.COMPENSATING,
        # After the point of no return nothing is undone: driven forward, so a person decides.
        RunFact.STEP_PARKED: RunState.PARKED,
        **_ENDINGS,
    },
    # No row leads from here to an end: the core holds the end of a run back until its last
    # compensation is through.  Cancelling half an undo is worse than none.
    RunState.COMPENSATING: {
        RunFact.COMPENSATION_STARTED: RunState.COMPENSATING,
        RunFact.COMPENSATION_COMPLETED: RunState.RUNNING,
        RunFact.STEP_PARKED: RunState.COMPENSATION_FAILED,
    },
    RunState.COMPENSATION_FAILED: {
        RunFact.COMPENSATION_STARTED: RunState.COMPENSATION_FAILED,
        # Of another saga of the run: what is left parked lies behind a point of no return.
        RunFact.COMPENSATION_COMPLETED: RunState.PARKED,
        RunFact.STEP_PARKED: RunState.COMPENSATION_FAILED,
        RunFact.STEP_UNPARKED: RunState.COMPENSATING,
    },
    RunState.PARKED: {
        RunFact.COMPENSATION_STARTED: RunState.COMPENSATION_FAILED,
        RunFact.STEP_PARKED: RunState.PARKED,
        RunFact.STEP_UNPARKED: RunState.RUNNING,
        # Nothing is owed: what is parked lies behind a point of no return.  The run was terminated,
        # or its code no longer waits for the step.
        **_ENDINGS,
    },
    **{state: {} for state in RUN_TERMINAL},
}

assert RUN_TRANSITIONS.keys() == set(RunState), "every state needs a row"
assert all(not RUN_TRANSITIONS[state] for state in RUN_TERMINAL), "nothing follows an end"


def next_run_state(state: RunState, fact: RunFact) -> RunState:
    """Return the state `fact` leads to from `state`.

    Raises:
        AssertionError: The pair is illegal.  Our bug, never the user's: the
            activation dies and history keeps what it had.
    """
    row = RUN_TRANSITIONS[state]
    assert fact in row, f"{fact.value} is not possible in state {state.value}"
    return row[fact]


class StepState(Enum):
    """Where an outstanding step is in its life.  A settled step has no state, only an outcome."""

    SCHEDULED = "scheduled"  #: message sent, nobody has claimed the attempt
    CLAIMED = "claimed"  #: a worker holds the attempt
    CANCELLING = "cancelling"  #: claimed, and the workflow no longer wants it
    PAUSED = "paused"  #: taken back before anybody claimed it; a person lets it go on
    BACKOFF = "backoff"  #: the attempt failed; a timer starts the next one
    PARKED = "parked"  #: gave up for good, but must not be given up: waits for a person
    POSTED = "posted"  #: its outcome lies in the inbox


class StepFact(Enum):
    """What moves a step.  The store's scripts decide the first seven, the owner the others."""

    CLAIM = "claim"
    POST = "post"
    CANCEL = "cancel"
    GIVE_UP = "give up"  #: the claim expired, or a time-out fired
    RESEND = "resend"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    FAIL = "fail"  #: the attempt is over, another one is allowed
    RETRY = "retry"  #: the back-off is over, or a person asks for another attempt
    PARK = "park"


STEP_TRANSITIONS: dict[StepState, dict[StepFact, StepState]] = {
    StepState.SCHEDULED: {
        StepFact.CLAIM: StepState.CLAIMED,
        StepFact.RESEND: StepState.SCHEDULED,
        # One that runs goes on: its outcome counts, and no attempt follows it.
        StepFact.PAUSE: StepState.PAUSED,
        # Nobody runs it, so that the cancellation itself is its outcome; likewise a worker that
        # does not know the task, or a revoked message.
        StepFact.CANCEL: StepState.POSTED,
        StepFact.POST: StepState.POSTED,
        StepFact.FAIL: StepState.BACKOFF,
        StepFact.PARK: StepState.PARKED,
    },
    StepState.PAUSED: {
        StepFact.UNPAUSE: StepState.SCHEDULED,
        StepFact.PAUSE: StepState.PAUSED,
        StepFact.CANCEL: StepState.POSTED,
        StepFact.GIVE_UP: StepState.POSTED,
    },
    StepState.CLAIMED: {
        StepFact.POST: StepState.POSTED,
        StepFact.CANCEL: StepState.CANCELLING,
        StepFact.GIVE_UP: StepState.POSTED,
    },
    StepState.CANCELLING: {
        StepFact.POST: StepState.POSTED,
        StepFact.CANCEL: StepState.CANCELLING,
        StepFact.GIVE_UP: StepState.POSTED,
    },
    StepState.POSTED: {
        StepFact.FAIL: StepState.BACKOFF,
        StepFact.PARK: StepState.PARKED,
        StepFact.CANCEL: StepState.POSTED,
    },
    StepState.BACKOFF: {
        StepFact.RETRY: StepState.SCHEDULED,
        StepFact.CANCEL: StepState.POSTED,
        StepFact.PARK: StepState.PARKED,
    },
    StepState.PARKED: {StepFact.RETRY: StepState.SCHEDULED},
}

assert STEP_TRANSITIONS.keys() == set(StepState), "every state needs a row"


def next_step_state(state: StepState, fact: StepFact) -> StepState | None:
    """Return the state `fact` leads to from `state`; None when the fact comes too late.

    Unlike a run's, a step's facts race: a claim meets a cancellation, an outcome meets an
    expired claim.  So "not possible" is an answer here.  The ledger, which sees only what was
    decided, takes it for our bug; what the store's scripts decide is held against this table by
    tests/store/test_step_table.py.
    """
    return STEP_TRANSITIONS[state].get(fact)
