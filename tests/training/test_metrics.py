"""Metrics never stand in training's way: what a sink does badly stays with the sink.

That `put` does not wait is shown by structure: the sink hangs for as long as the test wants, on an
event that is set only after everything was put.  A `put` that waited would never come back.
"""

import logging
import multiprocessing
import threading
from typing import Any

import pytest

from orchestrator.core.values import Json
from orchestrator.training.metrics import Metrics
from orchestrator.training.metrics_lane import BATCH_MAX, FAILURES_MAX, REST_SECONDS, Lane
from orchestrator.training.sinks import VALUES_MAX
from tests.training.evidence_sinks import ByHand, Hanging, Keeping, Raising, record

#: For events that come at once; only a broken build waits so long.
PATIENCE_S = 30.0


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    """Lanes without threads: the test calls `deliver`."""
    monkeypatch.setattr(Lane, "_start_if_needed", lambda self: None)
    return ByHand()


def test_points_reach_every_sink_in_order() -> None:
    one, other = Keeping(), Keeping()
    other.name = "other"
    metrics = Metrics([one, other])
    for step in range(1500):
        metrics.put(record(step))
    counts = metrics.close(PATIENCE_S)
    for sink in (one, other):
        assert sink.steps == list(range(1500))
        assert sink.closed == 1
        assert (counts[sink.name].delivered, counts[sink.name].queued) == (1500, 0)


def test_a_sink_that_hangs_delays_no_put_and_costs_bounded_memory() -> None:
    hanging, keeping = Hanging(), Keeping()
    metrics = Metrics([hanging, keeping], queue_max=50)
    try:
        metrics.put(record(0))
        assert hanging.entered.wait(PATIENCE_S)
        for step in range(1, 1001):
            metrics.put(record(step))
        found = metrics.counts()["hanging"]
        # One is in the sink's hands, the newest 50 wait, and what was pushed out is counted.
        assert (found.queued, found.dropped, found.delivered) == (51, 950, 0)
    finally:
        hanging.let_go.set()
    counts = metrics.close(PATIENCE_S)
    assert hanging.steps == [0, *range(951, 1001)]
    assert counts["hanging"].delivered == 51
    assert counts["keeping"].delivered + counts["keeping"].dropped == 1001


def test_a_sink_that_hangs_keeps_nothing_from_the_others() -> None:
    hanging, keeping = Hanging(), Keeping()
    metrics = Metrics([hanging, keeping])
    try:
        for step in range(100):
            metrics.put(record(step))
        assert hanging.entered.wait(PATIENCE_S)
        lane = metrics._lanes[1]
        lane.close()
        assert lane.join(PATIENCE_S)
        assert keeping.steps == list(range(100))
        # Nor does it keep a worker from ending: close gives it up.
        assert metrics.close(timeout_s=0.0)["hanging"].delivered == 0
    finally:
        hanging.let_go.set()
    assert metrics._lanes[0].join(PATIENCE_S)


def test_no_lock_of_put_is_held_while_the_sink_works() -> None:
    hanging = Hanging()
    lane = Lane(hanging)
    try:
        lane.put(record(0))
        assert hanging.entered.wait(PATIENCE_S)
        assert lane._lock.acquire(blocking=False)
        lane._lock.release()
        assert lane.counts().queued == 1
    finally:
        hanging.let_go.set()
    lane.close()
    assert lane.join(PATIENCE_S)


def test_a_full_queue_loses_its_oldest_and_counts_it(by_hand: ByHand) -> None:
    sink = Keeping()
    lane = Lane(sink, queue_max=3, clock=by_hand)
    for step in range(10):
        lane.put(record(step))
    assert lane.counts().dropped == 7
    assert lane.deliver()
    assert not lane.deliver()
    assert sink.steps == [7, 8, 9]


def test_a_sink_is_given_no_more_than_a_batch_at_once(by_hand: ByHand) -> None:
    sink = Keeping()
    lane = Lane(sink, clock=by_hand)
    for step in range(BATCH_MAX + 1):
        lane.put(record(step))
    assert lane.deliver()
    assert len(sink.points) == BATCH_MAX
    assert lane.deliver()
    assert sink.steps == list(range(BATCH_MAX + 1))


def test_a_sink_that_raised_is_given_the_same_points_again(by_hand: ByHand) -> None:
    sink = Raising(FAILURES_MAX - 1)
    lane = Lane(sink, clock=by_hand)
    lane.put(record(0))
    for _ in range(FAILURES_MAX):
        assert lane.deliver()
    assert sink.steps == [0]
    found = lane.counts()
    assert (found.delivered, found.lost, found.resting) == (1, 0, False)


def test_a_sink_that_goes_on_raising_rests_and_is_tried_again(
    by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Raising(FAILURES_MAX)
    lane = Lane(sink, clock=by_hand)
    lane.put(record(0))
    with caplog.at_level(logging.WARNING):
        for _ in range(FAILURES_MAX - 1):
            assert lane.deliver()
        assert not lane.deliver()
        lane.put(record(1))
        assert not lane.deliver()
    assert sink.tries == FAILURES_MAX
    found = lane.counts()
    assert (found.lost, found.queued, found.resting) == (1, 1, True)
    assert "ConnectionError: nobody there" in found.last_error
    assert len(caplog.records) == 1
    assert "raising" in caplog.text
    by_hand.now += REST_SECONDS
    assert lane.deliver()
    assert sink.steps == [1]
    assert not lane.counts().resting


def test_a_sink_that_raises_never_reaches_the_trainer() -> None:
    metrics = Metrics([Raising(10**9, ZeroDivisionError("its own bug"))])
    for step in range(100):
        metrics.put(record(step))
    found = metrics.close(PATIENCE_S)["raising"]
    assert (found.delivered, found.resting) == (0, True)
    assert found.lost + found.queued == 100


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {**record(0), "metrics": None},
        {**record(0), "metrics": [1.0]},
        {**record(0), "metrics": {"loss": None}},
        {**record(0), "metrics": {"loss": "high"}},
        {**record(0), "metrics": {f"m{n}": 1.0 for n in range(VALUES_MAX + 1)}},
        {**record(0), "step": None},
        {key: value for key, value in record(0).items() if key != "run"},
    ],
    ids=[
        *("nothing", "no metrics", "a list", "no number", "a word", "too many", "no step"),
        "no run",
    ],
)
def test_what_is_no_record_is_dropped_alone(by_hand: ByHand, broken: dict[str, Json]) -> None:
    sink = Keeping()
    lane = Lane(sink, clock=by_hand)
    for shown in (record(1), broken, record(2)):
        lane.put(shown)
    assert lane.deliver()
    assert sink.steps == [1, 2]
    assert lane.counts().dropped == 1


def test_after_the_end_records_are_dropped_and_counted() -> None:
    sink = Keeping()
    metrics = Metrics([sink])
    metrics.put(record(0))
    metrics.close(PATIENCE_S)
    metrics.put(record(1))
    found = metrics.counts()["keeping"]
    assert (found.delivered, found.dropped, found.queued) == (1, 1, 0)


def test_without_a_thread_to_be_had_records_wait_within_their_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sink = Keeping()
    lane = Lane(sink, queue_max=2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for step in range(3):
            lane.put(record(step))
        assert (lane.counts().queued, lane.counts().dropped) == (2, 1)
        assert "can't start" in lane.counts().last_error
    lane.put(record(3))
    lane.close()
    assert lane.join(PATIENCE_S)
    assert sink.steps == [2, 3]


def _in_child(lane: Lane, sink: Keeping, answers: Any) -> None:
    lane.put(record(7))
    lane.close()
    answers.put((lane.join(PATIENCE_S), sink.steps))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_starts_anew_while_the_parents_sink_hangs() -> None:
    fork = multiprocessing.get_context("fork")
    answers, hanging = fork.Queue(), Hanging()
    lane = Lane(hanging)
    lane.put(record(0))
    assert hanging.entered.wait(PATIENCE_S)
    lane.put(record(1))
    # The child's copy of the sink must not hang: what it is given there is what is asked.
    hanging.let_go.set()
    with lane._lock:
        child = fork.Process(target=_in_child, args=(lane, hanging, answers))
        child.start()
    try:
        ended, steps = answers.get(timeout=PATIENCE_S)
        child.join(PATIENCE_S)
    finally:
        child.kill()
        child.join()
    lane.close()
    assert lane.join(PATIENCE_S)
    assert ended
    assert steps[-1:] == [7]
    assert hanging.steps == [0, 1]
