"""The checker's own model, fed by what passes between processes and the store.

It knows who holds which lease (P6), what every history was when it was written, what was
acknowledged to whom (P1), and which bodies were entered under which key (P2).  It asks nobody: not
the store for its leases, not the engine for its ledger.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.store.keys import partition_of
from orchestrator.store.ports import AttemptKey, Commit, CommitResult, RunKey
from tests.simulation.attempts import Attempts, Call
from tests.simulation.broken import Broken
from tests.simulation.permits import PermitModel
from tests.simulation.retries import check_beginning

#: An orchestrator's estimate of the store's clock is ahead of that by so much at most.
CLOCK_ERROR_MS = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """A partition's holder, as far as its own calls and their answers tell."""

    holder: str
    token: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event as it was committed: bytes, head, the store's clock then, and by whom."""

    data: bytes
    head: str
    now_ms: int
    by: str
    event: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """Something a process was told is safe.

    `kind` is "start", "signal", "cancel", "terminate", "decision" or "outcome"; `name` the id of
    the request or signal, or the attempt; `body` what was sent.
    """

    kind: str
    workflow_id: str
    run: int
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """How much there was at an instant; what came later may be lost with the server's tail."""

    histories: Mapping[RunKey, int]
    leases: Mapping[int, Lease]
    acknowledged: int


@dataclass(slots=True)
class Watch:
    """See the module.

    Attributes:
        acknowledged: In the order of the answers.
        keys: Idempotency keys by step, of all bodies entered.
        has_lost_tail: The server came back as it was before: weaker promises hold.
    """

    partitions: int
    leases: dict[int, Lease] = field(default_factory=dict)
    histories: dict[RunKey, list[Recorded]] = field(default_factory=dict)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    keys: dict[tuple[str, int, int], set[str]] = field(default_factory=dict)
    entered: dict[AttemptKey, str] = field(default_factory=dict)
    attempts: Attempts = field(default_factory=Attempts)
    permits: PermitModel = field(default_factory=PermitModel)
    has_lost_tail: bool = False

    # --- what processes learn --------------------------------------------------------------------

    def acknowledge(self, what: Acknowledged) -> None:
        """Take note that somebody was told that `what` is safe."""
        self.acknowledged.append(what)

    def events(self, key: RunKey) -> list[dict[str, Any]]:
        """Return the history of a run as it was committed."""
        return [recorded.event for recorded in self.histories.get(key, ())]

    def enter(self, key: AttemptKey, who: str, idempotency_key: str) -> None:
        """Take note that the body of an attempt is entered.

        Raises:
            Broken: It was entered before: two copies of one attempt ran.
        """
        before = self.entered.get(key)
        if before is not None and not self.has_lost_tail:
            raise Broken("P2", f"attempt {key} ran twice", f"once, by {before}", f"again, by {who}")
        self.entered[key] = who
        step = key.workflow_id, key.run, key.step
        self.keys.setdefault(step, set()).add(idempotency_key)

    # --- what passes the store -------------------------------------------------------------------

    def passed(self, who: str, name: str, call: Call, answer: Any, now_ms: int) -> None:
        """Take note of a call that the store has carried out, and of its answer.

        Raises:
            Broken: It should not have been carried out.
        """
        look = _LOOKS.get(name)
        if look is not None:
            look(self, who, call, answer, now_ms)
        if not self.has_lost_tail:
            self.attempts.passed(call, answer, now_ms)
            self.permits.passed(call, answer)

    def _granted(self, who: str, call: Call, answer: object, now_ms: int) -> None:
        if not answer:
            return
        partition, _, token = call.args
        held = self.leases.get(partition)
        if held is not None and held.holder != who and held.until_ms > now_ms:
            raise Broken(
                "P6", f"lease of partition {partition}", f"held by {held.holder}", f"given to {who}"
            )
        self.leases[partition] = Lease(who, token, now_ms + call.kwargs["ttl_ms"])

    def _renewed(self, who: str, call: Call, answer: set[int], now_ms: int) -> None:
        for partition, token in call.args[0].items():
            if partition in answer:
                continue
            self._must_hold(who, partition, token, now_ms, "a renewal")
            self.leases[partition] = Lease(who, token, now_ms + call.kwargs["ttl_ms"])

    def _released(self, _who: str, call: Call, _answer: None, _now_ms: int) -> None:
        partition, token = call.args
        held = self.leases.get(partition)
        if held is not None and held.token == token:
            del self.leases[partition]

    def _must_hold(self, who: str, partition: int, token: str, now_ms: int, what: str) -> None:
        held = self.leases.get(partition)
        if held is None or held.until_ms <= now_ms:
            found = "nobody holds it" if held is None else f"{held.holder}'s, which has expired"
        elif (held.holder, held.token) != (who, token):
            found = f"held by {held.holder}" if held.holder != who else "held under another token"
        else:
            return
        raise Broken("P6", f"{what} of partition {partition} by {who}", "its lease", found)

    def _committed(
        self, who: str, call: Call, answer: Sequence[CommitResult | None], now_ms: int
    ) -> None:
        for (token, commit), result in zip(call.args[0], answer, strict=True):
            if result is CommitResult.COMMITTED:
                partition = partition_of(commit.key.workflow_id, self.partitions)
                self._must_hold(who, partition, token, now_ms, f"a commit to {commit.key}")
                self._append(who, commit, now_ms)

    def _append(self, who: str, commit: Commit, now_ms: int) -> None:
        history = self.histories.setdefault(commit.key, [])
        key = commit.key
        head = history[-1].head if history else _first_head(key)
        for event in commit.events:
            head = hashlib.sha256(bytes.fromhex(head) + event.data).hexdigest()
            if event.seq != len(history) + 1 or event.head != head:
                raise Broken(
                    "P6",
                    f"an event of {key} by {who}",
                    f"number {len(history) + 1}, chained to the one before",
                    f"number {event.seq}, {'' if event.head == head else 'not '}chained to it",
                )
            recorded = json.loads(event.data)
            if not history:
                before = RunKey(workflow_id=key.workflow_id, run=key.run - 1)
                check_beginning(key, recorded, self.events(before))
            if not self.has_lost_tail:
                self.attempts.recorded(key, recorded, now_ms)
                self.permits.recorded(key, recorded)
            history.append(Recorded(event.data, head, now_ms, who, recorded))

    # --- a lost tail -----------------------------------------------------------------------------

    def mark(self) -> Mark:
        """Return how much there is now."""
        lengths = {key: len(history) for key, history in self.histories.items()}
        return Mark(lengths, dict(self.leases), len(self.acknowledged))

    def lose_tail(self, mark: Mark) -> None:
        """Forget what came after `mark`: the server has."""
        self.has_lost_tail = True
        self.leases = dict(mark.leases)
        self.histories = {
            key: history[: mark.histories.get(key, 0)]
            for key, history in self.histories.items()
            if mark.histories.get(key, 0)
        }
        del self.acknowledged[mark.acknowledged :]


_LOOKS: dict[str, Callable[[Watch, str, Call, Any, int], None]] = {
    "grant_lease": Watch._granted,
    "renew_leases": Watch._renewed,
    "release_lease": Watch._released,
    "commit": Watch._committed,
}


def _first_head(key: RunKey) -> str:
    return hashlib.sha256(f"orc:1:{key.workflow_id}:{key.run}".encode()).hexdigest()
