"""``celery -A … workflow update``, ``signal-with-start`` and ``reseed``."""

from collections.abc import Sequence

import click
from celery.bin.base import CeleryCommand

from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import worded
from orchestrator.cli.options import id_argument, json_flag, run_option
from orchestrator.cli.values import JsonValue
from orchestrator.client.updates import ACCEPT_TIMEOUT_S
from orchestrator.core.values import Json

#: Seconds the command line waits for an update's answer unless told otherwise.
UPDATE_TIMEOUT_S = 3 * ACCEPT_TIMEOUT_S


@click.command("update", cls=CeleryCommand)
@id_argument
@click.argument("name")
@click.argument("args", nargs=-1, type=JsonValue())
@click.option("--update-id", help="The same id again is the same update, with the same answer.")
@click.option("--timeout", default=UPDATE_TIMEOUT_S, show_default=True, help="Seconds.")
@run_option
@click.pass_context
@worded
def update(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow_id: str,
    name: str,
    args: Sequence[Json],
    update_id: str | None,
    timeout: float,
    run: int | None,
) -> None:
    """Have run ID carry out update NAME on ARGS (JSON, @file or -); print its answer as JSON."""
    handle = orchestrator_of(ctx.obj.app).run(workflow_id, run)
    tables.print_json(handle.update(name, *args, id=update_id, timeout=timeout))


@click.command("signal-with-start", cls=CeleryCommand)
@click.argument("workflow")
@id_argument
@click.argument("name")
@click.argument("payload", type=JsonValue(), required=False)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=JsonValue(),
    help="One positional argument of the start as JSON, @file or -; repeat it for more.",
)
@click.option("--signal-id", help="The same id again is the same signal.")
@json_flag
@click.pass_context
@worded
def signal_with_start(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow: str,
    workflow_id: str,
    name: str,
    payload: Json,
    inputs: Sequence[Json],
    signal_id: str | None,
    as_json: bool,
) -> None:
    """Signal the open run ID, or start one of WORKFLOW whose first signal this is; one act."""
    handle = (
        orchestrator_of(ctx.obj.app)
        .get_workflow(workflow)
        .signal_with_start(name, payload, id=workflow_id, args=inputs, signal_id=signal_id)
    )
    if as_json:
        tables.print_json({"workflow_id": handle.workflow_id, "run": handle.run})
    else:
        click.echo(f"signal {name} sent to {workflow_id} run {handle.run}")


def whole_number(text: str) -> int:
    """Return what is typed as 7 or 0xc0ffee; what a seed may be the client says."""
    return int(text, 0)


@click.command("reseed", cls=CeleryCommand)
@id_argument
@click.option("--seed", required=True, type=whole_number, help="Decimal, or hex behind 0x.")
@click.option("--generator", "name", help="The one generator that is meant; else all of them.")
@click.option("--signal-id", help="The same id again is the same reseed.")
@run_option
@json_flag
@click.pass_context
@worded
def reseed(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow_id: str,
    seed: int,
    name: str | None,
    signal_id: str | None,
    run: int | None,
    as_json: bool,
) -> None:
    """Let the numpy generators of run ID (workflow.rng) go on from another seed; on record."""
    sent = orchestrator_of(ctx.obj.app).run(workflow_id, run).reseed(seed, name, id=signal_id)
    if as_json:
        tables.print_json({"ok": True, "signal_id": sent})
    else:
        click.echo(f"{workflow_id} was asked to reseed {name or 'its generators'}")
