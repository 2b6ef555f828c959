"""What a training takes along into the next run of its id, when its history has grown long.

CA1  A run that goes on as new is in every bit, order and acknowledgement the run it was: all that
     `Course`, `Desk` and the published state hold between two chunks is here.
CA2  It goes on right after a chunk that trained, with nothing on the desk: the history in which an
     order arrived shows, for lineage, what was trained under it.
CA3  What would not fit into a start stays where it is: the run goes on with the history it has.
"""

import json

from pydantic import BaseModel, ConfigDict

from orchestrator.training.records import plain
from sagas.training_course import Branch, Course, CourseState
from sagas.training_desk import Noted
from sagas.training_state import TrainingState
from tasks.training_models import BranchStart, Prepared, TrainingPlan

#: The input of a run has 256 KiB at most, written more tightly than it is measured here.
CARRIED_BYTES_MAX = 240 * 1024


class Carried(BaseModel):
    """See the module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prepared: Prepared
    course: CourseState
    branch: BranchStart
    noted: Noted
    state: TrainingState


def carry(course: Course, noted: Noted, state: TrainingState) -> Carried:
    """Return what is to be taken along from where the training stands."""
    return Carried(
        prepared=course.prepared.model_copy(update={"first": None}),
        course=course.state(),
        branch=start_of(course.branch, course.prepared.storage),
        noted=noted,
        state=state.model_copy(deep=True),
    )


def start_of(branch: Branch, storage: str) -> BranchStart:
    """Return a branch as a run that goes on with it is told of it."""
    return BranchStart(
        storage=storage,
        branch=branch.name,
        cursor=plain(branch.cursor),
        refs=tuple(plain(ref) for ref in branch.refs),
        orders=tuple(plain(order) for order in branch.orders),
    )


def without_refs(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan without what a fork was told of its beginning, which is carried by now."""
    if plan.start is None:
        return plan
    return plan.model_copy(
        update={"start": plan.start.model_copy(update={"refs": (), "orders": ()})}
    )


def fits(plan: TrainingPlan, carried: Carried) -> bool:
    """Return whether a run can be started with it (CA3)."""
    given = [plan.model_dump(mode="json"), carried.model_dump(mode="json")]
    return len(json.dumps(given)) <= CARRIED_BYTES_MAX
