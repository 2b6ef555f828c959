"""Numbered decisions of the engine (S9).  A run keeps those it was born with: `RunStarted.flags`.

A number never changes its meaning and is never used again.  A run with a number that is not known
here was begun by a newer engine, and is blocked until one that knows it carries it on.
"""

from collections.abc import Iterable

#: The rules of the first version.
FIRST = 1
#: Where numpy's streams stand is recorded, and the signal `__reseed` reseeds them; `core.streams`.
STREAMS = 2
#: A schedule tells runs of one instant apart: a trigger has an instant of its own, and a run that
#: is refused leaves the one that is open; see `core.schedule`.
TOLD_APART = 3
#: What new runs are born with.
FLAGS = (FIRST, STREAMS, TOLD_APART)


def why_too_new(flags: Iterable[int]) -> str:
    """Return why a run that was born with `flags` cannot be carried on here; "" if it can."""
    unknown = sorted(set(flags).difference(FLAGS))
    if not unknown:
        return ""
    numbers = ", ".join(map(str, unknown))
    known = ", ".join(map(str, FLAGS))
    return (
        f"a newer engine began this run, by rules that are not known here (flags {numbers}; known: "
        f"{known}); upgrade this orchestrator"
    )
