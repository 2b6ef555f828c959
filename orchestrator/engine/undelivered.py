"""What came for a run that has ended, and must not vanish.

UN1  A message that was sent together with a start opens the next run; see `store.with_start`.
UN2  A message of another run's is answered; see `engine.externals`.
UN3  Any other signal is kept in the rejected list.
UN4  Everything here may be done twice: each has an id by which it is known again.
"""

from dataclasses import dataclass
from typing import Protocol

from orchestrator.store.ports import ClientStore, InboxEntry, Kind, Letter, OwnerStore
from orchestrator.store.with_start import again_in


class Store(OwnerStore, ClientStore, Protocol):
    """The store as this needs it."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One entry, and the answer to its asker where there is one."""

    entry: InboxEntry
    answer: Letter | None

    @classmethod
    def of(cls, entry: InboxEntry, answer: Letter | None) -> "Undelivered | None":
        """Return what is to be settled of an entry; None where nothing is."""
        is_wanted = entry.kind is Kind.SIGNAL or again_in(entry.body, entry.run) is not None
        return cls(entry, answer) if answer is not None or is_wanted else None

    def settle(self, store: Store) -> str:
        """Do what the module says; return the inbox id, which is to be discarded then.

        Raises:
            StoreUnavailable: No answer; do it again (UN4).
        """
        entry, answer = self.entry, self.answer
        again = again_in(entry.body, entry.run)
        if answer is not None:
            store.post(answer.workflow_id, answer.kind, answer.body, run=answer.run)
        elif again is not None:
            store.start(
                entry.workflow_id,
                request_id=again.request_id,
                body=again.start,
                message=(entry.kind, again.message),
            )
        else:
            names = {name: str(entry.body.get(name)) for name in ("signal", "signal_id")}
            fields = {"workflow": entry.workflow_id, **names}
            store.reject(fields, "the run has ended, or has not begun")
        return entry.id
