"""Which of two branches a run takes where its code was changed: `workflow.patched`.

An activation is numbered by its input: 1 is the start.  A marker, `PatchMarked`, names the patch
and the activation in which the run first took the new branch.

PA1  A patch is False in activations that were decided before its marker, and True from the
     marker's activation on.  It turns once, from False to True, and never back; one marker a run.
PA2  Without a marker, it is False in activations that were decided, by code that did not know it,
     and True in the first that is not; there the marker is recorded.  A run that met the patch in
     replay is thus not bound to the old branch for the rest of its life.
PA3  The activation is looked up, not the next command: activations that ordered nothing leave no
     trace in the history, and would take the marker of a later one for their own.
PA4  An activation is decided once its commands are recorded, and when it ordered none, unless the
     run is blocked since: what a blocked run has not recorded, its next code decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.core.errors import UsageError
from orchestrator.core.events import (
    COMMANDS,
    INPUTS,
    Event,
    PatchMarked,
    RunBlocked,
    RunUnblocked,
)
from orchestrator.core.limits import PATCH_ID_CHARS_MAX
from orchestrator.core.orders import Orders

_INPUTS = frozenset(INPUTS)
_COMMANDS = frozenset(COMMANDS)


@dataclass(slots=True)
class Patches:
    """What a history says of patches, and where its run stands.

    `marked` has the activation of each patch's marker; `decided` is the last activation that was
    decided (PA4), 0 for a run that begins; `activation` is the one that is carried out, or was
    last; `issued` are the patches whose marker the code has issued, `missed` those that it was
    told are off.
    """

    marked: dict[str, int] = field(default_factory=dict)
    decided: int = 0
    activation: int = 0
    issued: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)

    def is_on(self, patch: str) -> bool:
        """Return whether this activation takes the new branch (PA1, PA2)."""
        since = self.marked.get(patch)
        return self.activation > self.decided if since is None else self.activation >= since

    def ask(self, orders: Orders, patch: str, *, deprecated: bool) -> bool:
        """Return what `is_on` says; the marker is issued with the first True.

        Raises:
            ForbiddenInWorkflow: Asked where the code may only read.
            UsageError: No name of a patch.
        """
        _check_name(patch)
        if orders.loop.read_only:
            orders.refuse(
                f"workflow.patched() in a {orders.loop.read_only}",
                "ask in the workflow function and keep the answer in a variable",
            )
        is_on = self.is_on(patch)
        if not is_on:
            self.missed.add(patch)
        if is_on and patch not in self.issued and not orders.loop.is_shut:
            orders.issue(
                PatchMarked(
                    at_ms=orders.now_ms,
                    patch=patch,
                    activation=self.activation,
                    deprecated=deprecated,
                    is_late=patch in self.missed,
                )
            )
            self.issued.add(patch)
            self.marked[patch] = self.activation
        return is_on


def patches_in(events: Sequence[Event]) -> Patches:
    """Return what `events`, a whole history, says of patches."""
    found = Patches()
    activation = 0
    before = 0  # What was decided before the last event that decided something without a command.
    is_blocked = False
    for event in events:
        kind = type(event)
        if kind in _INPUTS:
            activation += 1
            if not is_blocked:
                before, found.decided = found.decided, activation
        elif kind in _COMMANDS:
            before = found.decided
            if isinstance(event, PatchMarked):
                found.marked.setdefault(event.patch, event.activation)
        elif kind is RunBlocked:
            is_blocked = True
            found.decided = before
        elif kind is RunUnblocked:
            is_blocked = False
            found.decided = activation
    return found


def _check_name(patch: object) -> None:
    if not isinstance(patch, str):
        raise UsageError(
            f"a patch is named by a text, found {type(patch).__name__}; "
            'write workflow.patched("what-changes")'
        )
    if not 0 < len(patch) <= PATCH_ID_CHARS_MAX:
        raise UsageError(
            f"the name of a patch has 1 to {PATCH_ID_CHARS_MAX} characters, found {len(patch)}; "
            "name it after what it changes"
        )
