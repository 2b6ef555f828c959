"""Random workflows: a program grows from a seed, and one workflow function carries it out."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

from orchestrator import workflow
from orchestrator.core.context import current
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.execution import Execution
from orchestrator.core.retry import Retry
from orchestrator.core.values import Json
from orchestrator.payloads import PydanticCodec
from tests.simulation.instructions import SIGNALS, Run, Seedling

WORKFLOW = "program"
_CODEC = PydanticCodec()


def drawn(rng: Random, *, has_bugs: bool, is_slow: bool) -> list[Any]:
    """Return a random program."""
    seedling = Seedling(rng, has_bugs=has_bugs, is_slow=is_slow)
    return ["all", seedling.some(0, 3)]


def said(rng: Random) -> dict[str, Json]:
    """Return what a start says beside its program: a retry policy, now and then."""
    if rng.random() < 0.6:
        return {}
    initial = timedelta(milliseconds=rng.choice((0, 500, 3_000)))
    return {"retry": Retry(attempts=rng.randint(2, 3), initial=initial).as_json()}


def definition(
    opened: Callable[[Execution], None] = lambda _: None, *, is_buggy: bool = False
) -> WorkflowDefinition:
    """Return the workflow that carries out programs.

    Args:
        opened: Told of every execution that begins, so that it can be closed with its process.
        is_buggy: The version with the bug.
    """

    async def program(tree: list[Any], part: int = 1) -> Any:
        opened(current("program"))
        run = Run(is_buggy=is_buggy, tree=tree, part=part)

        @workflow.on_query("trace")
        def trace() -> list[str]:
            return list(run.state["trace"])

        @workflow.on_signal("count")
        def count(by: int) -> None:
            run.state["count"] += by

        await run.do(tree)
        return run.state["trace"]

    return WorkflowDefinition(
        name=WORKFLOW,
        function=program,
        codec=_CODEC,
        decode_input=lambda args, kwargs: (tuple(args), dict(kwargs)),
        signals=SIGNALS,
    )
