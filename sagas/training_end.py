"""The end of a training: its last checkpoint is saved, read again and evaluated.

TE1  What is evaluated is the last checkpoint.  A damaged one is made again first, bit for bit.
TE2  What delays or pauses a training does so here too: a week of training is not undone for what
     befell its last minute.
"""

from collections.abc import Callable
from functools import partial

from orchestrator import StepError, workflow
from orchestrator.training.records import result_from_json
from orchestrator.training.work import ChunkWork
from sagas.training_course import Course
from sagas.training_desk import Desk
from sagas.training_state import TrainingState
from sagas.training_trouble import (
    CHUNK_RETRY,
    CHUNK_SILENCE,
    STEP_TIMEOUT,
    is_asked_again,
    take,
    why_paused,
)
from tasks.training import evaluate, train_chunk
from tasks.training_models import Evaluation

#: Orders the work that makes the last checkpoint; None where there is one.
Make = Callable[[], ChunkWork | None]


async def evaluate_last(course: Course, desk: Desk, state: TrainingState) -> Evaluation:
    """Return what the last checkpoint is worth, once it is saved and can be read (TE1)."""
    make: Make = partial(course.save_here, "final")
    while True:
        try:
            await save_last(course, make, state)
            found: Evaluation = await workflow.step(
                evaluate,
                course.final_work().as_json(),
                queue=course.plan.queue,
                start_to_close=STEP_TIMEOUT,
                retry=CHUNK_RETRY,
            )
        except StepError as error:
            if error.type != "BadCheckpoint":
                await overcome(error, desk, state)
                continue
            why = str(error)
        else:
            last = course.branch.refs[-1].manifest_sha256
            is_last = found.manifest_sha256 == last
            # Workers of before evaluate an earlier one than that which is damaged.
            if is_last or not workflow.patched("training-evaluates-its-last"):
                return found
            why = f"checkpoint {last[:12]} was to be evaluated, not {found.manifest_sha256[:12]}"
        if make == course.mend_last:
            await desk.hold(f"{why}, though it was made again; resume to try once more")
        make = course.mend_last


async def save_last(course: Course, make: Make, state: TrainingState) -> None:
    """Have the last checkpoint made; where a worker stops before, by the next one."""
    while (work := make()) is not None:
        answer = await workflow.step(
            train_chunk,
            work.as_json(),
            {},
            queue=course.plan.queue,
            retry=CHUNK_RETRY,
            heartbeat=CHUNK_SILENCE,
        )
        result = result_from_json(answer["result"])
        state.rejected += [f"{one.ref.cursor}: {one.reason}" for one in result.rejected]
        state.bit_identical &= not result.environment_differs
        if not take(course, result, attempt=1):
            return


async def overcome(error: StepError, desk: Desk, state: TrainingState) -> None:
    """Wait for what stopped the end of a run to be over; raise what no wait mends (TE2)."""
    if is_asked_again(error):
        state.reason = str(error)
        return
    reason = why_paused(error)
    if reason is None or not workflow.patched("training-waits-at-its-end"):
        raise error
    await desk.hold(reason)
