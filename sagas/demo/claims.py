"""Claims about orders: each a function that looks, and returns what it found as evidence."""

from collections.abc import Mapping, Sequence

from orchestrator import RunSummary
from orchestrator.app import Orchestrator
from orchestrator.client.summary import HistoryEvent
from orchestrator.core.errors import ActivationFailed, NondeterminismError
from orchestrator.core.events import (
    CompensationStarted,
    Event,
    StepAttemptFailed,
    StepCompleted,
    StepScheduled,
)
from orchestrator.core.replay import replay
from sagas.demo.narrator import Evidence
from sagas.demo.shop import Money, Shop, coins
from sagas.demo.tour import Handle
from sagas.order import OrderState, Status, process_order
from tasks.audit import audit


def ended_as(handle: Handle, status: Status) -> Evidence:
    """The order and its run have ended as `status`."""
    state: OrderState | None = handle.state(OrderState)
    found = "nothing" if state is None else state.status.value
    run = "failed" if status is Status.FAILED else "completed"
    expected = f"{status.value}, run {run}"
    return Evidence(
        f"the order has ended: {status.value}", expected, f"{found}, run {handle.status()}"
    )


def paid(shop: Shop, handle: Handle, cents: int) -> Evidence:
    """The order was paid, once."""
    found = f"{shop.payments(handle.id)} payments: {shop.money(handle.id)}"
    return Evidence(f"SQL: {coins(cents)} taken, once", f"1 payments: {Money(cents, 0)}", found)


def paid_back(shop: Shop, handle: Handle, cents: int) -> Evidence:
    """What the order paid, it got back."""
    money = shop.money(handle.id)
    claim = f"SQL: {coins(cents)} taken, {coins(cents)} given back"
    return Evidence(claim, Money(cents, cents), money)


def parcels(shop: Shop, handle: Handle, count: int) -> Evidence:
    """So many parcels are on their way."""
    words = "nothing is shipped" if count == 0 else f"{count} parcel shipped"
    return Evidence(f"SQL: {words}", count, shop.parcels(handle.id))


def on_shelf(shop: Shop, sku: str, count: int) -> Evidence:
    """So many of the article are on the shelf."""
    return Evidence(f"SQL: {count} on the shelf", count, shop.on_hand(sku))


def effect_once(shop: Shop, handle: Handle, task: str) -> Evidence:
    """The task took effect once, under one idempotency key."""
    found = shop.effects(handle.id, task)
    return Evidence(f"SQL: {task} took effect once, under one key for all attempts", 1, found)


def approved_by(handle: Handle, person: str) -> Evidence:
    """The order shows who approved it."""
    state: OrderState | None = handle.state(OrderState)
    found = None if state is None else state.approved_by
    return Evidence(f"approved by {person}, as the order's state says", person, found)


def attempts_of(handle: Handle, task: str, expected: Sequence[str]) -> Evidence:
    """History has the attempts at a task, each with how it ended."""
    history = handle.history()
    steps = [number for number, name in task_names(history).items() if name == task]
    found = [f"{n} {end}" for number, n, end in _attempts(history) if number in steps]
    claim = f"history: {task}, attempt {', attempt '.join(expected)}"
    return Evidence(claim, list(expected), found)


def undone_in_order(handle: Handle, expected: Sequence[str]) -> Evidence:
    """History has the compensations, in the order in which they were sent."""
    found = [
        event.event.task.rpartition(".")[2]
        for event in handle.history()
        if isinstance(event.event, StepScheduled) and event.event.compensates is not None
    ]
    return Evidence(f"history: {', then '.join(expected)}", list(expected), found)


def compensation_spans(history: Sequence[HistoryEvent], seq: int) -> Evidence:
    """The compensation began before event `seq`, and was not over by then."""
    begun = [e.seq for e in history if isinstance(e.event, CompensationStarted)]
    undone = [
        e.seq
        for e in history
        if isinstance(e.event, StepScheduled) and e.event.compensates is not None
    ]
    is_split = len(begun) == 1 and bool(undone) and begun[0] <= seq < undone[-1]
    found = f"begun at events {begun}, undoing steps sent at events {undone}"
    claim = f"history: killed after event {seq}, in mid-compensation; the rest is the other one's"
    wanted = f"begun once, up to event {seq}, and undoing steps sent beyond it"
    return Evidence(claim, wanted, wanted if is_split else found)


def books_balance(statuses: Mapping[str, str]) -> Evidence:
    """The audit finds nothing wrong with the shop's data."""
    claim = "SQL: stock adds up, every key had one effect, and the money is where it should be"
    return Evidence(claim, [], audit(statuses=statuses))


def chains_hold(orchestrator: Orchestrator, runs: Sequence[RunSummary]) -> Evidence:
    """Every history in the store is what the orchestrators wrote."""
    bad: list[str] = []
    events = 0
    for run in runs:
        checked = orchestrator.run(run.workflow_id, run.run).verify()
        events += checked.events
        if not checked:
            bad.append(f"{run.workflow_id}: event {checked.bad_seq}: {checked.reason}")
    claim = f"hash chains of all {len(runs)} histories here verified, {events} events"
    return Evidence(claim, [], bad)


def replay_agrees(handles: Sequence[Handle]) -> Evidence:
    """The code, given the inputs of the tour's histories, issues the commands they record."""
    bad = []
    for handle in handles:
        events = [each.event for each in handle.history()]
        try:
            replay(process_order.definition, handle.id, handle.run, events).execution.close()
        except (NondeterminismError, ActivationFailed) as error:
            bad.append(str(error))
    return Evidence(f"{len(handles)} histories replayed: same inputs, same commands", [], bad)


def task_names(history: Sequence[HistoryEvent]) -> dict[int, str]:
    """Return the short name of each step's task, by the step's number."""
    return {
        each.event.step: each.event.task.rpartition(".")[2]
        for each in history
        if isinstance(each.event, StepScheduled)
    }


def _attempts(history: Sequence[HistoryEvent]) -> list[tuple[int, int, str]]:
    return [
        (event.step, event.attempt, _end_of(event))
        for event in (each.event for each in history)
        if isinstance(event, StepAttemptFailed | StepCompleted)
    ]


def _end_of(event: Event) -> str:
    return event.kind if isinstance(event, StepAttemptFailed) else "completed"
