"""A training: prepare, train chunk by chunk, take orders in between, evaluate, register, clean up.

It runs for weeks and is killed as often as you like: what is trained follows from the plan and the
orders alone, bit for bit. A checkpoint is saved as often as it pays, or every n epochs.

Run     python -m sagas training --epochs 20
Signal  celery -A sagas workflow signal train-1 decide '{"decision": "stop"}'
Test    tests/sagas/test_training.py, tests/acceptance/test_training.py

Replayed from the top whenever the orchestrator needs it: arrays, files and clocks live in `tasks`.
"""

import asyncio
from typing import Any

from orchestrator import RETRY_UNTIL_DONE, ApplicationError, Retry, StepError, workflow
from orchestrator.training.hyperparameters import Hyperparameters
from orchestrator.training.interval import Interval
from orchestrator.training.records import (
    cursor_from_json,
    order_from_json,
    plain,
    result_from_json,
)
from orchestrator.training.trainer import Cursor
from orchestrator.training.trainers import get_trainer
from orchestrator.training.work import ChunkWork, Order, ref_from_json
from sagas.app import orc
from sagas.training_course import Branch, Course
from sagas.training_desk import Desk
from sagas.training_end import evaluate_last
from sagas.training_state import (
    CURVE_MAX,
    SIGNALS,
    Saved,
    Status,
    TrainingReport,
    TrainingState,
)
from sagas.training_trouble import (
    CHUNK_RETRY,
    CHUNK_SILENCE,
    STEP_TIMEOUT,
    is_asked_again,
    take,
    why_diverged,
    why_paused,
)
from tasks.training import clean_up, prepare, register, train_chunk, unregister
from tasks.training_models import BranchStart, Prepared, TrainingPlan, measured


@orc.workflow(name="training", signals=SIGNALS)
async def train(plan: TrainingPlan) -> TrainingReport:
    """Return what was trained.

    Raises:
        StepError: The plan does not fit data, trainer or store, or a chunk failed for good; the
            published status is ``failed``, and what it left in the store is tidied up.
    """
    info = workflow.info()
    storage = plan.start.storage if plan.start else f"{info.workflow_id}.{info.run}"
    state = workflow.publish(TrainingState(epochs=plan.epochs, seed=plan.seed, storage=storage))
    try:
        async with workflow.saga() as saga:
            prepared: Prepared = await saga.step(
                prepare,
                plan,
                storage,
                undo=clean_up,
                queue=plan.queue,
                start_to_close=STEP_TIMEOUT,
            )
            course = begin(plan, prepared)
            show(state, course)
            desk = await train_to_end(course, state)
            report = await conclude(course, desk, state, saga)
            await tidy_up(course, state)
    except asyncio.CancelledError:
        state.status = Status.CANCELLED
        raise
    except (ApplicationError, StepError) as error:
        state.status, state.reason = Status.FAILED, str(error)
        raise
    state.status = Status.COMPLETED
    return report


def begin(plan: TrainingPlan, prepared: Prepared) -> Course:
    """Return the course at its first step, or where a fork goes on from its parent."""
    schema: Hyperparameters = get_trainer(plan.trainer)().hyperparameters
    if plan.start is not None:
        start = plan.start
        branch = Branch(
            start.branch,
            cursor_from_json(start.cursor),
            [order_from_json(order) for order in start.orders],
            [ref_from_json(ref) for ref in start.refs],
        )
        # Older forks named their branches as their parent does, and so at times like one of its.
        is_unique = workflow.patched("branches-by-whole-name")
        root = None if is_unique else branch.name.partition("@")[0]
        return Course(plan, prepared, schema, branch, root=root)
    origin = Cursor(0, 0)
    order = Order(cursor=origin, seed=plan.seed, hparams=prepared.hparams)
    course = Course(plan, prepared, schema, Branch("main", origin, [order]))
    if prepared.first is not None:
        course.take(result_from_json(prepared.first), attempt=1)
    return course


async def train_to_end(course: Course, state: TrainingState) -> Desk:
    """Train, and take the researcher's orders; whatever ends it, each of them is answered.

    Returns:
        The closed desk.
    """
    children: list[asyncio.Task[Any]] = []

    async def fork(branch: Branch, number: int) -> str:
        workflow_id = f"{workflow.info().workflow_id}-fork-{number}"
        plan = fork_of(course, branch)
        child = workflow.child.options(id=workflow_id, parent_close_policy="abandon")
        if not workflow.patched("training-sees-its-forks-start"):
            children.append(asyncio.create_task(child(train, plan), name=workflow_id))
            return workflow_id
        child = workflow.child.options(
            id=workflow_id, parent_close_policy="abandon", cancellation_type="abandon"
        )
        await child.start(train, plan)
        return workflow_id

    desk = Desk(state, fork)
    try:
        await train_on(course, desk, state)
    except (asyncio.CancelledError, ApplicationError, StepError):
        desk.close(course)
        raise
    return desk


async def train_on(course: Course, desk: Desk, state: TrainingState) -> None:
    """Train chunk by chunk; between two, do what the researcher ordered."""
    state.status = Status.TRAINING
    while not course.is_over:
        if desk.is_busy:
            if desk.wants_checkpoint:
                await save_first(course, desk, state)
            await desk.attend(course)
        elif desk.review_due(course):
            await save_first(course, desk, state)
            await desk.review(course)
        else:
            interval = course.interval()
            work = course.next_work(interval, limit=next_review(course))
            await run_chunk(course, work, interval, desk, state)
        show(state, course)
    desk.close(course)


async def save_first(course: Course, desk: Desk, state: TrainingState) -> None:
    """Save where the training stands, so that what is ordered there can begin from it."""
    while (work := course.save_here("pinned")) is not None:
        if not await run_chunk(course, work, course.interval(), desk, state):
            break
    course.pin_newest()


async def run_chunk(
    course: Course, work: ChunkWork, interval: Interval, desk: Desk, state: TrainingState
) -> bool:
    """Have a chunk trained, and take what came of it, or pause it all.

    Returns:
        Whether the same is to be ordered again: it did not come to where it was to begin.
    """
    show_interval(state, interval)
    try:
        answer = await workflow.step(
            train_chunk,
            work.as_json(),
            interval.as_json(),
            queue=course.plan.queue,
            retry=CHUNK_RETRY,
            heartbeat=CHUNK_SILENCE,
        )
    except StepError as error:
        if is_asked_again(error):
            state.reason = str(error)
            return True
        reason = why_paused(error)
        if reason is None:
            raise
        desk.pause(reason)
        return False
    result = result_from_json(answer["result"])
    falls_short = take(course, result, attempt=int(answer["attempt"]))
    state.failures += int(answer["attempt"]) - 1
    loss = result.metrics.get("loss")
    note_loss(state, loss, course)
    why = why_diverged(course, loss)
    if why is not None:
        desk.pause(why)
    state.rejected += [f"{one.ref.cursor}: {one.reason}" for one in result.rejected]
    state.bit_identical &= not result.environment_differs
    return falls_short


async def conclude(
    course: Course, desk: Desk, state: TrainingState, saga: workflow.Saga
) -> TrainingReport:
    """Evaluate the newest checkpoint, and register it where the plan names a model."""
    plan, branch = course.plan, course.branch
    state.status = Status.EVALUATING
    final = await evaluate_last(course, desk, state)
    last = branch.refs[-1]
    state.metrics, state.model_sha256 = final.metrics, final.model_sha256
    registered = None
    if plan.model is not None:
        done = await saga.step(
            register,
            plan.model,
            course.prepared.storage,
            final,
            undo=unregister,
            retry=RETRY_UNTIL_DONE,
        )
        registered = done.key
    return TrainingReport(
        storage=course.prepared.storage,
        branch=branch.name,
        epochs=branch.cursor.epoch,
        seed=branch.order.seed,
        stopped_early=course.is_stopped,
        checkpoint=plain(last),
        model_sha256=final.model_sha256,
        metrics=final.metrics,
        hparams=dict(branch.order.hparams),
        registered=registered,
    )


async def tidy_up(course: Course, state: TrainingState) -> None:
    """Delete what the plan does not keep; what cannot be deleted costs room, never the result."""
    try:
        await workflow.step(
            clean_up,
            course.plan,
            course.prepared.storage,
            needed_by(course),
            retry=Retry(attempts=3),
        )
    except StepError as error:
        if not workflow.patched("training-outlives-its-clean-up"):
            raise
        state.reason = f"what the plan does not keep may be there still: {error}"


def fork_of(course: Course, branch: Branch) -> TrainingPlan:
    """Return the plan of a run that goes on from `branch`, in the storage of this one."""
    start = BranchStart(
        storage=course.prepared.storage,
        branch=branch.name,
        cursor=plain(branch.cursor),
        refs=tuple(plain(ref) for ref in branch.refs),
        orders=tuple(plain(order) for order in branch.orders),
    )
    changes = {"start": start, "seed": branch.order.seed, "model": None, "review": None}
    return course.plan.model_copy(update=changes)


def next_review(course: Course) -> Cursor | None:
    """Return where a person is to look at the run next."""
    review, cursor = course.plan.review, course.branch.cursor
    if review is None:
        return None
    return Cursor((cursor.epoch // review.every_epochs + 1) * review.every_epochs, 0)


def needed_by(course: Course) -> dict[str, str]:
    """Return the digests of the checkpoints that the run needs whatever its plan says, and why."""
    refs = course.branch.refs
    pinned = {ref.manifest_sha256: "pinned" for ref in refs if ref.kind == "pinned"}
    if workflow.patched("pins-where-ordered"):
        pinned = dict.fromkeys(course.pinned, "pinned")
    return pinned | {refs[-1].manifest_sha256: "the result"}


def show(state: TrainingState, course: Course) -> None:
    """Bring the published state up to where the course is."""
    branch = course.branch
    state.branch, state.epoch, state.step = branch.name, branch.cursor.epoch, branch.cursor.step
    state.seed, state.hparams = branch.order.seed, dict(branch.order.hparams)
    state.checkpoints = [
        Saved(
            branch=ref.branch,
            epoch=ref.cursor.epoch,
            step=ref.cursor.step,
            kind=ref.kind,
            manifest_sha256=ref.manifest_sha256,
        )
        for ref in branch.refs[-8:]
    ]


def show_interval(state: TrainingState, interval: Interval) -> None:
    """Show how often is saved, and why."""
    state.interval_s, state.interval_why = interval.tau_s, interval.reason
    state.expected_waste = interval.waste


def note_loss(state: TrainingState, loss: object, course: Course) -> None:
    """Show a chunk's mean loss, and whether it is the best so far; none that is not finite is."""
    if isinstance(loss, str):
        state.loss = measured(float(loss))
    if not isinstance(loss, float):
        return
    epoch = course.branch.cursor.epoch
    state.loss = loss
    state.curve = [*state.curve, (float(epoch), loss)][-CURVE_MAX:]
    if state.best_loss is None or loss < state.best_loss:
        state.best_loss, state.best_epoch = loss, epoch
