"""Takes people through the tour: scene after scene, then the books; in order, and out again."""

import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib.util import find_spec
from types import FrameType

from rich.console import Console

from orchestrator import ConfigurationError, StoreUnavailable
from sagas.demo import closing
from sagas.demo.narrator import WIDTH_MAX, Evidence, Narrator
from sagas.demo.scenes import SCENES
from sagas.demo.stage import Stage, Stuck
from sagas.demo.tour import Tour

KEEP = "--keep"
#: All claims held; one did not; the tour could not be given.
EXIT_HELD, EXIT_FAILED, EXIT_WRONG = 0, 1, 2
_TRAINING_NEEDS = ("numpy", "threadpoolctl", "sklearn")
#: The order whose history is shown: it was undone by two orchestrators.
_SHOWN = "orchestrator-killed"


def main(arguments: Sequence[str] = ()) -> int:
    """Give the tour and return the exit code: 0 if every claim held.

    Args:
        arguments: ``--keep`` leaves everything running at the end, until Ctrl-C.
    """
    if unknown := [each for each in arguments if each != KEEP]:
        sys.stderr.write(f"error: unknown argument {unknown[0]!r}; there is {KEEP} alone\n")
        return EXIT_WRONG
    stays = KEEP in arguments
    signal.signal(signal.SIGTERM, _leave)
    narrator = Narrator(_console())
    began_at = time.monotonic()
    try:
        with Stage() as stage:
            _give(stage, narrator, stays=stays)
            if stays:
                _sum_up_and_stay(narrator, time.monotonic() - began_at)
    except KeyboardInterrupt:
        narrator.tell("interrupted: all that was started has been stopped")
        return 128 + signal.SIGINT
    except (ConfigurationError, StoreUnavailable) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_WRONG
    if not stays:
        _sum_up(narrator, time.monotonic() - began_at)
    return EXIT_FAILED if narrator.failed else EXIT_HELD


def _give(stage: Stage, narrator: Narrator, *, stays: bool) -> None:
    narrator.heading("A guided tour: orders and a training, crashes, and what is left of them")
    try:
        tour = Tour(stage, narrator)
        narrator.tell(
            f"started on 127.0.0.1: a Valkey with its data on disk (port {stage.server.port}), an "
            f"orchestrator ({tour.orchestrator.pid}), a Celery worker ({tour.worker.pid})"
        )
        for scene in SCENES:
            scene(tour)
        _second_act(tour)
        closing.check_books(tour)
        if not stays:
            stage.ask_to_stop()  # From here on it only tells: meanwhile they can hand over.
        closing.show_history(tour, _SHOWN)
        closing.show_ways_on(tour, stays=stays)
    except Stuck as stuck:
        narrator.check(Evidence("the tour goes on", "that it does", stuck))


def _second_act(tour: Tour) -> None:
    missing = [name for name in _TRAINING_NEEDS if find_spec(name) is None]
    if missing:
        tour.narrator.heading("6  The training is left out")
        tour.narrator.tell(
            f"it needs {', '.join(missing)}: pip install 'celery-orchestrator[sklearn]'"
        )
        return
    # Not before: without these packages the first act is shown all the same.
    from sagas.demo import lab

    lab.killed_training(tour)


def _sum_up(narrator: Narrator, took_s: float) -> None:
    failed = narrator.failed
    if failed:
        narrator.heading(f"{len(failed)} of {len(narrator.checked)} claims did NOT hold")
        for evidence in failed:
            narrator.tell(evidence.claim)
    else:
        narrator.heading(f"All {len(narrator.checked)} claims held, in {took_s:.0f} s")


def _sum_up_and_stay(narrator: Narrator, took_s: float) -> None:
    # One block: whoever has read the last line may press Ctrl-C before the wait has begun, and that
    # is the end that `--keep` promises, not an interruption of the tour.
    try:
        _sum_up(narrator, took_s)
        threading.Event().wait()
    except KeyboardInterrupt:
        sys.stdout.write("\nstopping\n")


def _console() -> Console:
    # A pipe or a file gets the full width, and neither colours nor cursor movements.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_MAX
    return Console(file=sys.stdout, width=min(columns, WIDTH_MAX), highlight=False)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
