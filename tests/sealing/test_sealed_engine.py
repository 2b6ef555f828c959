"""Promise: with a codec no payload lies readable in the store, and everything else is as before."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.client.schedules import schedule_definition
from orchestrator.client.verifying import verify_chain
from orchestrator.core.errors import ApplicationError, PayloadSealed, RunNotFound, UsageError
from orchestrator.core.events import RunStarted, StepAttemptFailed, StepCompleted
from orchestrator.core.limits import INLINE_BYTES_MAX
from orchestrator.core.replay import replay
from orchestrator.core.resetting import Origin
from orchestrator.core.retry import Retry
from orchestrator.core.schedule import SCHEDULE_TYPE
from orchestrator.core.values import loads
from orchestrator.core.with_start import with_start
from orchestrator.engine.references import with_values
from orchestrator.payloads import PydanticCodec
from orchestrator.sealing.housekeeping import rotate_keys, shred
from orchestrator.sealing.keyring import Keyring
from orchestrator.store.ports import Kind, RunKey
from tests.engine.test_schedules import ID, made, minutes, started_ids
from tests.sealing.sealed_world import SECRET, SealedWorld, keyring


async def secretive(card: str) -> str:
    workflow.publish({"card": card})

    @workflow.on_query("card")
    def shown() -> str:
        return card

    charged = await workflow.step("charge", card, retry=Retry(attempts=2))
    told = await workflow.signal("told")
    below = await workflow.child("guarded", told)
    return f"{charged} {below}"


async def guarded(text: str) -> str:
    return f"guarded {text}"


async def failing(card: str) -> None:
    raise ApplicationError(f"{card} is refused", "Refused", details={"card": card})


async def ends() -> str:
    known = str(workflow.last_completion_result() or "")
    await workflow.signal("end")
    assert known in ("", SECRET * INLINE_BYTES_MAX)
    return SECRET * INLINE_BYTES_MAX


async def reader() -> list[int]:
    child = await workflow.child("ends")
    other = await workflow.external("far").result()
    await workflow.signal("end")
    return [len(child), len(other)]


@pytest.fixture
def world() -> SealedWorld:
    world = SealedWorld(secretive, guarded, failing)
    tries: list[str] = []

    @world.task
    def charge(card: str) -> str:
        tries.append(card)
        if len(tries) == 1:
            raise ApplicationError(f"{card} is busy")
        return f"charged {card}"

    return world


def run_to_its_end(world: SealedWorld) -> RunKey:
    key = world.start("secretive", SECRET)
    world.settle()
    assert not world.is_readable(), "while it runs"
    world.advance(60_000)
    world.settle()
    world.signal("told", f"told {SECRET}")
    world.settle()
    assert world.status() == "completed", world.row()
    return key


def events_stored(world: SealedWorld, key: RunKey) -> str:
    return " ".join(event.data.decode() for event in world.plain.read_history(key))


def test_no_payload_is_readable_at_any_moment_and_the_run_is_what_it_is_without_a_codec(
    world: SealedWorld,
) -> None:
    run_to_its_end(world)
    assert world.result() == f"charged {SECRET} guarded told {SECRET}"
    assert not world.is_readable()
    assert [args for _, args, _ in world.ran] == [[SECRET], [SECRET]]


def test_history_verifies_for_those_without_a_key_and_replays_for_those_with_it(
    world: SealedWorld,
) -> None:
    key = run_to_its_end(world)
    assert verify_chain(key, world.plain.read_history(key))
    assert verify_chain(key, world.store.read_history(key))
    replayed = replay(world.registry["secretive"], "w", 1, world.events())
    assert replayed.pending == []
    replayed.execution.close()


def test_structure_stays_readable(world: SealedWorld) -> None:
    key = run_to_its_end(world)
    stored = events_stored(world, key)
    for word in ('"type":"StepScheduled"', '"task":"charge"', '"signal":"told"', '"attempt":2'):
        assert word in stored


def test_orchestrator_that_begins_anew_opens_what_another_sealed(world: SealedWorld) -> None:
    world.start("secretive", SECRET)
    world.turn()
    world.restart()
    world.settle()
    world.restart()
    world.advance(60_000)
    world.settle()
    world.signal("told", "x")
    world.restart()
    world.settle()
    assert world.status() == "completed"


def test_failures_are_sealed_and_come_back_whole(world: SealedWorld) -> None:
    world.start("failing", SECRET)
    world.settle()
    assert world.status() == "failed"
    assert not world.is_readable()
    assert f"{SECRET} is refused" in world.row()["failure"]


def test_notes_of_failed_attempts_are_sealed(world: SealedWorld) -> None:
    run_to_its_end(world)
    (note,) = [event for event in world.events() if isinstance(event, StepAttemptFailed)]
    assert note.failure.message == f"{SECRET} is busy"


def test_queries_are_asked_and_answered_under_seal(world: SealedWorld) -> None:
    world.start("secretive", SECRET)
    world.settle()
    body: Any = {"query": "card", "args": [], "reply_to": "r1", "deadline_ms": 10**15}
    world.store.post("w", Kind.QUERY, body)
    world.settle()
    assert not world.is_readable()
    assert world.store.wait_for_answer("w", "r1", wait_ms=0) == {"ok": SECRET}


def test_large_results_are_sealed_where_they_lie(world: SealedWorld) -> None:
    large = SECRET * (INLINE_BYTES_MAX // len(SECRET) + 1)
    ref = world.blobs.put(large)
    assert not world.is_readable()
    assert world.blobs.get(ref) == large


def test_shredded_run_is_unreadable_for_good_and_verifies_as_before(world: SealedWorld) -> None:
    key = run_to_its_end(world)
    before = world.plain.read_history(key)
    done = shred(world.store, world.blobs, world.codec, "w", 0)
    assert done.was_readable
    assert world.plain.read_history(key) == before
    assert verify_chain(key, world.store.read_history(key))
    assert "result" not in world.row()
    completed = [event for event in world.events() if isinstance(event, StepCompleted)]
    assert [event.result for event in completed] == [None]
    assert not shred(world.store, world.blobs, world.codec, "w", 1).was_readable
    with pytest.raises(PayloadSealed, match="shredded"):
        world.codec.encode(b"1", scope="w.1")


def test_other_runs_stay_readable_when_one_is_shredded(world: SealedWorld) -> None:
    run_to_its_end(world)
    world.start("guarded", "other", id="v")
    world.settle()
    shred(world.store, world.blobs, world.codec, "w", 0)
    assert world.result("v") == "guarded other"
    assert world.result("w.1.child-1") == f"guarded told {SECRET}"


def test_blobs_of_a_shredded_run_are_deleted(world: SealedWorld) -> None:
    @world.task
    def charge(card: str) -> Any:
        return world.blobs.put(SECRET * INLINE_BYTES_MAX).as_json()

    world.start("secretive", SECRET)
    world.settle()
    world.signal("told", "x")
    world.settle()
    assert world.stored_blobs.values
    assert shred(world.store, world.blobs, world.codec, "w", 0).blobs >= 1
    assert not world.stored_blobs.values


def test_what_a_run_got_from_others_stays_when_those_are_shredded(world: SealedWorld) -> None:
    world.deploy(reader, ends)
    world.start("ends", id="far")
    world.start("reader")
    world.settle()
    for other in ("w.1.child-1", "far"):
        world.signal("end", id=other)
    world.settle()
    for other in ("w.1.child-1", "far"):
        shred(world.store, world.blobs, world.codec, other, 0)
    world.restart()
    world.signal("end")
    world.settle()
    assert world.result() == [len(SECRET) * INLINE_BYTES_MAX] * 2


def test_last_result_is_sealed_and_stays_when_the_runs_before_are_shredded(
    world: SealedWorld,
) -> None:
    world.deploy(ends, schedule_definition(PydanticCodec()))
    world.start(SCHEDULE_TYPE, "s", made("ends").as_json(PydanticCodec()), id=ID)
    world.settle()
    for _ in range(3):
        minutes(world, 1)
        assert not world.is_readable()
        world.signal("end", id=started_ids(world)[-1])
        world.settle()
        for done in started_ids(world)[:-1]:
            shred(world.store, world.blobs, world.codec, done, 0)
    minutes(world, 1)
    run_id = started_ids(world)[-1]
    shred(world.store, world.blobs, world.codec, started_ids(world)[-2], 0)
    world.restart()
    world.signal("end", id=run_id)
    world.settle()
    assert world.status(run_id) == "completed"
    minutes(world, 1)
    assert len(started_ids(world)) == 5
    started = world.events(run_id)[0]
    assert isinstance(started, RunStarted)
    assert started.has_last_result


def test_failure_that_a_run_was_told_of_is_sealed_and_blank_once_it_is_shredded(
    world: SealedWorld,
) -> None:
    world.start("failing", SECRET, retry=Retry(attempts=2).as_json())
    for _ in range(3):
        world.settle()
        assert not world.is_readable()
        world.advance(60_000)
    told = world.events("w", 2)[0]
    assert isinstance(told, RunStarted)
    assert told.last_failure["message"] == f"{SECRET} is refused"
    shred(world.store, world.blobs, world.codec, "w", 2)
    blank = world.events("w", 2)[0]
    assert isinstance(blank, RunStarted)
    assert (blank.last_result, blank.last_failure) == (None, {})


def test_open_run_is_not_shredded(world: SealedWorld) -> None:
    world.start("secretive", SECRET)
    world.settle()
    with pytest.raises(UsageError, match="is running: without its payloads"):
        shred(world.store, world.blobs, world.codec, "w", 0)
    with pytest.raises(RunNotFound):
        shred(world.store, world.blobs, world.codec, "nobody", 0)


def test_rotated_keys_open_everything_with_the_new_master_key_alone(world: SealedWorld) -> None:
    key = run_to_its_end(world)
    first, second = world.codec._wrapper, keyring("k2")
    both = Keyring({"k1": b"1" * 32, "k2": b"2" * 32}, current="k2")
    both._keys = {"k1": first._keys["k1"], "k2": second._keys["k2"]}  # type: ignore[attr-defined]
    world.codec._wrapper = both
    rotated, known = rotate_keys(world.store, world.codec)
    assert rotated == known == 3  # two runs, and what is on its way
    assert rotate_keys(world.store, world.codec) == (0, 3)
    world.codec._wrapper = second
    world.codec._kept.clear()
    assert SECRET in world.store.read_history(key)[0].data.decode()
    world.codec._wrapper = first
    world.codec._kept.clear()
    assert SECRET not in world.store.read_history(key)[0].data.decode()


def test_message_that_cannot_be_opened_stays_and_the_others_go_on(
    world: SealedWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.start("secretive", SECRET)
    world.settle()
    forged: Any = {"signal": "told", "signal_id": "f", "$sealed": {"scope": "transit", "data": ""}}
    world.plain.post("w", Kind.SIGNAL, forged)
    world.advance(60_000)
    world.settle()
    world.signal("told", "x")
    world.settle()
    assert world.status() == "completed"
    assert "stays where it is" in caplog.text


def test_event_of_one_run_is_not_taken_for_another_ones(world: SealedWorld) -> None:
    sealed = world.codec.encode(b"1", scope="w.1")
    world.codec.encode(b"1", scope="w.2")
    with pytest.raises(PayloadSealed, match="not what was sealed"):
        world.codec.decode(sealed, scope="w.2")


def test_messages_with_a_start_updates_and_runs_that_go_on_are_sealed_too() -> None:
    async def going(card: str, laps: int = 2) -> str:
        @workflow.on_update("tell")
        async def tell(more: str) -> str:
            return f"{card} {more}"

        said = await workflow.signal("told")
        if laps:
            workflow.upsert_memo({"card": card})
            workflow.continue_as_new(card, laps - 1)
        return f"{card} {said}"

    world = SealedWorld(going)
    start: Any = {"workflow": "going", "args": [SECRET], "kwargs": {}, "request_id": "s"}
    told: Any = {"signal": "told", "signal_id": "1", "payload": SECRET, "with_start": start}
    world.store.start("w", request_id="s", body=start, message=(Kind.SIGNAL, told))
    assert not world.is_readable(), "in the inbox"
    for number in range(3):
        world.update("tell", f"{SECRET} {number}")
        world.settle()
        assert not world.is_readable(), number
        if number < 2:
            world.signal("told", SECRET)
        world.settle()
        assert not world.is_readable(), number
    assert world.result() == f"{SECRET} {SECRET}"
    assert world.row()["run"] == "3"


def test_input_of_a_run_that_is_put_off_is_sealed_while_it_lies_in_the_row(
    world: SealedWorld,
) -> None:
    world.start("guarded", SECRET, start_delay_ms=60_000)
    world.settle()
    row = world.plain.find_row("w")
    assert row is not None
    assert row["start"]
    assert not world.is_readable()
    world.restart()
    world.advance(60_000)
    world.settle()
    assert world.result() == f"guarded {SECRET}"


async def one_at_a_time(card: str) -> int:
    async with workflow.mutex("account-42") as permit:
        await workflow.rate_limit("charges", 1, timedelta(seconds=1))
        await workflow.step("charge_quietly", card)
        return permit.fence


def test_permits_go_round_under_seal_and_their_keys_stay_readable_for_operators() -> None:
    world = SealedWorld(one_at_a_time)
    world.task(charge_quietly)
    for id in ("a", "b"):
        world.start("one_at_a_time", SECRET, id=id)
    for _ in range(4):
        world.settle()
        world.advance(1_000)
    assert [world.status(id) for id in ("a", "b")] == ["completed", "completed"]
    assert int(str(world.result("a"))) < int(str(world.result("b")))
    stored = events_stored(world, RunKey(workflow_id="a", run=1))
    assert "account-42" in stored
    assert not world.is_readable()


def charge_quietly(card: str) -> None:
    """Say nothing of the card."""


def test_headers_and_a_start_that_goes_with_a_message_are_sealed(world: SealedWorld) -> None:
    start: dict[str, Any] = {
        "workflow": "secretive",
        "args": [SECRET],
        "kwargs": {},
        "headers": {"trace": SECRET},
    }
    told = {"signal": "told", "signal_id": "s", "payload": SECRET}
    both = with_start("r", start, told)
    for _ in range(2):
        world.store.start("w", request_id="r", body=both.start, message=(Kind.SIGNAL, both.message))
        assert not world.is_readable(), "in the inbox"
    world.settle()
    world.advance(60_000)
    world.settle()
    assert world.status() == "completed", world.row()
    assert not world.is_readable()
    started = world.events("w.1.child-1")[0]
    assert isinstance(started, RunStarted)
    assert started.headers == {"trace": SECRET}


def test_where_streams_stand_is_readable_and_what_a_reseed_brought_is_not() -> None:
    pytest.importorskip("numpy", reason="numpy is not installed")

    async def draws() -> float:
        rng = workflow.rng("luck")
        await workflow.signal("go")
        return float(rng.random())

    world = SealedWorld(draws)
    key = world.start("draws")
    world.signal("__reseed", {"seed": 0xC0FFEE})
    world.signal("go")
    world.settle()
    assert world.status() == "completed"
    stored = [loads(event.data) for event in world.plain.read_history(key)]
    (drawn,) = (one for one in stored if isinstance(one, dict) and one["type"] == "GeneratorDrawn")
    assert drawn.keys() == {"type", "at_ms", "name", "words", "digest"}
    assert str(0xC0FFEE) not in events_stored(world, key)


def test_copied_history_is_sealed_for_its_own_run_and_a_shredded_one_is_no_origin(
    world: SealedWorld,
) -> None:
    async def told(card: str) -> str:
        charged = await workflow.step("charge", card, retry=Retry(attempts=2))
        large = await workflow.step("large", SECRET)
        return f"{charged} {len(large)} {await workflow.signal('told')}"

    world.deploy(told)
    world.tasks["large"] = lambda text: world.blobs.put(text * 10_000).as_json()
    world.start("told", SECRET)
    world.settle()
    world.advance(60_000)
    world.settle()
    world.signal("told", f"told {SECRET}")
    world.settle()
    for event in (8, 1):
        world.start("told", id=f"fork-{event}", **origin_of(world, event))
    world.settle()
    world.advance(60_000)
    world.settle()
    assert not world.is_readable()
    expected = f"charged {SECRET} {10_000 * len(SECRET)} told {SECRET}"
    assert [world.result(f"fork-{event}") for event in (8, 1)] == [expected] * 2
    shred(world.store, world.blobs, world.codec, "w", 0)
    history = [with_values(event, world.blobs) for event in world.events("fork-8")]
    replay(world.registry["told"], "fork-8", 1, history).execution.close()
    world.start("told", id="late", **origin_of(world, 6))
    world.settle()
    assert world.status("late") == "terminated"
    assert "no key opens it" in world.row("late")["failure"]


def origin_of(world: SealedWorld, event: int) -> dict[str, Any]:
    """Return what a start says that goes on from "w"."""
    head = world.store.read_history(RunKey(workflow_id="w", run=1))[event - 1].head
    origin = Origin(id="w", run=1, event=event, head=head, signals=True)
    return {"origin": origin.as_json()}
