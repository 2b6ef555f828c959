"""Promise: a run goes on from an event that is named, in Python and on the command line."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from orchestrator import Orchestrator, workflow
from orchestrator.cli.runs import workflow as workflow_command
from orchestrator.client import resets
from orchestrator.client.handle import RunHandle
from orchestrator.core import events as e
from orchestrator.core.errors import (
    InvalidWorkflowId,
    OrchestratorError,
    ResetRefused,
    RunExists,
    RunNotFound,
)
from orchestrator.testing import WorkflowEnvironment

Env = WorkflowEnvironment
Type = Callable[..., Result]

app = Celery("resetting", broker="memory://", set_as_current=False)
orc = Orchestrator(app)
DONE: list[str] = []


@app.task(name="shop.price", shared=False)
def price(number: int) -> int:
    DONE.append("price")
    return number * 2


@app.task(name="shop.charge", shared=False)
def charge(number: int) -> str:
    DONE.append("charge")
    return f"p-{number}"


@app.task(name="shop.refund", shared=False)
def refund(number: int) -> None:
    DONE.append("refund")


@orc.workflow(name="order")
async def order(number: int) -> list[Any]:
    priced = await workflow.step(price, number)
    said = await workflow.signal("on")
    return [priced, said, workflow.info().workflow_id, workflow.info().run]


@orc.workflow(name="paid")
async def paid(number: int) -> list[Any]:
    async with workflow.saga() as saga:
        done = await saga.step(charge, number, undo=refund)
        said = await workflow.signal("on")
    return [done, said]


@pytest.fixture
def env() -> Iterator[Env]:
    DONE.clear()
    with WorkflowEnvironment(orc) as env:
        yield env


@pytest.fixture
def typed(env: Env) -> Type:
    context = CLIContext(app=app, no_color=True, workdir=None)
    return lambda *words: CliRunner().invoke(workflow_command, list(words), obj=context)


def ended(env: Env) -> RunHandle[list[Any]]:
    """Return a run that has its result; its step was done before its signal came."""
    run = order.start(3, id="w")
    assert run.status() == "running"
    run.signal("on", 1)
    assert run.result() == [6, 1, "w", 1]
    return run


def event_of(run: RunHandle[Any], kind: str) -> int:
    return next(one.seq for one in run.history() if one.type == kind)


def last_event(env: Env, id: str, run: int) -> e.Event:
    return orc.run(id, run).history()[-1].event


def test_open_run_is_reset_and_the_handle_is_the_next_run_s(env: Env) -> None:
    first = order.start(3, id="w")
    assert first.status() == "running"
    again = first.reset("shop.price", reason="wrong price", by="ana")
    assert again.run == 2
    ended = last_event(env, "w", 1)
    assert ended == e.RunReset(
        at_ms=ended.at_ms,
        event=1,
        reason="wrong price",
        by="ana",
        request_id=ended.request_id,  # type: ignore[attr-defined]
    )
    again.signal("on", 1)
    # Whoever waits for the first run waits for the run that goes on.
    assert first.result() == again.result() == [6, 1, "w", 2]
    assert DONE == ["price", "price"]
    summary = orc.run("w", 1).describe()
    assert (summary.status, summary.goes_on) == ("terminated", True)
    assert summary.failure is not None
    assert summary.failure.message == "reset to event 1: wrong price"
    assert orc.run("w", 1).verify()
    assert again.verify()


def test_run_that_was_reset_is_described_from_its_history_where_its_row_is_gone(env: Env) -> None:
    first = order.start(3, id="w")
    assert first.status() == "running"
    first.reset(1, reason="wrong price").signal("on", 1)
    before = first.describe()
    for part in env._world._store._parts:
        part.past.clear()
    after = first.describe()
    assert (after.status, after.goes_on, after.failure) == ("terminated", True, before.failure)
    assert first.result() == [6, 1, "w", 2]


def test_run_that_has_ended_goes_on_as_the_next_run(env: Env) -> None:
    first = ended(env)
    again = orc.run("w").reset(event_of(first, "SignalReceived"))
    assert again.run == 2
    assert again.result() == [6, 1, "w", 2]
    assert orc.run("w", 1).describe().status == "completed", "it is left as it was"
    assert DONE == ["price"], "what was kept was not done again"
    # An older run than the latest is a source as well, while none is open.
    assert orc.run("w", 1).reset(1).run == 3


def test_fork_with_another_payload_leaves_the_first_alone(env: Env) -> None:
    first = ended(env)
    at = event_of(first, "SignalReceived")
    before = first.history()
    assert first.fork("f", at, payload=None).result() == [6, None, "f", 1]
    assert first.fork("g", at).result() == [6, 1, "g", 1]
    assert first.fork("h", 1, args=[5], reapply_signals=True).result() == [10, 1, "h", 1]
    assert first.history() == before
    assert DONE == ["price", "price"], "what was kept was not done again"


def test_plan_says_what_it_would_mean_and_changes_nothing(env: Env) -> None:
    run = paid.start(3, id="w")
    run.signal("note")
    assert run.status() == "running"
    plan = run.plan_reset("shop.charge")
    assert (plan.event, plan.kept, plan.signals) == (1, 0, 1)
    assert [(one.step, one.task, one.event, one.is_effect) for one in plan.lost] == [
        (1, "shop.charge", 2, True)
    ]
    assert "step 1 shop.charge, which nobody would undo any more" in plan.problem
    assert run.plan_reset("shop.charge", despite_effects=True).problem == ""
    assert "either run would undo" in run.plan_reset(3 + 1, is_fork=True).problem
    assert orc.run("w").describe().run == 1


def refused(work: Callable[[], object], kind: type[OrchestratorError] = ResetRefused) -> str:
    with pytest.raises(kind) as found:
        work()
    return str(found.value)


def test_refusals_are_one_sentence_and_leave_the_run_alone(env: Env) -> None:
    run = paid.start(3, id="w")
    assert run.status() == "running"
    length = len(run.history())
    assert "w run 1: behind event 0 there is step 1" in refused(lambda: run.reset(1))
    assert "there is no event 99" in refused(lambda: run.reset(99))
    assert "no step 'shop.ship'; its steps: shop.charge" in refused(lambda: run.reset("shop.ship"))
    assert "another payload is for an event" in refused(lambda: run.fork("f", 1, payload=1))
    assert refused(lambda: run.fork("a b", 1), InvalidWorkflowId)
    assert refused(lambda: orc.run("nobody").reset(1), RunNotFound)
    order.start(1, id="taken")
    assert refused(lambda: run.fork("taken", 1), RunExists)
    assert len(run.history()) == length
    run.signal("on")
    run.result()
    paid.start(4, id="w")
    assert "run 2 of the id is open" in refused(lambda: orc.run("w", 1).reset(1))


def test_run_that_is_put_off_has_nothing_to_go_on_from(env: Env) -> None:
    run = order.options(start_delay=timedelta(days=1)).start(3, id="later")
    assert "later run 1: it has not begun" in refused(lambda: run.reset(1))


def test_owner_judges_what_the_run_did_meanwhile(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    run = paid.start(3, id="w")
    assert run.status() == "running"
    monkeypatch.setattr(resets, "check", lambda *_, **__: None)
    assert "nobody would undo any more" in refused(lambda: run.reset(1))
    assert run.status() == "running"


def test_run_that_ends_before_its_owner_takes_the_reset_is_reset_all_the_same(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = order.start(3, id="w")
    assert run.status() == "running"
    looked = resets._check

    def ends(*args: Any, **how: Any) -> None:
        looked(*args, **how)
        monkeypatch.setattr(resets, "_check", looked)
        run.signal("on", 1)
        assert run.result()

    monkeypatch.setattr(resets, "_check", ends)
    assert run.reset(1).result() == [6, 1, "w", 2]


def test_batch_sent_again_resets_no_run_twice_and_none_that_it_has_made(env: Env) -> None:
    for n in range(3):
        order.options(search_attributes={"lot": "7"}).start(n, id=f"w-{n}")
    assert orc.run("w-2").status() == "running"
    for _ in range(2):
        report = orc.batch("lot = '7'", id="b", rps=1e6).reset("shop.price")
        assert not report.failed
    assert [orc.run(f"w-{n}").describe().run for n in range(3)] == [2, 2, 2]


# --- the command line ----------------------------------------------------------------------------


def test_reset_as_it_is_typed(env: Env, typed: Type) -> None:
    order.start(3, id="w")
    assert orc.run("w").status() == "running"
    looked = typed("reset", "w", "--event-id", "1", "--dry-run")
    assert looked.exit_code == 0
    assert looked.stdout == (
        "w run 1, event 1: events kept: 0; steps dropped: 1; later signals: 0\n"
        "  event 2: step 1 shop.price\n"
    )
    done = typed("reset", "w", "--before-step", "shop.price", "--reason", "again", "--by", "bo")
    assert (done.exit_code, done.stdout) == (0, "w goes on as run 2\n")
    ended = last_event(env, "w", 1)
    assert isinstance(ended, e.RunReset)
    assert (ended.reason, ended.by) == ("again", "bo")


def test_fork_as_it_is_typed(env: Env, typed: Type) -> None:
    at = event_of(ended(env), "SignalReceived")
    done = typed("fork", "w", "f", "--event-id", str(at), "--payload", "null", "--json")
    assert json.loads(done.stdout) == {"workflow_id": "f", "run": 1}
    assert orc.run("f").result() == [6, None, "f", 1]
    typed("fork", "w", "g", "--event-id", "1", "--input", "5", "--reapply-signals")
    assert orc.run("g").result() == [10, 1, "g", 1]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("reset", "w"), 2, "one of --event-id and --before-step is wanted"),
        (("reset", "w", "--event-id", "1", "--before-step", "x"), 2, "one of --event-id"),
        (("reset", "nobody", "--event-id", "1"), 1, "no run has the id 'nobody'"),
        (("reset", "w", "--event-id", "77"), 2, "w run 1: there is no event 77"),
        (("fork", "w", "f", "--event-id", "1", "--payload", "{"), 2, "not JSON"),
    ],
)
def test_mistake_is_one_line_and_an_exit_code(
    env: Env, typed: Type, words: tuple[str, ...], code: int, text: str
) -> None:
    order.start(3, id="w")
    assert orc.run("w").status() == "running"
    done = typed(*words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_refused_plan_is_told_and_has_an_exit_code(env: Env, typed: Type) -> None:
    paid.start(3, id="w")
    assert orc.run("w").status() == "running"
    done = typed("reset", "w", "--event-id", "1", "--dry-run")
    assert done.exit_code == 1
    assert "refused: behind event 0 there is step 1 shop.charge" in done.stdout
    data = json.loads(typed("reset", "w", "--event-id", "1", "--dry-run", "--json").stdout)
    assert data["lost"] == [{"step": 1, "task": "shop.charge", "event": 2, "effect": True}]


def test_batch_as_it_is_typed(env: Env, typed: Type) -> None:
    order.options(search_attributes={"lot": "7"}).start(1, id="w-1")
    paid.options(search_attributes={"lot": "7"}).start(1, id="w-2")
    assert orc.run("w-2").status() == "running"
    batch = ("batch", "reset", "--filter", "lot = '7'", "--event-id", "1")
    looked = typed(*batch, "--dry-run")
    assert looked.stdout.splitlines()[0] == "2 runs match"
    assert "w-1 run 1, running: events kept: 0" in looked.stdout
    assert "w-2 run 1, running: refused: behind event 0" in looked.stdout
    done = typed(*batch, "--yes")
    assert done.exit_code == 1
    assert "2 matched, 1 done, 1 failed" in done.stdout
    assert "w-2 run 1: w-2 run 1: behind event 0" in done.stderr
    assert (orc.run("w-1").describe().run, orc.run("w-2").describe().run) == (2, 1)
