"""The checker's model of attempts: which are current, who holds which claim, what was posted.

What it is for: an attempt is claimed only while it is current; it is given up only once its claim
has expired, or its time is over; an outcome that was acknowledged is what history says; and whoever
runs an attempt that is no longer wanted learns so with the next renewal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.store.ports import AttemptKey, ClaimAnswer, CommitResult, PostAnswer, RunKey
from tests.simulation.broken import Broken
from tests.simulation.histories import ENDINGS, ENDS_ATTEMPT


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the store: its name and arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(slots=True)
class Claimed:
    """A claim, as far as the calls and their answers tell."""

    token: str
    until_ms: int


_Step = tuple[RunKey, int]


@dataclass(slots=True)
class Attempts:
    """See the module.

    Attributes:
        current: The attempt that is on its way or running, by step.
        posted: Kind of the outcome, of attempts whose outcome is in.
        unwanted: Steps that the workflow has cancelled.
        calm_from_ms: From when on nobody dies, and whoever died before is no longer waited for.
    """

    claims: dict[AttemptKey, Claimed] = field(default_factory=dict)
    current: dict[_Step, int] = field(default_factory=dict)
    posted: dict[AttemptKey, str] = field(default_factory=dict)
    unwanted: set[_Step] = field(default_factory=set)
    calm_from_ms: int | None = None

    def passed(self, call: Call, answer: Any, now_ms: int) -> None:
        """Take note of a call that the store has carried out.

        Raises:
            Broken: It was answered as it should not have been.
        """
        look = _LOOKS.get(call.name)
        if look is not None:
            look(self, call, answer, now_ms)

    def _claimed(self, call: Call, answer: Any, now_ms: int) -> None:
        key, token = call.args
        is_current = self.current.get((key.run_key, key.step)) == key.attempt
        claim = self.claims.get(key)
        if answer.answer is ClaimAnswer.REFUSED:
            if is_current and claim and claim.token == token and key not in self.posted:
                raise Broken("P2", f"claim of {key}, repeated", "granted as before", "refused")
            return
        if not is_current:
            raise Broken("P2", f"claim of {key}", "refused: it is not current", "granted")
        if claim is not None and claim.token != token:
            raise Broken("P2", f"claim of {key}", f"held under {claim.token}", f"given to {token}")
        if claim is None:
            self.claims[key] = Claimed(token, now_ms + call.kwargs["ttl_ms"])

    def _renewed(self, call: Call, answer: Mapping[AttemptKey, ClaimAnswer], now_ms: int) -> None:
        for key, one in answer.items():
            if one is ClaimAnswer.REFUSED:
                continue
            claim = self.claims.get(key)
            if claim is None or not claim.token.startswith(call.args[0][key]):
                raise Broken("P2", f"renewal of {key}", "refused: not its claim", one.value)
            if self.current.get((key.run_key, key.step)) != key.attempt:
                raise Broken("P2", f"renewal of {key}", "refused: it is not current", one.value)
            if one is ClaimAnswer.GRANTED and (key.run_key, key.step) in self.unwanted:
                raise Broken("P5", f"renewal of {key}, which was cancelled", "cancelled", one.value)
            claim.until_ms = now_ms + call.kwargs["ttl_ms"]

    def _posted(self, call: Call, answer: PostAnswer, _now_ms: int) -> None:
        key, token, body = call.args
        claim = self.claims.get(key)
        is_current = self.current.get((key.run_key, key.step)) == key.attempt
        if answer is not PostAnswer.POSTED:
            is_ours = claim is not None and bool(token) and claim.token.startswith(token)
            if is_current and is_ours and key in self.posted and answer is not PostAnswer.REPEATED:
                raise Broken("P2", f"outcome of {key}, repeated", "known as such", answer.value)
            return
        if claim is None or not token or not claim.token.startswith(token):
            raise Broken("P2", f"outcome of {key}", "refused: not its claim", answer.value)
        if key in self.posted:
            raise Broken("P2", f"outcome of {key}", f"{self.posted[key]}, posted once", "another")
        if not is_current:
            raise Broken("P2", f"outcome of {key}", "refused: it is not current", answer.value)
        self.posted[key] = body["kind"]

    def _committed(self, call: Call, answer: Any, now_ms: int) -> None:
        for (_, commit), result in zip(call.args[0], answer, strict=True):
            if result is not CommitResult.COMMITTED:
                continue
            for row in commit.steps_sent:
                self.current[commit.key, row.step] = row.attempt
                self.unwanted.discard((commit.key, row.step))
                if row.local:
                    key = _key(commit.key, row.step, row.attempt)
                    self.claims[key] = Claimed(row.local, now_ms + CLAIM_TTL_MS)

    def recorded(self, run: RunKey, event: Mapping[str, Any], now_ms: int) -> None:
        """Look at an event that was just committed.

        Raises:
            Broken: It gives an attempt up that was not to be given up.
        """
        if event["type"] == "StepCancelRequested":
            self.unwanted.add((run, event["step"]))
        if event["type"] in ENDINGS:
            for step in [step for step in self.current if step[0] == run]:
                del self.current[step]
        if event["type"] not in ENDS_ATTEMPT:
            return
        self.current.pop((run, event["step"]), None)
        if event["type"] != "StepCompleted":
            self._check_end(_key(run, event["step"], event["attempt"]), event, now_ms)

    def _check_end(self, key: AttemptKey, event: Mapping[str, Any], now_ms: int) -> None:
        posted, kind = self.posted.get(key), event["kind"]
        if posted is not None:
            # A failure of a step that is no longer wanted is recorded as its cancellation.
            if posted == "completed" or kind not in (posted, "cancelled"):
                raise Broken("P1", f"attempt {key}, whose outcome is in", posted, kind)
            return
        claim = self.claims.get(key)
        if kind == "lost" and (claim is None or claim.until_ms > now_ms):
            found = "not claimed" if claim is None else f"its claim lasts until {claim.until_ms}"
            raise Broken("P2", f"attempt {key} is lost", f"its claim expired by {now_ms}", found)
        if kind == "lost" and self.calm_from_ms is not None and now_ms > self.calm_from_ms:
            raise Broken("P5", f"attempt {key}, begun without faults", "comes to its end", "lost")
        if event["failure"]["type"] == "schedule_to_start_timeout" and claim is not None:
            raise Broken("P2", f"attempt {key} was not started in time", "not claimed", "claimed")


_LOOKS: Mapping[str, Callable[[Attempts, Call, Any, int], None]] = {
    "claim": Attempts._claimed,
    "renew": Attempts._renewed,
    "post_outcome": Attempts._posted,
    "commit": Attempts._committed,
}


def _key(run: RunKey, step: int, attempt: int) -> AttemptKey:
    return AttemptKey(workflow_id=run.workflow_id, run=run.run, step=step, attempt=attempt)
