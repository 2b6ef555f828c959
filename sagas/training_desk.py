"""The researcher's desk: orders that arrive while a training runs, carried out between two chunks.

D1  Orders are carried out in the order in which they came, at the end of the chunk that was under
    way; each is acknowledged in the published state with the place where it took effect.
D2  An order that does not fit changes nothing and says why; training goes on.
D3  A review waits for an order that takes effect, once on each branch that comes to its place.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

from orchestrator import ChildWorkflowError, InvalidWorkflowId, workflow
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

#: Orders that take effect where they are carried out, without waiting for anything.
AtOnce = Decide | Pause | Resume | Rollback | Reseed


class OrderRefused(Exception):
    """An order that cannot be carried out; the text says why."""


class Desk:
    """See the module.

    Args:
        state: The published state.
        fork: Starts a run of its own from a branch, by its number, and returns its id; raises
            `ChildWorkflowError` where it does not start, `InvalidWorkflowId` where it never can.
    """

    def __init__(self, state: TrainingState, fork: Callable[[Branch, int], Awaitable[str]]) -> None:
        self._state = state
        self._fork = fork
        self._waiting: deque[ResearcherOrder] = deque()
        self._paused_by = ""
        self._review_at_epoch: int | None = None
        self._review_on = ""
        self._closed_at: Course | None = None
        self._forks_refused = 0
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
        if epoch == 0 or epoch % review.every_epochs or self._was_reviewed(epoch, course):
            return False
        self._review_at_epoch, self._review_on = epoch, course.branch.name
        return True

    def _was_reviewed(self, epoch: int, course: Course) -> bool:
        if epoch != self._review_at_epoch:
            return False
        if course.branch.name == self._review_on:
            return True
        return not workflow.patched("training-reviews-each-branch")

    async def review(self, course: Course) -> None:
        """Wait for an order that takes effect, for as long as the plan says; then go on without."""
        assert course.plan.review is not None
        timeout = timedelta(seconds=course.plan.review.timeout_s)
        began_at = workflow.now()
        # In older runs any order ended it, one that was refused too.
        goes_on = not workflow.patched("training-review-waits-for-effect")
        is_decided = False
        while not is_decided:
            self._state.status = Status.AWAITING_REVIEW
            left = max(timeout - (workflow.now() - began_at), timedelta(0))
            try:
                await workflow.wait_condition(lambda: self.is_busy, timeout=left)
            except TimeoutError:
                self._state.reason = f"nobody decided within {timeout}: training goes on"
                goes_on = True
            is_decided = await self.attend(course) or goes_on
        if course.branch.cursor.epoch == self._review_at_epoch:
            # Whoever made another branch of it here has looked at it.
            self._review_on = course.branch.name

    async def attend(self, course: Course) -> bool:
        """Carry out what lies on the desk, and wait while the run is paused (D1).

        Returns:
            Whether any of it took effect.
        """
        has_effect = False
        while self.is_busy and not course.is_over:
            while self._waiting and not self._has_stopped(course):
                order = self._waiting[0]
                if isinstance(order, Fork):
                    has_effect |= await self._take_fork(order, course)
                else:
                    has_effect |= self._take(order, course)
                self._waiting.popleft()
            if self._paused_by and not course.is_over:
                self._state.status, self._state.reason = Status.PAUSED, self._paused_by
                await workflow.wait_condition(lambda: bool(self._waiting))
        self._state.status = Status.TRAINING
        return has_effect

    def _has_stopped(self, course: Course) -> bool:
        """Return whether nothing is trained any more, for which an order could hold."""
        return course.is_stopped and workflow.patched("training-ends-where-stopped")

    def _take(self, order: AtOnce, course: Course) -> bool:
        """Carry out an order, and acknowledge it; return whether it took effect (D2)."""
        at = course.branch.cursor
        try:
            detail = self._carry_out(order, course)
        except (OrderRefused, TrainingUsageError, LookupError) as error:
            self._acknowledge(order, course, str(error))
            return False
        self._acknowledge(order, course, detail, done_at=at)
        return True

    async def _take_fork(self, order: Fork, course: Course) -> bool:
        """As `_take`, once it is known which of the runs start."""
        try:
            detail = await self._fork_all(order, course)
        except (OrderRefused, TrainingUsageError) as error:
            self._acknowledge(order, course, str(error))
            return False
        self._acknowledge(order, course, detail, done_at=course.branch.cursor)
        return True

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

    def _carry_out(self, order: AtOnce, course: Course) -> str:
        match order:
            case Decide(decision="continue") if order.hparams:
                raise OrderRefused("continue takes no hparams; adjust does")
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

    async def _fork_all(self, order: Fork, course: Course) -> str:
        """Start a run with each seed; return which started, and which did not."""
        started, refused = [], []
        for seed in order.seeds:
            number = len(self._state.forks) + self._forks_refused + 1
            branch = course.fork(f"{course.branch.name}-fork-{number}")
            branch.orders = [*branch.orders, course.changed(branch, seed, dict(order.hparams))]
            try:
                started.append(await self._fork(branch, number))
            except (ChildWorkflowError, InvalidWorkflowId) as error:
                self._forks_refused += 1
                refused.append(str(error))
            else:
                self._state.forks = [*self._state.forks, started[-1]]
        if not started:
            raise OrderRefused("; ".join(refused))
        return ", ".join([*started, *refused])
