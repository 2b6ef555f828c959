"""Start one of the sagas, and tell what happens.  Needs a worker and an orchestrator running.

Run    python -m sagas order --total 120
       python -m sagas order --total 120 --fail ship            fails twice, then works
       python -m sagas order --total 120 --fail charge --mode refuse
       python -m sagas order --total 9000 --approve ana
       python -m sagas order --total 120 --cancel
       python -m sagas training --epochs 20 --lr 0.002
       python -m sagas stages
"""

import os
from collections.abc import Iterator
from decimal import Decimal

import click

from orchestrator import RunHandle, WorkflowFailed
from sagas.order import Approval, CancelOrder, Delivered, Order, OrderState, Status, process_order
from tasks.app import TRAINS
from tasks.faults import Mode, set_switch

STEPS = ["reserve", "charge", "ship", "notify", "release", "refund", "cancel_shipment"]
#: How often the state is looked at.
LOOK_SECONDS = 0.25
#: How long a step hangs that is told to; longer than any time-out it is given.
HANG_SECONDS = 3600


@click.group()
def main() -> None:
    """Run one of the sagas."""


if TRAINS:
    from sagas import training_commands

    main.add_command(training_commands.training)
    main.add_command(training_commands.stages)


@main.command()
@click.option("--id", "order_id", help="Order and workflow id; a new one unless given.")
@click.option("--total", default="120", show_default=True, help="In units of currency.")
@click.option("--fail", type=click.Choice(STEPS), help="The step to disturb.")
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), default="fail")
@click.option("--times", default=2, show_default=True, help="How often; 0 for always.")
@click.option("--approve", "approver", help="Who approves, should it be asked for.")
@click.option("--cancel", is_flag=True, help="Cancel once the parcel is on its way.")
def order(  # noqa: PLR0913 - one per option
    *,
    order_id: str | None,
    total: str,
    fail: str | None,
    mode: str,
    times: int,
    approver: str | None,
    cancel: bool,
) -> None:
    """Send one order through; once it is shipped, say that it was delivered."""
    order_id = order_id or f"order-{os.urandom(4).hex()}"
    if fail:
        set_switch(
            fail,
            Mode(mode),
            order_id=order_id,
            remaining=times or None,
            seconds=HANG_SECONDS,
        )
    handle = process_order.start(Order(id=order_id, total=Decimal(total)), id=order_id)
    for state in states(handle):
        click.echo(f"{order_id}: {describe(state)}")
        match state.status:
            case Status.AWAITING_APPROVAL if approver:
                handle.signal("approve", Approval(approved=True, by=approver))
            case Status.SHIPPED if cancel:
                handle.signal("cancel", CancelOrder(reason="changed my mind"))
            case Status.SHIPPED:
                handle.signal("delivered", Delivered())
            case _:
                pass


def states(handle: RunHandle[OrderState]) -> Iterator[OrderState]:
    """Yield the order's state whenever another status shows, up to the last one."""
    shown: OrderState | None = None
    is_over = False
    while not is_over:
        try:
            handle.result(timeout=LOOK_SECONDS)
            is_over = True
        except TimeoutError:
            pass
        except WorkflowFailed:  # The state says why.
            is_over = True
        state = handle.state(OrderState)
        if state is not None and (shown is None or state.status is not shown.status):
            shown = state
            yield state


def describe(state: OrderState) -> str:
    """Return one line about the order: its status, and what else is known."""
    facts = state.model_dump(mode="json", exclude={"order_id", "status"}, exclude_defaults=True)
    return " ".join([state.status.value, *(f"{name}={value}" for name, value in facts.items())])


if __name__ == "__main__":
    main()
