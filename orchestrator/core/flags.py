"""Numbered decisions of the engine (S9).  A run keeps those it was born with: `RunStarted.flags`.

A number never changes its meaning and is never used again.
"""

#: The rules of the first version.
FIRST = 1
#: Where numpy's streams stand is recorded, and the signal `__reseed` reseeds them; `core.streams`.
STREAMS = 2
#: A schedule tells runs of one instant apart: a trigger has an instant of its own, and a run that
#: is refused leaves the one that is open; see `core.schedule`.
TOLD_APART = 3
#: What new runs are born with.
FLAGS = (FIRST, STREAMS, TOLD_APART)
