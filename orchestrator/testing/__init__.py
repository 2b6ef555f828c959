"""Workflows tested without a server: a whole engine in memory, under a clock of the test's own.

    from orchestrator.testing import WorkflowEnvironment

    def test_order_is_taken_as_delivered_after_a_week():
        with WorkflowEnvironment(orc) as env:
            env.mock(charge, lambda order: {"id": "p-1", "amount_cents": 5})
            handle = env.start(order, Order(id="o-1", total=5), id="order-1")
            assert handle.result().status == "completed"      # seven days, in milliseconds
            assert env.calls(charge) == [call(Order(id="o-1", total=5))]

It is the engine of the product, with its log, its retries and its time-outs; only the store, the
clock and the workers are others: the body of a task runs where the test runs, one at a time.

Rule of this layer: it may use everything below it, and nothing of the product uses it.

TE1  Time stands still unless the test lets it pass (`WorkflowEnvironment.skip`) or waits for a
     result: then it jumps from one thing that is due to the next.  Nothing sleeps.
TE2  Whoever looks at a run sees all that can happen by this instant.
TE3  What went wrong in workflow code, and a failed assertion in a step, is raised at once, out of
     whatever the test was calling, with the traceback of where it happened.
"""

from unittest.mock import call

from orchestrator.testing.attempts import Attempt
from orchestrator.testing.environment import WorkflowEnvironment
from orchestrator.testing.holds import Hold
from orchestrator.testing.step_environment import StepEnvironment

__all__ = ["Attempt", "Hold", "StepEnvironment", "WorkflowEnvironment", "call"]
