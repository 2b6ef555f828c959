"""What stops a training that its plan is not to blame for, and what the run does about it.

TR1  A store that gives no answer is asked again, for as long as it takes.
TR2  A machine that would round differently, and workers that die or hang with one step time after
     time: the run pauses until a person resumes it.  Nothing is undone.
TR3  A loss that is no finite number: the run pauses.  What comes next would be trained in vain.
TR4  Everything else is an answer: the run fails with it.
"""

from datetime import timedelta

from orchestrator import Retry, StepError, StepLost, StepTimeout, workflow
from orchestrator.training.work import ChunkResult
from sagas.training_course import Course

#: A worker that is killed costs an attempt.  Fifty deaths at one chunk are no chance: people should
#: look (TR2).  With waits of half a minute at most that takes ten minutes, not hours.
CHUNK_RETRY = Retry(
    attempts=50, initial=timedelta(milliseconds=200), interval_max=timedelta(seconds=30)
)
#: A chunk says that it is alive before its steps, and while it loads, saves or evaluates; one that
#: says nothing for so long hangs in a step.
CHUNK_SILENCE = timedelta(minutes=2)
#: What is saved and read beside training.
STEP_TIMEOUT = timedelta(minutes=10)


def is_asked_again(error: StepError) -> bool:
    """Return whether the same is to be ordered once more, at once (TR1)."""
    if error.type != "ObjectStoreUnavailable":
        return False
    return workflow.patched("training-waits-for-its-store")


def why_paused(error: StepError) -> str | None:
    """Return what a person should read before resuming; None where no pause helps (TR2, TR4)."""
    if error.type == "EnvironmentDiffers":
        return f"{error.failure.message}; resume elsewhere, or with environment=flag"
    if isinstance(error, StepLost | StepTimeout) and workflow.patched("training-waits-for-workers"):
        return f"{error}; resume when workers can carry it out"
    return None


def why_diverged(course: Course, loss: object) -> str | None:
    """Return what a person should read where a chunk's loss is no finite number (TR3).

    It came as JSON, in which such a number is its name.
    """
    if not isinstance(loss, str) or course.is_over:
        return None
    if not workflow.patched("training-pauses-where-it-diverges"):
        return None
    at = course.branch.cursor
    return f"the loss is {loss} at {at}; roll back, or resume to train on all the same"


def take(course: Course, result: ChunkResult, *, attempt: int) -> bool:
    """Take what came of a chunk; return whether it stopped before where it was to begin."""
    is_behind = result.stopped_at < course.branch.cursor
    falls_short = is_behind and workflow.patched("training-keeps-its-place")
    course.take(result, attempt=attempt, goes_back=is_behind and not falls_short)
    return falls_short
