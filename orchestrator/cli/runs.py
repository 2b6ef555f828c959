"""``celery -A … workflow``: start runs, look at them, write to them."""

import getpass
from collections.abc import Sequence
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from orchestrator.app import Orchestrator
from orchestrator.cli import messages, tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.batch import batch
from orchestrator.cli.checks import check
from orchestrator.cli.draining import drain
from orchestrator.cli.errors import EXIT_NO, Refusal, worded
from orchestrator.cli.finding import count, describe, list_, reindex
from orchestrator.cli.keys import rotate_keys, shred
from orchestrator.cli.lineage import lineage
from orchestrator.cli.options import id_argument, json_flag, run_option
from orchestrator.cli.permits import permits
from orchestrator.cli.replays import export, replay
from orchestrator.cli.resetting import fork, reset
from orchestrator.cli.schedules import schedule
from orchestrator.cli.showing import show, verification_json
from orchestrator.cli.start_options import said_options, settings_of
from orchestrator.cli.steps import decided, no_wait_flag, said_of, step
from orchestrator.cli.values import JsonValue
from orchestrator.client.decisions import DECISIONS
from orchestrator.client.handle import RunHandle
from orchestrator.client.messages import QUERY_TIMEOUT_S
from orchestrator.core.values import Json


@click.group(name="workflow")
@click.pass_context
@handle_preload_options
def workflow(ctx: click.Context) -> None:
    """Start, list, show and steer workflow runs."""


@workflow.command("start", cls=CeleryCommand)
@click.argument("name")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=JsonValue(),
    help="One positional argument as JSON, @file or -; repeat it for more.",
)
@click.option("--id", "workflow_id", help="The workflow id; else one is made up.")
@click.option("--version", help="Of the workflow; else the default one.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
@said_options
@json_flag
@click.pass_context
@worded
def start(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    /,
    *,
    name: str,
    inputs: Sequence[Json],
    workflow_id: str | None,
    version: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Start a run of workflow NAME."""
    orchestrator = _orchestrator(ctx)
    bound = orchestrator.get_workflow(name, version).options(**settings_of(**said))
    handle = bound.apply_async(inputs, task_id=workflow_id)
    if wait:
        result = orchestrator.codec.encode(handle.result(timeout))
        tables.print_json(handle.describe().as_json() if as_json else result)
    elif as_json:
        tables.print_json({"workflow_id": handle.workflow_id, "run": handle.run})
    else:
        click.echo(handle.workflow_id)


@workflow.command("signal", cls=CeleryCommand)
@id_argument
@click.argument("name")
@click.argument("payload", type=JsonValue(), required=False)
@click.option("--signal-id", help="The same id again is the same signal.")
@run_option
@json_flag
@click.pass_context
@worded
def signal(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow_id: str,
    name: str,
    payload: Json,
    signal_id: str | None,
    run: int | None,
    as_json: bool,
) -> None:
    """Send signal NAME with PAYLOAD (JSON, @file or -) to run ID."""
    sent = _handle(ctx, workflow_id, run).signal(name, payload, id=signal_id)
    _print_done(f"signal {name} sent to {workflow_id}", {"signal_id": sent}, as_json=as_json)


@workflow.command("query", cls=CeleryCommand)
@id_argument
@click.argument("name")
@click.argument("args", nargs=-1, type=JsonValue())
@click.option("--timeout", default=QUERY_TIMEOUT_S, show_default=True, help="Seconds.")
@run_option
@click.pass_context
@worded
def query(
    ctx: click.Context,
    *,
    workflow_id: str,
    name: str,
    args: Sequence[Json],
    timeout: float,
    run: int | None,
) -> None:
    """Ask run ID the query NAME and print the answer as JSON.

    Every workflow answers "stack": where each of its tasks waits.
    """
    tables.print_json(_handle(ctx, workflow_id, run).query(name, *args, timeout=timeout))


@workflow.command("cancel", cls=CeleryCommand)
@id_argument
@click.option("--reason", default="", help="Goes into the history.")
@run_option
@json_flag
@click.pass_context
@worded
def cancel(
    ctx: click.Context, *, workflow_id: str, reason: str, run: int | None, as_json: bool
) -> None:
    """Ask run ID to stop; its code may clean up, its sagas compensate."""
    _handle(ctx, workflow_id, run).cancel(reason)
    _print_done(f"{workflow_id} was asked to stop", {}, as_json=as_json)


@workflow.command("terminate", cls=CeleryCommand)
@id_argument
@click.option("--reason", default="", help="Goes into the history.")
@run_option
@json_flag
@click.pass_context
@worded
def terminate(
    ctx: click.Context, *, workflow_id: str, reason: str, run: int | None, as_json: bool
) -> None:
    """End run ID without its code; open sagas are compensated all the same."""
    _handle(ctx, workflow_id, run).terminate(reason)
    _print_done(f"{workflow_id} is being terminated", {}, as_json=as_json)


@workflow.command("resolve", cls=CeleryCommand)
@id_argument
@click.argument("step", type=click.IntRange(1))
@click.argument("decision", type=click.Choice(DECISIONS))
@click.option("--reason", default="", help="Goes into the history; skip and done need one.")
@click.option("--by", default=getpass.getuser, show_default="you", help="Who decided.")
@no_wait_flag
@run_option
@json_flag
@click.pass_context
@worded
def resolve(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow_id: str,
    step: int,
    decision: str,
    reason: str,
    by: str,
    no_wait: bool,
    run: int | None,
    as_json: bool,
) -> None:
    """Decide about STEP of run ID, which gave up and waits for a person.

    retry: attempt it again.  skip: go on without it.  done: you did it by hand.
    """
    handle = _handle(ctx, workflow_id, run).step(step)
    is_taken = decided(handle, decision, no_wait=no_wait, reason=reason, by=by)
    state: dict[str, Json] = {"state": "taken" if is_taken else "sent"}
    _print_done(said_of(handle, decision, is_taken=is_taken), state, as_json=as_json)


@workflow.command("verify", cls=CeleryCommand)
@id_argument
@run_option
@json_flag
@click.pass_context
@worded
def verify(ctx: click.Context, *, workflow_id: str, run: int | None, as_json: bool) -> None:
    """Recompute the hash chain over the history of run ID."""
    found = _handle(ctx, workflow_id, run).verify()
    if as_json:
        tables.print_json(verification_json(found))
    elif found:
        click.echo(f"{workflow_id}: {found.events} events, verified")
    if not found:
        if as_json:
            ctx.exit(EXIT_NO)
        raise Refusal(f"{workflow_id}: broken at event {found.bad_seq}: {found.reason}", EXIT_NO)


for each in (
    *(lineage, show, describe, list_, count, batch, reindex, schedule, step, permits),
    *(messages.update, messages.signal_with_start, messages.reseed, export, replay, check, drain),
    *(shred, rotate_keys, reset, fork),
):
    workflow.add_command(each)


def _orchestrator(ctx: click.Context) -> Orchestrator:
    return orchestrator_of(ctx.obj.app)


def _handle(ctx: click.Context, workflow_id: str, run: int | None) -> RunHandle[Any]:
    return _orchestrator(ctx).run(workflow_id, run)


def _print_done(text: str, data: dict[str, Json], *, as_json: bool) -> None:
    if as_json:
        tables.print_json({"ok": True, **data})
    else:
        click.echo(text)
