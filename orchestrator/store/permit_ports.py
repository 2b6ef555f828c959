"""What is kept of the permits of a key, in the partition of the key.  Contracts, no code.

    P1  At most as many hold a permit of a key as the latest request's limit says, but for those who
        held one before it was lowered.
    P2  Who asked first is granted first; a fence is higher than all that the key granted before.
    P3  Every change is one act.  A request or a release that is repeated while its permit is there
        changes nothing; a release of what is not there changes nothing.
    P4  A grant is returned by every change of the key until `note_told` says that its holder was
        told: whoever dies in between leaves it to the next delivery of the same letter.
    P5  A request that comes again after its release is granted again, once it is its turn: whoever
        is told of a permit that he does not want releases it again.

Every call may raise `StoreUnavailable`, as those of `ports`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who asks: a run, and its number of the permit, from 1."""

    workflow_id: str
    run: int
    permit: int

    def __str__(self) -> str:
        return f"{self.workflow_id}.{self.run}.{self.permit}"

    @classmethod
    def parse(cls, text: str) -> "Holder":
        """Return the holder that `str` wrote; a workflow id may itself contain dots.

        Raises:
            ValueError: Not such a text.
        """
        workflow_id, run, permit = text.rsplit(".", 2)
        return cls(workflow_id=workflow_id, run=int(run), permit=int(permit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A permit that is held since an instant of the store's clock."""

    holder: Holder
    fence: int
    since_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitState:
    """Who holds permits of a key, by fence, and who waits, first come first.

    `limit` is the latest request's; 0 where nobody holds or waits.  `slots` are the instants of
    the key's rate that are kept, oldest first, with who they were given to.
    """

    key: str
    limit: int
    holders: Sequence[Grant]
    waiters: Sequence[Holder]
    slots: Sequence[tuple[int, Holder]]


class PermitStore(Protocol):
    """What an orchestrator needs to deliver the letters about permits; and a reader."""

    def request_permit(self, key: str, holder: Holder, *, limit: int) -> list[Grant]:
        """Put `holder` at the end of the key's queue, once; return who is to be told (P4).

        `limit` becomes the key's.
        """
        ...

    def release_permit(self, key: str, holder: Holder) -> list[Grant]:
        """Remove `holder`, whether it holds or waits; return who is to be told (P4)."""
        ...

    def note_told(self, key: str, grant: Grant) -> None:
        """Note that the grant's holder was told; one that was released meanwhile stays so."""
        ...

    def take_slot(self, key: str, holder: Holder, *, limit: int, per_ms: int) -> int:
        """Return the instant of the holder's slot: at most `limit` in any `per_ms`, in order.

        The same one for a request that is repeated within ``RATE_REMEMBERED_MS`` of that instant.
        """
        ...

    def read_permits(self, key: str) -> PermitState:
        """Return the key's permits as they are."""
        ...
