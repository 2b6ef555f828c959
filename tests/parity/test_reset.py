"""Reset, as Temporal's own tests name it; where ours differs the docstring says so."""

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind
from tests.engine.world import World


async def counting() -> list[Json]:
    taken: list[Json] = [str(workflow.uuid4())]
    while len(taken) < 3:
        taken.append(await workflow.signal("number"))
        await workflow.step("note", len(taken))
    return taken


def test_reset() -> None:
    """A new run of the id goes on from an event; the old one is terminated; signals come again.

    Temporal's event is the end of a workflow task, ours is any: an input is given again.  The seed
    stays, where Temporal's reset changes it: `handle.reseed` does.
    """
    world = World(counting)
    world.tasks["note"] = lambda number: None
    world.start("counting")
    world.signal("number", 1)
    world.settle()
    at = world.names().index("SignalReceived") + 1
    world.post(Kind.RESET, {"run": 1, "event": at, "request_id": "q", "reason": "again"})
    world.settle()
    world.signal("number", 2)
    world.settle()
    assert world.names()[-1] == "RunReset"
    assert [row["status"] for row in world.store.read_rows([("w", 1)]) if row] == ["terminated"]
    assert world.row()["run"] == "2"
    result = world.result()
    assert isinstance(result, list)
    assert result[1:] == [1, 2]
    copied = next(one for one in world.events("w", 2) if isinstance(one, e.HistoryCopied))
    assert (copied.run, copied.event) == (1, at - 1)
    first, second = (world.events("w", run)[0] for run in (1, 2))
    assert isinstance(first, e.RunStarted)
    assert isinstance(second, e.RunStarted)
    assert first.seed == second.seed
