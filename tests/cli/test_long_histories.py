"""Promise: a history at its bound is shown, described and verified in bounded memory."""

import tracemalloc
from collections.abc import Callable

import pytest

from orchestrator.app import Orchestrator
from orchestrator.cli.scanning import PAGE_EVENTS
from orchestrator.cli.showing import TAIL_DEFAULT
from orchestrator.core import events as e
from orchestrator.core.limits import HISTORY_EVENTS_MAX, HISTORY_EVENTS_WARNED
from tests.cli.conftest import Typed
from tests.client.runs import Recorder

Type = Callable[..., Typed]


@pytest.fixture
def order_42(orc: Orchestrator, recorder: Recorder) -> str:
    orc.get_workflow("order").start(120, id="order-42")
    recorder.started("order-42")
    return "order-42"


def grow(recorder: Recorder, count: int) -> None:
    """Add events to order-42, which has one, until there are `count`."""
    events = [
        e.SignalReceived(at_ms=2_000 + n, signal="note", signal_id=f"s{n}", payload="x" * 100)
        for n in range(2, count + 1)
    ]
    recorder.record("order-42", *events)


def numbers(out: str) -> list[int]:
    """Return the numbers of the events that were printed."""
    firsts = (line.split() for line in out.splitlines())
    return [int(words[0]) for words in firsts if len(words) > 3 and words[0].isdecimal()]


@pytest.mark.parametrize(
    ("options", "first"),
    [([], 201), (["--tail", "3"], 1_198), (["--after", "1100"], 1_101), (["--after", "0"], 1)],
)
def test_show_prints_the_end_of_a_long_history_unless_told_otherwise(
    typed: Type, order_42: str, recorder: Recorder, options: list[str], first: int
) -> None:
    grow(recorder, 1_200)
    done = typed("show", order_42, *options)
    assert done.code == 0
    assert numbers(done.out) == list(range(first, 1_201))
    assert "1200 events, verified" in done.out
    assert (f"events 1 to {first - 1} are left out" in done.out) == (first > 1)
    assert TAIL_DEFAULT == 1_000 == PAGE_EVENTS


def test_show_as_json_has_all_of_it_or_what_was_asked_for(
    typed: Type, order_42: str, recorder: Recorder
) -> None:
    grow(recorder, 1_200)
    whole = typed("show", order_42, "--json").data
    assert [each["seq"] for each in whole["history"]] == list(range(1, 1_201))
    assert whole["verification"]["verified"] is True
    assert whole["run"]["workflow_id"] == order_42
    few = typed("show", order_42, "--json", "--tail", "2").data
    assert few["history"] == whole["history"][-2:]


def test_show_warns_of_an_open_run_whose_history_is_long(
    typed: Type, order_42: str, recorder: Recorder
) -> None:
    grow(recorder, HISTORY_EVENTS_WARNED - 1)
    assert "continue as new" not in typed("show", order_42, "--tail", "0").out
    recorder.record(order_42, e.SignalReceived(at_ms=9_000, signal="note", signal_id="last"))
    assert "continue as new" in typed("show", order_42, "--tail", "0").out
    assert "continue as new" in typed("describe", order_42).out


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["show", "order-42"], ["describe", "order-42"], ["verify", "order-42"]]
)
def test_fifty_thousand_events_pass_through_bounded_memory(
    typed: Type, order_42: str, recorder: Recorder, command: list[str]
) -> None:
    grow(recorder, HISTORY_EVENTS_MAX)
    tracemalloc.start()
    try:
        done = typed(*command)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.code == 0
    assert peak < 25_000_000
