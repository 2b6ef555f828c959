"""How long one run's history may grow: who warns, what is parked, and what is kept out.

HL1  From `HISTORY_EVENTS_WARNED` on an orchestrator warns, once for each threshold and run in
     memory; the run notices nothing.
HL2  Commands that lead beyond `HISTORY_EVENTS_MAX` park the run; nothing ends it.  A run may always
     end, go on as new, or unwind once it was asked to stop: it has events of its own for that.
HL3  A parked run goes on recording what arrives.  Beyond `HISTORY_EVENTS_RESERVED` of it, what can
     be sent without end stays in the inbox; it is taken, or turned away, when the run goes on as
     new or ends.
"""

import logging
from collections.abc import Sequence

from orchestrator.core import events as e
from orchestrator.core.errors import ActivationFailed
from orchestrator.core.ledger import Ledger
from orchestrator.core.limits import (
    HISTORY_EVENTS_MAX,
    HISTORY_EVENTS_RESERVED,
    HISTORY_EVENTS_UNWINDING,
    HISTORY_EVENTS_WARNED,
)
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import Kind

logger = logging.getLogger("orchestrator.engine")

#: What has no bound of its own; all else answers something that the run has ordered.
_UNBOUNDED = frozenset({Kind.SIGNAL, Kind.UPDATE, Kind.WATCH})


class Lengths:
    """Watches the length of the history of one run."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._warned_at = 0
        self._is_keeping_out = False

    def check(self, commands: Sequence[e.Command]) -> None:
        """Raise where `commands` lead too far (HL2).

        Raises:
            ActivationFailed: Kind "limit".
        """
        ledger = self._turn.ledger
        bound = HISTORY_EVENTS_MAX
        if ledger.is_asked_to_stop or any(isinstance(command, e.ENDINGS) for command in commands):
            bound += HISTORY_EVENTS_RESERVED + HISTORY_EVENTS_UNWINDING
        if ledger.seq + len(commands) > bound:
            raise ActivationFailed(
                "limit",
                f"the history would grow beyond {bound} events: deploy code that fits it so far "
                "and calls workflow.continue_as_new earlier "
                "(workflow.info().is_continue_as_new_suggested says when), or terminate the run, "
                "whose compensations have room; until then what arrives is kept",
            )

    def keeps_out(self, kind: Kind) -> bool:
        """Return whether an entry of this kind stays in the inbox for now (HL3)."""
        if kind not in _UNBOUNDED:
            return False
        is_full = self._turn.ledger.seq >= HISTORY_EVENTS_MAX + HISTORY_EVENTS_RESERVED
        if is_full and not self._is_keeping_out:
            logger.warning(
                "%s: the history has %d events; its mail stays in the inbox until it moves or ends",
                self._turn.key,
                self._turn.ledger.seq,
            )
        self._is_keeping_out = is_full
        return is_full

    def warn(self) -> None:
        """Warn where the history has come to a threshold since the last call (HL1)."""
        seq = self._turn.ledger.seq
        reached = max((each for each in _thresholds() if seq >= each), default=0)
        if reached > self._warned_at:
            logger.warning("%s: %s", self._turn.key, length_in_words(seq))
        self._warned_at = max(self._warned_at, reached)


def may_keep_mail(ledger: Ledger) -> bool:
    """Return whether mail of the run may lie in the inbox that was kept out of its history."""
    return ledger.seq >= HISTORY_EVENTS_MAX


def length_in_words(events: int) -> str:
    """Return what is to be said of a history of so many events."""
    return (
        f"its history has {events} events and is parked at {HISTORY_EVENTS_MAX}; "
        "let the workflow go on by continue_as_new before"
    )


def _thresholds() -> tuple[int, ...]:
    return (HISTORY_EVENTS_WARNED, HISTORY_EVENTS_MAX * 4 // 5)
