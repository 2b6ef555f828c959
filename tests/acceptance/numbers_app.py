"""The tested app, and a workflow that takes numbers and goes on as new all the time."""

from orchestrator import workflow
from tests.acceptance.app import app, orc

__all__ = ["app", "orc"]


@orc.workflow(name="numbers")
async def numbers(taken: dict[str, list[int]], per_run: int) -> list[object]:
    """Take [sender, number] signals, `per_run` in each run, until sender "" says it is over.

    Returns all numbers by sender, as they came, and the number of the last run.
    """
    for _ in range(per_run):
        sender, number = await workflow.signal("number")
        if not sender:
            return [taken, workflow.info().run]
        taken.setdefault(sender, []).append(number)
    workflow.continue_as_new(taken, per_run)
