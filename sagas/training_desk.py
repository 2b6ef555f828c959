"""The researcher's desk: orders that arrive while a training runs, carried out between two chunks.

D1  Orders are carried out in the order in which they came, at the end of the chunk that was under
    way; each is acknowledged in the published state with the place where it took effect.
D2  An order that does not fit changes nothing and says why; training goes on.
"""

from collections import deque
from collections.abc import Callable
from datetime import timedelta

from orchestrator import workflow
from orchestrator.training.errors import TrainingUsageError
from orchestrator.training.trainer import Cursor
from sagas.training_course import Branch, Course
from sagas.training_state import (
    ORDERS_MAX,
    SIGNALS,
    Acknowledged,
    Decide,
    Fork,
    Pause,
    ResearcherOrder,
    Reseed,
    Resume,
    Rollback,
    Status,
    TrainingState,
)


class Desk:
    """See the module.

    Args:
        state: The published state.
        fork: Starts a run of its own from a branch, with a seed; returns its id.
    """

    def __init__(self, state: TrainingState, fork: Callable[[Branch, int], str]) -> None:
        self._state = state
        self._fork = fork
        self._waiting: deque[ResearcherOrder] = deque()
        self._paused_by = ""
        self._review_at_epoch: int | None = None
        self._closed_at: Course | None = None
        for name, kind in SIGNALS.items():
            workflow.on_signal(name, kind)(self._arrive)

    @property
    def wants_checkpoint(self) -> bool:
        """Whether an order waits that is carried out on a saved state only."""
        return any(not isinstance(one, Resume) for one in self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do before training goes on."""
        return bool(self._waiting) or bool(self._paused_by)

    def pause(self, reason: str) -> None:
        """Pause the run until somebody resumes it."""
        self._paused_by = reason

    def close(self, course: Course) -> None:
        """Answer what came too late: what still lies on the desk, and all that arrives from now."""
        self._closed_at, self._paused_by = course, ""
        while self._waiting:
            self._arrive(self._waiting.popleft())

    async def hold(self, reason: str) -> None:
        """Wait for somebody to resume a run that trains no more; all else still comes too late."""
        status = self._state.status
        self._paused_by = reason
        self._state.status, self._state.reason = Status.PAUSED, reason
        await workflow.wait_condition(lambda: not self._paused_by)
        self._state.status = status

    def _arrive(self, order: ResearcherOrder) -> None:
        if self._closed_at is None:
            self._waiting.append(order)
        elif self._paused_by and isinstance(order, Resume):
            self._take(order, self._closed_at)
        else:
            self._acknowledge(order, self._closed_at, "too late: nothing is trained any more")

    def review_due(self, course: Course) -> bool:
        """Return whether a person should look at the run where it is now, once per place."""
        review, epoch = course.plan.review, course.branch.cursor.epoch
        if review is None or course.is_over or course.branch.cursor.step:
            return False
        is_due = epoch > 0 and epoch % review.every_epochs == 0 and epoch != self._review_at_epoch
        if is_due:
            self._review_at_epoch = epoch
        return is_due

    async def review(self, course: Course) -> None:
        """Wait for a decision, for as long as the plan says; then go on without one."""
        assert course.plan.review is not None
        self._state.status = Status.AWAITING_REVIEW
        timeout = timedelta(seconds=course.plan.review.timeout_s)
        try:
            await workflow.wait_condition(lambda: self.is_busy, timeout=timeout)
        except TimeoutError:
            self._state.reason = f"nobody decided within {timeout}: training goes on"
        await self.attend(course)

    async def attend(self, course: Course) -> None:
        """Carry out what lies on the desk, and wait while the run is paused (D1)."""
        while self.is_busy and not course.is_over:
            while self._waiting:
                self._take(self._waiting.popleft(), course)
            if self._paused_by and not course.is_over:
                self._state.status, self._state.reason = Status.PAUSED, self._paused_by
                await workflow.wait_condition(lambda: bool(self._waiting))
        self._state.status = Status.TRAINING

    def _take(self, order: ResearcherOrder, course: Course) -> None:
        at = course.branch.cursor
        try:
            detail = self._carry_out(order, course)
        except (TrainingUsageError, LookupError) as error:
            self._acknowledge(order, course, str(error))
        else:
            self._acknowledge(order, course, detail, done_at=at)

    def _acknowledge(
        self, order: ResearcherOrder, course: Course, detail: str, *, done_at: Cursor | None = None
    ) -> None:
        """Publish where an order took effect; without a place it did not, and `detail` says why."""
        at = done_at or course.branch.cursor
        name = order.decision if isinstance(order, Decide) else type(order).__name__.lower()
        acknowledged = Acknowledged(
            order=name,
            by=order.by,
            applied=done_at is not None,
            epoch=at.epoch,
            step=at.step,
            branch=course.branch.name,
            detail=detail,
        )
        self._state.orders = [*self._state.orders, acknowledged][-ORDERS_MAX:]
        how = "done" if acknowledged.applied else detail
        workflow.logger.info("%s by %s at %s: %s", name, order.by, at, how)

    def _carry_out(self, order: ResearcherOrder, course: Course) -> str:
        match order:
            case Decide(decision="continue"):
                return ""
            case Decide(decision="adjust"):
                course.adjust(dict(order.hparams))
                return ", ".join(f"{name}={value}" for name, value in order.hparams.items())
            case Decide():
                course.is_stopped = True
                return "the rest is not trained"
            case Pause():
                self._paused_by = f"paused by {order.by}: {order.reason}".removesuffix(": ")
                return ""
            case Resume():
                self._paused_by = ""
                course.environment = order.environment or course.environment
                return ""
            case Rollback():
                ref = course.roll_back(order.to)
                return f"to {ref.cursor}, as {course.branch.name}"
            case Reseed():
                course.reseed(order.seed)
                return f"seed {order.seed}, as {course.branch.name}"
            case Fork():
                return ", ".join(self._fork_all(order, course))

    def _fork_all(self, order: Fork, course: Course) -> list[str]:
        started = []
        for seed in order.seeds:
            number = len(self._state.forks) + 1
            branch = course.fork(f"{course.branch.name}-fork-{number}")
            branch.orders = [*branch.orders, course.changed(branch, seed, dict(order.hparams))]
            started.append(self._fork(branch, number))
            self._state.forks = [*self._state.forks, started[-1]]
        return started
