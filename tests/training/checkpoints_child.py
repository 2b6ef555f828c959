"""Trains in a process of its own, and ends it without a word at a point of a save.

The processes are forked from one that has loaded everything already: a kill costs milliseconds.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import numpy as np

from orchestrator.training.checkpoints import CheckpointStore, Saved
from orchestrator.training.objects import no_hook
from orchestrator.training.state import State
from tests.training.checkpoints_kit import RUN, Place, described, train

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.training.checkpoints_preloaded"])


def killer(point: str, time: int) -> Callable[[str], None]:
    """Return a hook that ends the process when `point` is reached for the given time, from 1."""
    left = [time]
    lock = threading.Lock()

    def reached(name: str) -> None:
        with lock:
            left[0] -= name == point
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _train(place: Place, steps: int, point: str, time: int, committed: tuple[Saved, ...]) -> None:
    hook = killer(point, time)
    train(CheckpointStore(place.open(hook), RUN, hook=hook), steps, committed)


#: What goes up in parts here, and how long each is; the protocol allows none that is shorter.
IN_PARTS = {"multipart_bytes": 5 << 20, "part_bytes": 5 << 20}


def save_long(place: Place, hook: Callable[[str], None] = no_hook) -> Saved:
    """Save a state that goes up in parts."""
    weights = np.arange(1_400_000, dtype=np.float64)
    objects = place.open(hook, **IN_PARTS)
    state = State(groups={"model": {"w": weights}})
    return CheckpointStore(objects, RUN).save(state, described(1, None))


def _save_long(place: Place, point: str, time: int) -> None:
    save_long(place, killer(point, time))


def save_long_until_killed(place: Place, point: str, time: int) -> bool:
    """Save what goes up in parts in another process; return whether it was killed at `point`."""
    return _was_killed(_context.Process(target=_save_long, args=(place, point, time)))


def train_until_killed(
    place: Place, steps: int, point: str, time: int, *, committed: tuple[Saved, ...] = ()
) -> bool:
    """Train in another process; return whether it was killed at `point`, or came to the end."""
    arguments = (place, steps, point, time, committed)
    return _was_killed(_context.Process(target=_train, args=arguments))


def _was_killed(process: BaseProcess) -> bool:
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0
