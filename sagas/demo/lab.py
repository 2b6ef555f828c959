"""The second act: a training is killed twice, takes an order, and ends with the same bits.

The other run gets the same order at the same step: both wait for it at their review.
"""

import threading
from functools import partial
from pathlib import Path

from rich.text import Text

from sagas.demo import curve, training_claims
from sagas.demo.tour import Tour
from sagas.demo.training_claims import Training, lost_attempts
from sagas.training import train
from sagas.training_state import Status, TrainingState
from tasks.training_models import Review, Saving, TrainingPlan

EPOCHS = 40
#: A chunk is so many epochs of 90 steps: some tenths of a second.
SAVE_EVERY, BATCH_SIZE = 5, 16
REVIEW_AT = 20
#: After which epochs the worker is killed: before and after the order.
KILL_AT = (6, 25)
#: So long after a chunk has ended the next one is surely under way, and not over.
INTO_CHUNK_SECONDS = 0.06
#: On a machine that stalls it may meet none for all that; then once more.
KILLS_MAX = 3
ORDER = '{"decision": "adjust", "hparams": {"lr": 0.0003}, "by": "ana"}'


def killed_training(tour: Tour) -> None:
    """A training that is killed twice ends with the bits of one that was left alone."""
    say = tour.narrator
    say.heading("6  A training is killed twice, and ends with the same bits")
    say.tell(f"{EPOCHS} epochs on 1797 handwritten digits; ana reviews it after {REVIEW_AT}")
    killed = _start(tour, "training")
    _kill_inside(tour, killed, KILL_AT[0])
    _adjust(tour, killed)
    _kill_inside(tour, killed, KILL_AT[1])
    say.tell("beside it the same plan is trained once more; nobody kills that one")
    undisturbed = _start(tour, "undisturbed")
    _adjust(tour, undisturbed)
    for handle in (killed, undisturbed):
        tour.wait_for_end(handle)
        say.check_by(training_claims.trained, handle, EPOCHS)
        say.check_by(training_claims.ordered_at, handle, REVIEW_AT, "ana")
    say.check_by(training_claims.lost, killed, 2)
    say.check_by(training_claims.lost, undisturbed, 0)
    store = tour.stage.training_path
    say.check_by(training_claims.other_weights, store, killed, REVIEW_AT)
    say.check_by(training_claims.same_weights, store, killed, undisturbed)
    say.check_by(training_claims.trainings_replay, tour.trainings)
    _draw(tour, killed)


def _start(tour: Tour, name: str) -> Training:
    plan = TrainingPlan(
        epochs=EPOCHS,
        hparams={"batch_size": BATCH_SIZE},
        saving=Saving(every_epochs=SAVE_EVERY),
        review=Review(every_epochs=REVIEW_AT),
    )
    handle = train.start(plan, id=tour.id_of(name))
    tour.trainings.append(handle)
    return handle


def _state(handle: Training) -> TrainingState | None:
    state: TrainingState | None = handle.state(TrainingState)
    return state


def _kill_inside(tour: Tour, handle: Training, epoch: int) -> None:
    """Kill the worker in the middle of a chunk after `epoch`."""
    before = len(lost_attempts(handle))
    for _ in range(KILLS_MAX):
        at = _kill(tour, handle, epoch)
        # What was done before the kill may show after it; of a later chunk only if none was lost.
        beyond = at + SAVE_EVERY + 1
        tour.stage.wait_until(f"{handle.id} goes on", partial(_goes_on, handle, before, beyond))
        if len(lost_attempts(handle)) > before:
            return
        tour.narrator.tell("that was between two chunks: nothing was lost; once more")


def _kill(tour: Tour, handle: Training, epoch: int) -> int:
    say, stage = tour.narrator, tour.stage
    at = stage.wait_until(f"{handle.id} is at epoch {epoch}", lambda: _epoch(handle, epoch))
    threading.Event().wait(INTO_CHUNK_SECONDS)
    code = stage.kill(tour.worker)
    say.tell(f"beyond epoch {at}: SIGKILL to worker {tour.worker.pid} and its children ({code})")
    tour.worker = stage.start_worker()
    say.tell(f"another worker starts, {tour.worker.pid}; the dead one's claim lasts 6 s")
    return at


def _goes_on(handle: Training, lost_before: int, epoch: int) -> bool:
    return len(lost_attempts(handle)) > lost_before or bool(_epoch(handle, epoch))


def _epoch(handle: Training, at_least: int) -> int:
    state = _state(handle)
    return state.epoch if state is not None and state.epoch >= at_least else 0


def _adjust(tour: Tour, handle: Training) -> None:
    """Wait for the review, and order another learning rate there, at the door for people."""

    def look() -> TrainingState | None:
        state = _state(handle)
        is_due = state is not None and state.status is Status.AWAITING_REVIEW
        return state if is_due else None

    state = tour.stage.wait_until(f"{handle.id} awaits its review", look)
    tour.narrator.tell(
        f"state: awaiting_review at epoch {state.epoch}, loss {float(state.loss or 0):.4f}, "
        f"lr {state.hparams['lr']}; ana lowers the learning rate"
    )
    tour.knock(handle, "decide", ORDER)


def _draw(tour: Tour, handle: Training) -> None:
    """Draw the loss, here and as a picture, where there is something to draw with."""
    say, state = tour.narrator, _state(handle)
    assert state is not None, "it has ended, and published what it came to"
    path: Path = tour.stage.directory / f"loss-{handle.id}.png"
    try:
        if say.has_signs:  # The curve is made of braille dots.
            say.show(Text(curve.in_terminal(state.curve, EPOCHS)))
        curve.as_picture(state.curve, [(REVIEW_AT, "lr 0.0003, ana")], path)
        say.tell(f"as a picture: {path}")
    except ModuleNotFoundError as error:
        say.tell(f"not drawn: {error.name} is missing, pip install 'celery-orchestrator[plot]'")
