"""What a storm has left, and what is known of it: read when it is needed, then kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.core.events import Event
from orchestrator.store.ports import RunKey
from tests.acceptance.stack import Stack
from tests.chaos.books import Books
from tests.chaos.evidence import History, read_histories
from tests.chaos.fleet import Tally
from tests.chaos.orders import OrderPlan
from tests.chaos.people import Record
from tests.chaos.takeover import Takeover, Takeovers
from tests.chaos.witness import Witness


@dataclass(kw_only=True)
class Aftermath:
    """Everything that is known when the storm is over."""

    stack: Stack
    plans: list[OrderPlan]
    record: Record
    tally: Tally
    witness: Witness
    takeovers: Takeovers
    books: Books
    unended: list[str]
    chain_faults: list[str] = field(default_factory=list)

    @cached_property
    def histories(self) -> dict[str, History]:
        """All histories as they lie, by workflow id; `chain_faults` has what is wrong with them."""
        return read_histories(self.stack.redis, self.chain_faults)

    @cached_property
    def statuses(self) -> dict[str, str]:
        """Each order's status as it published it."""
        runs = {plan.id: self.stack.orc.run(plan.id) for plan in self.plans}
        return {
            order_id: str((run.state() or {}).get("status"))
            for order_id, run in runs.items()
            if order_id in self.histories
        }

    @cached_property
    def step_takeovers(self) -> list[Takeover]:
        """How long steps stood still that lost their worker."""
        decoded: dict[RunKey, list[Event]] = {}
        for workflow_id, history in self.histories.items():
            handle = self.stack.orc.run(workflow_id, history.run)
            decoded[RunKey(workflow_id=workflow_id, run=history.run)] = [
                each.event for each in handle.history()
            ]
        return list(self.takeovers.of_steps(decoded))

    def count(self, kind: str) -> int:
        """Return how many events of a type all histories have."""
        return sum(len(history.of_type(kind)) for history in self.histories.values())


def figures(after: Aftermath) -> Iterator[str]:
    """Yield what is worth knowing, and no claim."""
    lost = sum(
        event["kind"] == "lost"
        for history in after.histories.values()
        for event in history.of_type("StepAttemptFailed", "StepFailed")
    )
    logs = [child.log() for child in after.stack.children if "orchestrator" in child.name]
    fenced = sum(log.count("another orchestrator owns it now") for log in logs)
    yield f"{lost} attempts lost; {fenced} commits of stale owners refused"
    yield (
        f"{after.record.duplicates_refused} second starts refused, {after.record.resolved} parked "
        f"undoes resolved by a person, {after.record.too_late} messages refused as too late"
    )
