"""What the body of a step does, and when; the same in workers and in orchestrators.

A body has its effect at some instant and ends at a later one.  It may fail before the effect or
after it, for a while or for good; who runs it may die in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from orchestrator.core.values import Json
from tests.simulation.service import Refused, Service

#: The two tasks there are.
ACT, UNDO = "act", "undo"

_FLAKY: dict[str, Json] = {"type": "Flaky", "message": "again, please"}


@dataclass(slots=True)
class Body:
    """One attempt at a step.

    Args:
        task: `ACT` or `UNDO`.
        manner: How the step behaves, from its arguments: "ms" it takes, "flaky" the chance to
            fail once, "unwilling" to be refused, "undo_flaky" the chance of its undo to fail.
        key: Idempotency key of the step.
        compensates: Idempotency key of the step to undo, or "".
    """

    task: str
    label: str
    manner: Mapping[str, Any]
    key: str
    compensates: str
    is_calm: bool
    failure: dict[str, Json] | None = None

    @classmethod
    def of(cls, message: Mapping[str, Any], *, is_calm: bool) -> "Body":
        """Return the body that a message asks for; one that is calm fails only for good."""
        label, manner = message["args"]
        return cls(
            message["task"],
            label,
            manner,
            message["idempotency_key"],
            message["compensates"],
            is_calm,
        )

    def effect_ms(self, rng: Random) -> int:
        """Return when, after its beginning, the body has its effect."""
        return rng.randint(0, int(self.manner["ms"]))

    def act(self, service: Service, rng: Random) -> None:
        """Have the effect, or fail."""
        flaky = 0.0 if self.is_calm else self.manner["flaky" if self.task == ACT else "undo_flaky"]
        chance = rng.random()
        if chance < flaky / 2:
            self.failure = dict(_FLAKY)
            return
        try:
            if self.task == UNDO:
                service.undo(self.compensates, self.key)
            else:
                service.act(self.key, self.label, is_unwilling=bool(self.manner["unwilling"]))
        except Refused as refused:
            self.failure = {"type": "Refused", "message": str(refused), "non_retryable": True}
            return
        if chance < flaky:
            self.failure = dict(_FLAKY)

    def outcome(self) -> dict[str, Json]:
        """Return the outcome of a body that came to its end."""
        if self.failure is not None:
            return {"kind": "failed", "failure": self.failure}
        return {"kind": "completed", "result": f"{self.task} {self.label}"}

    def stopped(self, *, ran: bool) -> dict[str, Json]:
        """Return the outcome of a body that was told to stop."""
        failure: Json = {"type": "StepCancelled", "message": "stopped on request"}
        body: dict[str, Json] = {"kind": "cancelled", "failure": failure}
        return body if ran else {**body, "ran": False}
