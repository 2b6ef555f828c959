"""What people write to ``orc:signals`` reaches its run, or is kept with the reason (P1)."""

from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import workflow
from orchestrator.core import events as e
from orchestrator.core.limits import PAYLOAD_BYTES_MAX
from orchestrator.engine.door import pass_on
from tests.engine.world import World, definition


class Approval(BaseModel):
    approved: bool
    by: str


async def asking() -> str:
    approval = await workflow.signal("approve", Approval)
    return str(approval.by)


def asking_world(**options: Any) -> World:
    world = World(definition(asking, **options))
    world.start("asking")
    world.settle()
    return world


def write(world: World, **fields: str) -> None:
    world.store.write_door(fields)
    pass_on(world.store)
    world.settle()
    assert not world.store.read_door(count=10)


GOOD = '{"approved": true, "by": "ana"}'


def test_a_line_in_the_door_becomes_a_signal() -> None:
    world = asking_world()
    write(world, workflow="w", signal="approve", payload=GOOD)
    assert world.result() == "ana"


def test_a_line_that_is_passed_on_twice_is_one_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    world = asking_world()
    world.store.write_door({"workflow": "w", "signal": "note", "payload": "1"})
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "ack_door", lambda ids: None)
        pass_on(world.store)
    pass_on(world.store)
    world.settle()
    assert world.names().count("SignalReceived") == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{broken", "not JSON"),
        ('"' + "x" * PAYLOAD_BYTES_MAX + '"', "at most"),
        ('{"lr": NaN}', "NaN is no JSON"),
        ("1e999", "larger than any float"),
        (r'"\ud800"', "valid Unicode"),
        ("[" * 100_000, "inside each other"),
        ("[" * 990 + "]" * 990, "inside each other"),
    ],
    ids=["broken", "oversized", "nan", "huge", "surrogate", "open", "deep"],
)
def test_a_payload_that_cannot_be_read_is_told_of_in_the_runs_history(
    payload: str, reason: str
) -> None:
    world = asking_world()
    write(world, workflow="w", signal="approve", payload=payload)
    (rejected,) = [x for x in world.events() if isinstance(x, e.SignalRejected)]
    assert reason in rejected.reason
    write(world, workflow="w", signal="approve", payload=GOOD)
    assert world.result() == "ana"


def test_declared_signals_refuse_unknown_names_and_payloads_that_do_not_validate() -> None:
    world = asking_world(signals={"approve": Approval})
    write(world, workflow="w", signal="aprove", payload=GOOD)
    write(world, workflow="w", signal="approve", payload='{"approved": "perhaps", "by": "secret"}')
    rejected = [x for x in world.events() if isinstance(x, e.SignalRejected)]
    assert "approve" in rejected[0].reason
    assert "approved" in rejected[1].reason
    assert "secret" not in rejected[1].reason
    write(world, workflow="w", signal="approve", payload=GOOD)
    assert world.result() == "ana"


def test_undeclared_signals_are_validated_when_the_workflow_asks_and_it_waits_on() -> None:
    world = asking_world()
    write(world, workflow="w", signal="approve", payload='{"approved": "perhaps"}')
    assert world.status() == "running"
    (refused,) = [x for x in world.events() if isinstance(x, e.SignalRefused)]
    assert "by" in refused.reason
    write(world, workflow="w", signal="approve", payload=GOOD)
    assert world.result() == "ana"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"workflow": "nobody", "signal": "approve"}, "no run has this id"),
        ({"workflow": "w"}, "fields workflow and signal"),
        ({"text": "hello"}, "fields workflow and signal"),
    ],
    ids=["unknown run", "no signal", "nonsense"],
)
def test_a_line_that_no_run_can_take_is_kept_with_the_reason(
    fields: dict[str, str], reason: str
) -> None:
    world = asking_world()
    write(world, **fields, payload='"secret"')
    (rejected,) = world.store.rejected
    assert reason in rejected["reason"]
    assert "secret" not in str(rejected)


def test_a_line_for_a_run_that_has_ended_is_kept_with_the_reason() -> None:
    world = asking_world()
    write(world, workflow="w", signal="approve", payload=GOOD)
    write(world, workflow="w", signal="approve", payload=GOOD)
    (rejected,) = world.store.rejected
    assert "ended" in rejected["reason"]


@pytest.mark.parametrize("field", ["workflow", "signal", "id"])
def test_a_field_beyond_its_bound_is_kept_with_the_reason(field: str) -> None:
    world = asking_world()
    line = {"workflow": "w", "signal": "approve", "payload": GOOD, field: "x" * 900_000}
    write(world, **line)
    assert f"field {field} has more than" in world.store.rejected[-1]["reason"]
    write(world, workflow="w", signal="approve", payload=GOOD)
    assert world.result() == "ana"


def test_a_line_that_nobody_foresaw_holds_up_none_behind_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = asking_world()
    post = world.store.post

    def failing(workflow_id: str, *args: Any, **kwargs: Any) -> Any:
        if workflow_id == "odd":
            raise OverflowError("nobody foresaw this")
        return post(workflow_id, *args, **kwargs)

    monkeypatch.setattr(world.store, "post", failing)
    world.store.write_door({"workflow": "odd", "signal": "approve"})
    write(world, workflow="w", signal="approve", payload=GOOD)
    assert world.result() == "ana"
    assert world.store.rejected[-1]["reason"] == "it could not be passed on: OverflowError"
    assert "it could not be passed on" in caplog.text
