"""The outcome of a step by its token: what each handle sends, and what it says when it is late."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from orchestrator.app import Orchestrator
from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.errors import (
    ApplicationError,
    InvalidPayload,
    PayloadTooLarge,
    StepCancelled,
    StepClosed,
)
from orchestrator.core.failure import Failure
from orchestrator.core.limits import INLINE_BYTES_MAX
from orchestrator.store.ports import ClaimAnswer, Kind
from orchestrator.store.redis import RedisStore
from orchestrator.store.step_tokens import encode_token
from tests.servers import valkey_server, valkey_url
from tests.store.world import LONG_MS, World, memory_world

__all__ = ["valkey_server", "valkey_url"]


@pytest.fixture
def world() -> World:
    return memory_world(direct=True)


@pytest.fixture
def orc(world: World, tmp_path: Any) -> Iterator[Orchestrator]:
    app = Celery("shop", broker="memory://", set_as_current=False)
    yield Orchestrator(app, store=world.store, blobs=tmp_path)
    app.close()


def left(world: World, id: str = "order-42", **parts: int) -> str:
    """Return the token of an attempt that its worker left."""
    key = world.send(world.open_run(id), **parts)
    world.store.claim(key, "w/1", ttl_ms=LONG_MS)
    assert world.store.detach(key, "w/1") is ClaimAnswer.GRANTED
    return encode_token(key, "w/1")


def test_step_is_completed_with_a_result_in_its_json_form(orc: Orchestrator, world: World) -> None:
    orc.step(left(world)).complete({"paid": True})
    assert world.bodies(Kind.OUTCOME) == [
        {"step": 1, "attempt": 1, "kind": "completed", "result": {"paid": True}}
    ]


def test_large_result_becomes_a_blob(orc: Orchestrator, world: World) -> None:
    orc.step(left(world)).complete("x" * (INLINE_BYTES_MAX + 1))
    ref = find_blob_ref(world.bodies(Kind.OUTCOME)[0]["result"])
    assert ref is not None
    assert orc.blobs.get(ref) == "x" * (INLINE_BYTES_MAX + 1)


def test_result_that_has_no_json_form_is_the_caller_s_at_once(
    orc: Orchestrator, world: World
) -> None:
    handle = orc.step(left(world))
    with pytest.raises(InvalidPayload, match="result does not validate"):
        handle.complete(object())
    assert world.bodies(Kind.OUTCOME) == []
    handle.complete(1)


def test_attempt_fails_with_an_error_or_a_failure(orc: Orchestrator, world: World) -> None:
    orc.step(left(world, "a")).fail(ApplicationError("no money", "Poor", non_retryable=True))
    orc.step(left(world, "b")).fail(Failure(type="Poor", message="no money"))
    found: list[Any] = [world.bodies(Kind.OUTCOME, id)[0]["failure"] for id in ("a", "b")]
    assert [failure["type"] for failure in found] == ["Poor", "Poor"]
    assert found[0]["non_retryable"]
    with pytest.raises(InvalidPayload, match="failure"):
        orc.step(left(world, "c")).fail(Failure(type="", message="", details=object()))  # type: ignore[arg-type]


def test_heartbeat_keeps_details_and_tells_that_the_step_is_not_wanted(
    orc: Orchestrator, world: World
) -> None:
    handle = orc.step(left(world))
    handle.heartbeat({"at": 3})
    run = handle.key.run_key
    assert world.store.read_step(run, 1)["details"] == '{"at":3}'
    with pytest.raises(PayloadTooLarge):
        handle.heartbeat("x" * (INLINE_BYTES_MAX + 1))
    with pytest.raises(InvalidPayload, match="details"):
        handle.heartbeat(object())
    world.commit(run, ["cancel"], steps_cancelled=[1])
    with pytest.raises(StepCancelled, match="no longer wants"):
        handle.heartbeat()
    handle.cancelled()
    assert world.bodies(Kind.OUTCOME)[0]["kind"] == "cancelled"


def test_first_outcome_counts_and_a_later_one_changes_nothing(
    orc: Orchestrator, world: World
) -> None:
    handle = orc.step(left(world))
    handle.complete(1)
    handle.complete(1)
    assert world.bodies(Kind.LATE_OUTCOME) == []
    with pytest.raises(StepClosed):
        handle.complete(2)
    with pytest.raises(StepClosed):
        handle.fail(ApplicationError("no"))
    assert [body["result"] for body in world.bodies(Kind.OUTCOME)] == [1]
    assert world.bodies(Kind.LATE_OUTCOME) == [{"step": 1, "attempt": 1, "kind": "completed"}]


def test_large_result_and_error_are_known_again(orc: Orchestrator, world: World) -> None:
    large, failing = orc.step(left(world, "a")), orc.step(left(world, "b"))
    for _ in range(2):
        large.complete("x" * (INLINE_BYTES_MAX + 1))
    error = ValueError("no")
    for _ in range(2):
        try:
            raise error  # Each time it has come through more frames.
        except ValueError as raised:
            failing.fail(raised)
    assert [len(world.bodies(Kind.OUTCOME, id)) for id in "ab"] == [1, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda handle: handle.complete(1),
        lambda handle: handle.fail(ValueError("no")),
        lambda handle: handle.cancelled(),
        lambda handle: handle.heartbeat(),
    ],
    ids=["complete", "fail", "cancelled", "heartbeat"],
)
def test_attempt_that_was_given_up_takes_nothing(
    orc: Orchestrator, world: World, call: Callable[[Any], None]
) -> None:
    handle = orc.step(left(world))
    world.commit(handle.key.run_key, ["late"], unposted=[handle.key], steps_resting=[1])
    with pytest.raises(StepClosed, match=r"order-42 run 1: nobody waits for attempt 1 at step 1"):
        call(handle)
    assert world.bodies(Kind.OUTCOME) == []


@pytest.mark.parametrize(
    "token", ["", "order-42", "step1.", "step1.AAAA", "step1.WyJhIl0", "step1.é", "step1.W"]
)
def test_text_that_is_no_token_is_refused_at_once(orc: Orchestrator, token: str) -> None:
    with pytest.raises(InvalidPayload, match="token of a step"):
        orc.step(token)


def test_token_of_an_unknown_run_is_refused(orc: Orchestrator, world: World) -> None:
    key = world.send(world.open_run())
    with pytest.raises(StepClosed):
        orc.step(encode_token(key, "guessed/1")).complete(1)


@pytest.mark.redis
def test_both_clients_do_the_same_on_a_server(valkey_url: str, tmp_path: Any) -> None:
    app = Celery("shop", broker=valkey_url, set_as_current=False)
    orc = Orchestrator(app, blobs=tmp_path)
    assert isinstance(orc.store, RedisStore)
    world = World(orc.store, lambda ms: None)

    async def main() -> None:
        handle = orc.aio.step(left(world, "a", heartbeat_ms=10_000))
        await handle.heartbeat({"at": 1})
        await handle.complete("yes")
        with pytest.raises(InvalidPayload):
            orc.aio.step("nothing")
        await orc.aio.step(left(world, "b")).fail(ValueError("no"))
        await orc.aio.step(left(world, "c")).cancelled()
        await orc.aio.close()

    asyncio.run(main())
    orc.step(left(world, "d")).complete("yes")
    kinds = {
        id: [
            entry.body["kind"]
            for entry in world.inbox(id)
            if entry.kind is Kind.OUTCOME and entry.workflow_id == id
        ]
        for id in "abcd"
    }
    assert kinds == {"a": ["completed"], "b": ["failed"], "c": ["cancelled"], "d": ["completed"]}
    orc.close()
