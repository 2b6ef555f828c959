"""Queries as Temporal's users know them; a test is named after the conformance test it answers."""

from typing import Any

from orchestrator import workflow
from orchestrator.core.values import Json
from tests.engine.world import World


async def shop() -> None:
    sold = 3

    @workflow.on_query("sold")
    def sold_so_far(since: int) -> int:
        return sold - since

    @workflow.on_query("broken")
    def broken() -> Any:
        return object()

    await workflow.signal("end")


def ask(name: str, *args: Json) -> Any:
    world = World(shop)
    world.start("shop")
    world.settle()
    answer = world.query(name, *args)
    assert world.status() == "running"
    assert world.names() == ["RunStarted"]  # a query leaves no trace
    return answer


def test_query_successful_query() -> None:
    assert ask("sold", 1) == {"ok": 2}


def test_query_unexpected_arguments() -> None:
    for args in ((), (1, 2), ("one",)):
        answer = ask("sold", *args)
        assert answer["error"] == "InvalidPayload"
        assert "query 'sold' does not validate" in answer["message"]


def test_query_unexpected_query_type_name() -> None:
    answer = ask("solt")
    assert answer["error"] == "UnknownQuery"
    assert "known: sold, broken, stack" in answer["message"]


def test_query_unexpected_return_type() -> None:
    assert "error" in ask("broken")


def test_query_timeout_due_to_no_active_workers() -> None:
    """Nobody answers while no orchestrator runs; see also tests/client/test_messages.py."""
    world = World(shop)
    world.start("shop")
    world.nodes = []
    assert world.query("sold", 1) is None


def test_a_dynamic_query_answers_for_names_without_a_handler() -> None:
    async def talker() -> None:
        @workflow.on_query("own")
        def own() -> str:
            return "own"

        @workflow.on_query(None)
        def other(name: str, args: list[Any]) -> list[Any]:
            return [name, *args]

        await workflow.signal("end")

    world = World(talker)
    world.start("talker")
    world.settle()
    assert world.query("own") == {"ok": "own"}
    assert world.query("else", 1, {"a": 2}) == {"ok": ["else", 1, {"a": 2}]}
    assert "talker" in str(world.query("stack"))
