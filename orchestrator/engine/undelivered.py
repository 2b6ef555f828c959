"""What came for a run that has ended, and must not vanish.

UN1  A message that was sent together with a start opens the next run; see `core.with_start`.
UN2  A message of another run's is answered; see `engine.externals`.  A permit goes back.
UN3  Any other signal is kept in the rejected list.
UN4  Everything here may be done twice: each has an id by which it is known again.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

from orchestrator.core.seen import is_taken
from orchestrator.core.with_start import again_in
from orchestrator.engine.externals import Externals
from orchestrator.engine.permits import TO_KEYS, deliver_to_key, unwanted
from orchestrator.engine.turn import Turn
from orchestrator.store.permit_ports import PermitStore
from orchestrator.store.ports import (
    ClientStore,
    InboxEntry,
    Kind,
    Letter,
    OwnerStore,
    StartAnswer,
)

logger = logging.getLogger("orchestrator.engine")


class Store(OwnerStore, ClientStore, PermitStore, Protocol):
    """The store as this needs it."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One entry, and the answer to its asker where there is one."""

    entry: InboxEntry
    answer: Letter | None

    def settle(self, store: Store) -> str:
        """Do what the module says; return the inbox id, which is to be discarded then.

        Raises:
            StoreUnavailable: No answer; do it again (UN4).
        """
        entry, answer = self.entry, self.answer
        again = again_in(entry.body, entry.run)
        if answer is not None and answer.kind in TO_KEYS:
            deliver_to_key(store, answer)
        elif answer is not None:
            store.post(answer.workflow_id, answer.kind, answer.body, run=answer.run)
        elif again is not None:
            started = store.start(
                entry.workflow_id,
                request_id=again.request_id,
                body=again.start,
                message=(entry.kind, again.message),
            )
            if started.answer is StartAnswer.BARRED and entry.kind is Kind.SIGNAL:
                self._reject(store, "the run has ended, and its start must not follow it")
        else:
            self._reject(store, "the run has ended, or has not begun")
        return entry.id

    def _reject(self, store: Store, reason: str) -> None:
        names = {name: str(self.entry.body.get(name)) for name in ("signal", "signal_id")}
        store.reject({"workflow": self.entry.workflow_id, **names}, reason)


def is_of_another_run(entry: InboxEntry, run: int) -> bool:
    """Return whether an answer is for an earlier run of the id, which run `run` goes on for.

    Its numbers are those of that run: what it asked for, nobody waits for any more.
    """
    match entry.kind:
        case Kind.PERMIT:
            asker = entry.body["run"]
        case Kind.CHILD | Kind.EXTERNAL:
            asker = entry.body.get("for_run", run)
        case _:
            return False
    return int(str(asker)) < run


def turned_away(entry: InboxEntry, turn: Turn, externals: Externals) -> list[Undelivered]:
    """Return what is to be settled of an entry that its run does not take: nothing, or it.

    What is to be settled stays in the inbox until then.
    """
    logger.info("%s takes no %s: it is %s", turn.key, entry.kind.value, turn.ledger.status)
    if is_taken(turn.ledger, entry.body):
        return []  # The same again: it has its event, and its answer.
    answer = unwanted(entry) or externals.too_late(entry.kind, entry.body)
    is_wanted = entry.kind is Kind.SIGNAL or again_in(entry.body, entry.run) is not None
    if answer is None and not is_wanted:
        return []
    turn.draft.inbox_ids.remove(entry.id)
    return [Undelivered(entry, answer)]
