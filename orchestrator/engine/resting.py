"""Runs that could not be worked on: which, since when, why, and whom that is told.

RE1  A run that rests is tried again each second; that it rests is said at once, and then at a
     doubling interval, as long as the reason is of one kind.
RE2  The reason stands in the run's row: set under the lease, and only where the row is as it was
     read.  It holds as long as no event follows (`client.summary`), so that no later commit has to
     take it away; a run that goes on without an event has it taken away.
RE3  What is told is for people.  An error of the product words itself, without payloads; of any
     other only its type is told, and the log has the rest.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.core.errors import OrchestratorError, PayloadSealed
from orchestrator.core.values import canonical
from orchestrator.store.ports import Commit, OwnerStore, RunKey

logger = logging.getLogger("orchestrator.engine")

#: Time after which it is said again that a run rests; doubled each time.
_SAID_AGAIN_MS = 2_000
_SAID_AGAIN_MS_MAX = 600_000
#: A run that has not been tried for so long has nothing to be tried for.
_FORGOTTEN_MS = 60_000


@dataclass(slots=True)
class _Rest:
    """Why a run rests, when it was last tried, and when that is said again."""

    kind: type[Exception]
    reason: str
    tried_at_ms: int
    said_again_ms: int
    interval_ms: int = _SAID_AGAIN_MS
    is_in_row: bool = False


class Rests:
    """The runs of one owner that rest."""

    def __init__(self) -> None:
        self._rests: dict[RunKey, _Rest] = {}
        #: What rows have to be told: the reason, or "" for none.
        self._untold: dict[RunKey, str] = {}

    def add(self, key: RunKey, error: Exception, now_ms: int) -> None:
        """Note that `key` could not be worked on because of `error`; say so where it is time."""
        rest = self._rests.get(key)
        if rest is None or rest.kind is not type(error):
            rest = _Rest(type(error), _reason_of(error), now_ms, now_ms)
            self._rests[key] = rest
        rest.tried_at_ms = now_ms
        if now_ms < rest.said_again_ms:
            return
        trace = None if isinstance(error, OrchestratorError) else error
        logger.error("%s rests: %s", key, rest.reason, exc_info=trace)
        rest.said_again_ms = now_ms + rest.interval_ms
        rest.interval_ms = min(_SAID_AGAIN_MS_MAX, rest.interval_ms * 2)
        rest.is_in_row = True
        self._untold[key] = rest.reason

    def end(self, key: RunKey) -> None:
        """Note that `key` could be worked on."""
        rest = self._rests.pop(key, None)
        if rest is None:
            return
        logger.info("%s goes on", key)
        self._untold.pop(key, None)
        if rest.is_in_row:
            self._untold[key] = ""

    def drop_where(self, is_dropped: Callable[[RunKey], bool]) -> None:
        """Forget runs: another owner has them."""
        for key in [key for key in self._rests if is_dropped(key)]:
            del self._rests[key]
        for key in [key for key in self._untold if is_dropped(key)]:
            del self._untold[key]

    def count(self, now_ms: int) -> int:
        """Return how many rest, and forget those that nothing is tried for any more."""
        for key, rest in list(self._rests.items()):
            if now_ms - rest.tried_at_ms > _FORGOTTEN_MS:
                del self._rests[key]
        return len(self._rests)

    def tell(
        self,
        store: OwnerStore,
        tokens: Mapping[int, str],
        partition_of: Callable[[str], int],
        now_ms: int,
    ) -> None:
        """Set the reason in the rows of runs that rest, and take it out of others (RE2).

        Raises:
            StoreUnavailable: No answer.  What is not told is told when it is next said.
        """
        while self._untold:
            key, reason = self._untold.popitem()
            token = tokens.get(partition_of(key.workflow_id))
            if token is not None:
                _tell(store, token, key, reason, now_ms)


def _tell(store: OwnerStore, token: str, key: RunKey, reason: str, now_ms: int) -> None:
    try:
        row = store.find_row(key.workflow_id)
    except PayloadSealed:
        return  # The row of a run that has not begun has its input; the log has said the reason.
    if row is None or row["run"] != str(key.run):
        return
    seq, head = int(row.get("seq") or 0), row.get("head", "")
    told = canonical({"seq": seq, "at_ms": now_ms, "reason": reason}).decode() if reason else ""
    commit = Commit(key=key, expected_seq=seq, expected_head=head, fields={"rests": told})
    # Where it is refused the run is another owner's, or has moved: then it rests no more.
    store.commit([(token, commit)])


def _reason_of(error: Exception) -> str:
    if isinstance(error, OrchestratorError):
        return str(error)
    return f"{type(error).__name__} in the orchestrator, whose log has the traceback"
