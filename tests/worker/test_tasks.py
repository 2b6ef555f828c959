"""Promise: tasks stay what they are; their arguments are converted where JSON cannot carry them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from pydantic import BaseModel

from orchestrator import step
from orchestrator.blobs import DirectoryBlobs
from orchestrator.core.errors import InvalidPayload, StoreUnavailable
from orchestrator.payloads import PydanticCodec
from orchestrator.store.ports import AttemptKey
from orchestrator.worker import install, recommended_settings
from orchestrator.worker.arguments import load_arguments
from orchestrator.worker.patience import Patience
from orchestrator.worker.settings import find_harmful


class Order(BaseModel):
    id: str


@dataclass
class Point:
    x: int


def load(function: Any, *args: Any, **kwargs: Any) -> Any:
    return load_arguments(
        function, list(args), kwargs, blobs=DirectoryBlobs("unused"), codec=PydanticCodec()
    )


def test_only_what_json_cannot_carry_is_converted() -> None:
    def body(  # noqa: PLR0913
        order: Order, orders: list[Order], due: date | None, point: Point, price: Decimal,
        count: int, note: str, odd: "Mapping[str, int]", *more: Order, **extra: Order,
    ) -> None:  # fmt: skip
        raise AssertionError

    args, kwargs = load(
        body, {"id": "a"}, [{"id": "b"}], "2026-01-02", {"x": 1}, "1.10", "not an int", 5, 6,
        {"id": "c"}, more={"id": "d"},
    )  # fmt: skip
    assert args == [
        Order(id="a"), [Order(id="b")], date(2026, 1, 2), Point(1), Decimal("1.10"),
        "not an int", 5, 6, Order(id="c"),
    ]  # fmt: skip
    assert kwargs == {"more": Order(id="d")}


def test_annotation_for_type_checkers_alone_converts_nothing() -> None:
    def body(order: "OnlyForCheckers") -> None:  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError

    assert load(body, {"id": "a"}) == ([{"id": "a"}], {})


def test_refused_argument_is_named() -> None:
    def body(first: int, order: Order) -> None:
        raise AssertionError

    with pytest.raises(InvalidPayload, match=r"argument 2 does not validate: id: Field required"):
        load(body, 1, {})
    with pytest.raises(InvalidPayload, match=r"argument order does not validate"):
        load(body, 1, order={})


class Counting(Task):
    abstract = True
    calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        type(self).calls += 1
        return super().__call__(*args, **kwargs)


class FakeProtocol:
    """Tells what it was asked to run, and runs it."""

    store = None

    def __init__(self) -> None:
        self.works: list[Any] = []

    def run(self, work: Any) -> Any:
        self.works.append(work)
        info = step.StepInfo(
            workflow_id=work.key.workflow_id, workflow="", run=work.key.run, step=work.key.step,
            attempt=work.key.attempt, idempotency_key="",
        )  # fmt: skip
        with step.running(step.RunningStep(info, lambda details: True)):
            return work.call(1)


HEADER = {"workflow": "order", "run": 1, "step": 2, "attempt": 3, "key": "", "args": "[[1],{}]"}


def trace(task: Any, headers: dict[str, Any] | None = None) -> Any:
    """Run a task as a worker does."""
    from celery.app.trace import build_tracer

    tracer = build_tracer(task.name, task, app=task.app, propagate=True)
    request = {"id": "1", "ignore_result": True, "delivery_info": {}, **(headers or {})}
    return tracer("1", [5] if not headers else [], {}, request).retval


@pytest.fixture
def shop() -> tuple[Celery, FakeProtocol]:
    app = Celery("shop", broker="memory://", set_as_current=False)
    protocol = FakeProtocol()
    install(app, lambda: protocol)  # type: ignore[arg-type,return-value]
    install(app, lambda: pytest.fail("the second installation counts"))
    return app, protocol


@pytest.mark.parametrize("base", [None, Counting], ids=["plain", "own call"])
def test_task_is_a_step_with_our_header_and_itself_without(
    shop: tuple[Celery, FakeProtocol], base: Any
) -> None:
    app, protocol = shop

    @app.task(name="double", base=base, bind=True, shared=False)
    def double(self: Any, value: int) -> int:
        # The body may call its own function again: that is no second step.
        return self.run(value - 10) if value > 10 else 2 * value

    app.finalize()
    assert double(4) == 8
    assert trace(double) == 10
    assert protocol.works == []
    assert trace(double, {"orc": HEADER}) == 2
    (work,) = protocol.works
    assert work.key == AttemptKey(workflow_id="order", run=1, step=2, attempt=3)
    assert work.task == "double"
    if base is not None:
        assert double.calls >= 1


def test_task_registered_late_is_wrapped_when_the_worker_starts(
    shop: tuple[Celery, FakeProtocol],
) -> None:
    app, protocol = shop
    app.finalize()

    @app.task(name="late", shared=False)
    def late(value: int) -> int:
        return value

    installation = app.orchestrator_worker
    installation.wrap()
    wrapped = late.run
    installation.wrap()
    assert late.run is wrapped
    assert trace(late, {"orc": HEADER}) == 1
    assert len(protocol.works) == 1


def test_recursion_of_the_body_is_no_second_step(shop: tuple[Celery, FakeProtocol]) -> None:
    app, protocol = shop

    @app.task(name="again", bind=True, shared=False)
    def again(self: Any, value: int) -> int:
        return value if value == 0 else self.run(value - 1)

    app.finalize()
    assert trace(again, {"orc": HEADER}) == 0
    assert len(protocol.works) == 1


def test_recommended_settings_are_not_harmful() -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.update(recommended_settings())
    assert find_harmful(app.conf, is_redis=True) == []
    assert find_harmful(app.conf, is_redis=False) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"worker_cancel_long_running_tasks_on_connection_loss": True}, "ends running steps"),
        ({"accept_content": ["json", "pickle"]}, "allows pickle"),
        ({"accept_content": ["yaml"]}, "lacks json"),
        ({"task_always_eager": True}, "task_always_eager"),
        ({"task_reject_on_worker_lost": True}, "round and round"),
        ({"worker_disable_prefetch": False, "worker_prefetch_multiplier": 4}, "is 4"),
    ],
)
def test_setting_that_hurts_is_told_in_one_line(settings: dict[str, Any], told: str) -> None:
    app = Celery("shop", set_as_current=False)
    app.conf.update({**recommended_settings(), **settings})
    (line,) = find_harmful(app.conf, is_redis=True)
    assert told in line
    assert "\n" not in line


def test_store_that_stays_away_is_asked_for_the_whole_time_and_no_longer() -> None:
    waits: list[float] = []
    patience = Patience(10_000, wait=waits.append, clock=lambda: sum(waits))
    key = AttemptKey(workflow_id="order", run=1, step=1, attempt=1)

    def ask() -> None:
        raise StoreUnavailable("ask", "refused")

    with pytest.raises(StoreUnavailable):
        patience.ask(ask, key, "ask")
    assert waits == sorted(waits)
    assert 8 < sum(waits) <= 10


def test_outside_of_a_workflow_a_step_is_nothing() -> None:
    assert step.current() is None
    assert step.is_cancelled() is False
    step.heartbeat({"anything": object()})


def test_directory_of_blobs_is_not_made_before_the_first_value(tmp_path: Path) -> None:
    DirectoryBlobs(tmp_path / "blobs")
    assert not (tmp_path / "blobs").exists()
