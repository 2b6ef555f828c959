"""Promise: what durable engines get wrong elsewhere goes right here; what needs no process.

Each row is a fault that was measured, or read in the source, in an engine of this kind.  Tests
marked A stand in tests/acceptance, in files named like this one, those marked with a directory in
that directory, the others in this one.  The last test checks that all of them exist.

Time
  a sleep ends up to a second early
      test_no_sleep_ends_a_millisecond_early, A test_sleeps_are_whole_in_a_row_and_side_by_side
  any wake-up ends every sleep, or every wait, that is pending
      test_sleeps_side_by_side_end_each_at_its_own_time,
      test_a_sleep_beside_a_step_is_not_ended_by_it
  sleeps with nothing between them never end
      test_sleeps_in_a_row_each_last_their_whole_time,
      test_two_hundred_sleeps_with_nothing_between_them_all_end
  a wake-up that is late or doubled shortens the next sleep
      test_a_wake_up_that_comes_late_or_twice_ends_one_sleep
  nothing wakes a run whose wait for a signal timed out
      test_no_signal_in_time_is_noticed_to_the_millisecond
  time-outs are accepted and not applied
      engine test_each_of_the_four_time_outs_ends_a_step,
      test_a_time_out_around_everything_ends_a_run_in_time,
      A test_a_body_beyond_its_time_out_is_stopped_and_its_step_ends_in_time
  the wait before a retry is not kept
      test_no_retry_comes_before_the_instant_that_was_recorded,
      engine test_a_failure_may_name_the_delay_of_the_next_attempt,
      worker test_celery_retry_becomes_a_failure_with_its_delay
  the clocks of two machines are compared
      A test_clocks_that_are_hours_apart_change_nothing

Identity
  the same step with the same arguments, three times, runs once
      test_the_same_step_three_times_runs_three_times
  two starts at once with one id are two runs
      A test_starts_at_once_with_one_id_open_one_run, store test_of_many_racing_starts_one_wins
  a run cannot be seen right after its start
      A test_a_run_is_seen_as_soon_as_it_is_started
  changed code replays to an end, unnoticed
      core test_an_added_step_is_refused,
      acceptance test_blocked_run_shows_why_and_goes_on_with_fitting_code

Recovery
  a crash anywhere but in the first step loses the run
      A test_every_kind_of_work_survives_its_worker,
      A test_every_kind_of_work_survives_its_orchestrator,
      A test_every_kind_of_work_survives_both
  sleepers are messages in a worker's hands, and die with it
      A test_sleepers_are_held_by_nobody_and_survive_everything
  a dead worker's step waits for the broker's visibility time-out
      acceptance test_worker_killed_during_a_body_costs_one_attempt,
      A test_messages_in_the_hands_of_a_killed_worker_are_sent_again
  a step longer than that time-out runs twice
      A test_a_step_longer_than_the_visibility_time_out_and_its_claim_runs_once
  stopping an idle worker repeats the steps of its neighbour
      A test_an_idle_worker_that_stops_doubles_nothing
  a restart under load loses or doubles
      A test_a_worker_replaced_under_load_loses_and_doubles_nothing
  a history is too long to be replayed in time, for ever
      test_a_replay_may_take_longer_than_one_activation,
      test_a_replay_that_outlasts_a_lease_keeps_it,
      test_replays_that_outlast_a_lease_together_lose_none
  the engine's restart repeats steps that are running
      A test_every_kind_of_work_survives_its_orchestrator
  a busy worker is taken for dead
      worker test_claim_lives_while_the_body_is_deep_in_c_code
  a cancellation reaches only bodies that heartbeat
      worker test_cancelled_step_is_interrupted_though_it_never_heartbeats
  any process can drop another one's lock
      store test_release_under_an_old_token_releases_nothing
  a signal is acknowledged, and the run never hears of it
      engine test_what_arrives_while_no_orchestrator_lives_waits_for_one,
      engine test_a_signal_for_a_run_that_just_ended_is_kept_with_the_reason

Cost and safety
  each step costs more than the one before
      A test_a_step_costs_the_same_in_a_long_run_as_in_a_short_one,
      A test_nothing_is_read_again_while_a_run_goes_on
  settings of a task break its steps
      A test_settings_of_a_celery_task_do_not_disturb_its_steps,
      A test_a_late_acknowledged_step_whose_process_dies_is_attempted_once_more
  what is too large is tried for ever
      worker test_result_beyond_every_bound_is_a_failure_for_good
  what is not JSON is pickled
      architecture test_nothing_reads_or_writes_a_format_that_runs_code,
      worker test_result_without_json_form_is_a_failure_for_good_that_did_its_work
  passwords travel in messages
      A test_no_password_is_written_anywhere
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.limits import LEASE_TTL_MS
from orchestrator.engine.run import LiveRun
from orchestrator.engine.watchdog import Watchdog
from tests.engine.test_where_others_fail_in_time import in_a_row, timers
from tests.engine.world import World

TESTS = Path(__file__).parents[1]


# --- identity -------------------------------------------------------------------------------------


async def three_times() -> list[Any]:
    return [await workflow.step("count", "same") for _ in range(3)]


@pytest.mark.parametrize("is_killed", [False, True], ids=["undisturbed", "killed"])
def test_the_same_step_three_times_runs_three_times(*, is_killed: bool) -> None:
    world = World(three_times)
    world.tasks["count"] = lambda _word: len(world.ran)
    world.start("three_times")
    for _ in range(4):
        world.node.turn()
        world.work()
        if is_killed:
            world.restart()
    world.settle()
    assert world.result() == [1, 2, 3]
    assert [key for _, _, key in world.ran] == ["w.1.1", "w.1.2", "w.1.3"]


# --- long histories -------------------------------------------------------------------------------


async def laborious(count: int) -> int:
    """Work a little at each turn, as decoding a large model does."""
    for number in range(count):
        await workflow.step("noop", number)
        sum(range(150_000))
    return int(await workflow.signal("last"))


def test_a_replay_may_take_longer_than_one_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn is far below the limit, and all of them together are far above it."""
    world = World(laborious)
    world.tasks["noop"] = lambda number: number
    world.start("laborious", 60)
    world.settle()
    watchdog = Watchdog(limit_ms=60)
    monkeypatch.setattr("tests.engine.world.unwatched", watchdog)
    try:
        world.restart()
        world.signal("last", 7)
        world.settle()
    finally:
        watchdog.close()
    assert "RunBlocked" not in world.names()
    assert world.result() == 7


def test_a_replay_that_outlasts_a_lease_keeps_it() -> None:
    world = World(in_a_row)
    world.start("in_a_row", *[0.01] * 80)
    for _ in range(79):
        world.settle()
        world.advance(10)
    world.settle()
    assert len(timers(world)) == 79
    world.restart()

    def slow(_subject: str, activate: Any) -> Any:
        world.clock.advance(100)
        return activate()

    tools = replace(world.node.owner._tools, watch=slow)
    world.node.owner._tools = tools
    world.node.turn()
    assert len(timers(world)) == 80, "its commit was not refused"
    assert world.status() == "completed"
    assert LEASE_TTL_MS < 80 * 100


async def waiting() -> str:
    return str(await workflow.signal("say"))


def test_replays_that_outlast_a_lease_together_lose_none(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(waiting)
    ids = [f"w{number}" for number in range(90)]
    for id in ids:
        world.start("waiting", id=id)
    world.settle()
    world.restart()
    for id in ids:
        world.signal("say", id, id=id)
    load = LiveRun.load

    def slow(run: LiveRun, *args: Any, **kwargs: Any) -> None:
        world.clock.advance(100)
        load(run, *args, **kwargs)

    monkeypatch.setattr(LiveRun, "load", slow)
    world.node.turn()
    assert len(ids) * 100 > LEASE_TTL_MS
    assert [world.status(id) for id in ids] == ["completed"] * len(ids)


# --- the table ------------------------------------------------------------------------------------


def test_every_test_that_the_table_names_exists() -> None:
    rows = re.findall(r"(?:\b([a-zA]+) )?\b(test_\w+)", __doc__ or "")
    assert len(rows) > 35
    for place, name in rows:
        folder = {"": "engine", "A": "acceptance"}.get(place, place)
        files = "test_where_others_fail*.py" if place in ("", "A") else "test_*.py"
        code = "\n".join(path.read_text() for path in (TESTS / folder).glob(files))
        assert f"def {name}(" in code, f"{folder} has no {name}"
