"""How many steps one task takes: short enough to save and to listen, long enough to be worth it.

CH1  A chunk changes no bit of the result, only when a run can save, pause or change its orders.
CH2  Where an epoch is longer than half the interval it is cut, so that a save comes late by at most
     half an interval.  Where it is shorter than a second, several make a task.
CH3  Under a policy that counts epochs a chunk is whole epochs, and goes no further than the epoch
     after which a save is due.
"""

import math
from dataclasses import dataclass

from orchestrator.training.interval import Interval

#: A task and its messages take some milliseconds: a second keeps that below one in a hundred.
CHUNK_SECONDS_MIN = 1.0
#: Orders are taken between two chunks; where steps are free, this many epochs still are one.
EPOCHS_PER_CHUNK_MAX = 100


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """What the next chunk is: `steps` within one epoch, or `epochs` whole ones; the other is 0."""

    steps: int
    epochs: int
    reason: str


def chunk_size(
    interval: Interval, *, step_s: float | None, steps_per_epoch: int, epochs_since_save: int = 0
) -> ChunkSize:
    """Return the size of the next chunk, from the mean duration of a step (CH1)."""
    assert steps_per_epoch >= 1, steps_per_epoch
    if step_s is None:
        return ChunkSize(0, 1, "no step was measured yet")
    epoch_s = step_s * steps_per_epoch
    if interval.tau_s is not None and epoch_s > interval.tau_s / 2:
        pieces = min(steps_per_epoch, math.ceil(2 * epoch_s / interval.tau_s))
        if pieces > 1:
            reason = f"an epoch takes {epoch_s:.3g} s, a save is due every {interval.tau_s:.3g} s"
            return ChunkSize(math.ceil(steps_per_epoch / pieces), 0, reason)
    if epoch_s >= CHUNK_SECONDS_MIN:
        return ChunkSize(0, 1, f"an epoch takes {epoch_s:.3g} s")
    wanted = math.ceil(CHUNK_SECONDS_MIN / max(epoch_s, CHUNK_SECONDS_MIN / EPOCHS_PER_CHUNK_MAX))
    epochs = min(wanted, _left(interval, epoch_s, epochs_since_save))
    return ChunkSize(0, max(1, epochs), f"an epoch takes {epoch_s:.3g} s, less than a task should")


def _left(interval: Interval, epoch_s: float, epochs_since_save: int) -> int:
    """Return how many epochs there are until a save is due (CH2, CH3)."""
    if interval.tau_s is None:
        return (interval.epochs or 1) - epochs_since_save
    fitting = interval.tau_s / 2 / epoch_s if epoch_s else EPOCHS_PER_CHUNK_MAX
    return math.floor(min(fitting, EPOCHS_PER_CHUNK_MAX))
