"""``celery -A … workflow reset`` and ``fork``: a run goes on from an event of a history."""

import getpass
from collections.abc import Callable, Sequence
from typing import Any

import click
from celery.bin.base import CeleryCommand

from orchestrator.cli import tables
from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, EXIT_WRONG, Refusal, worded
from orchestrator.cli.options import id_argument, json_flag, run_option
from orchestrator.cli.shown import shown
from orchestrator.cli.values import JsonValue
from orchestrator.client.resets import ResetPlan
from orchestrator.core.values import Json

#: Steps that a plan names; ``--json`` has them all.
_SHOWN_MAX = 20

despite_effects_flag = click.option(
    "--despite-effects",
    is_flag=True,
    help="Even if a saga's steps are dropped, or kept as done after they were undone.",
)


def reapply_signals_option(*, default: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what gives a command ``--reapply-signals``."""
    return click.option(
        "--reapply-signals/--no-reapply-signals",
        default=default,
        show_default=True,
        help="Whether signals that came later are received again.",
    )


def at_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--event-id`` and ``--before-step``; `at_of` reads them."""
    for option in (
        click.option("--before-step", help="The input before the first step of this name."),
        click.option("--event-id", type=click.IntRange(1), help="Number of the event; see show."),
    ):
        command = option(command)
    return command


def at_of(event_id: int | None, before_step: str | None) -> int | str:
    """Return which of the two options was given.

    Raises:
        Refusal: None, or both.
    """
    if (event_id is None) == (not before_step):
        raise Refusal("one of --event-id and --before-step is wanted", EXIT_WRONG)
    return event_id if event_id is not None else str(before_step)


@click.command("reset", cls=CeleryCommand)
@id_argument
@at_options
@reapply_signals_option(default=True)
@despite_effects_flag
@click.option("--reason", default="", help="Goes into the histories.")
@click.option("--by", default=getpass.getuser, show_default="you", help="Who decided.")
@click.option("--dry-run", is_flag=True, help="Say what it would mean; do nothing.")
@run_option
@json_flag
@click.pass_context
@worded
def reset(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow_id: str,
    event_id: int | None,
    before_step: str | None,
    reapply_signals: bool,
    despite_effects: bool,
    reason: str,
    by: str,
    dry_run: bool,
    run: int | None,
    as_json: bool,
) -> None:
    """End run ID, if it is open, and let the next run of its id go on from an event of it.

    An input (a result, a signal, a timer) is given again, to the code of today; what was ordered
    later is ordered again as that code has it.
    """
    at = at_of(event_id, before_step)
    handle = orchestrator_of(ctx.obj.app).run(workflow_id, run)
    if dry_run:
        _show(ctx, handle.plan_reset(at, despite_effects=despite_effects), as_json=as_json)
        return
    going_on = handle.reset(
        at,
        reapply_signals=reapply_signals,
        despite_effects=despite_effects,
        reason=reason,
        by=by,
    )
    if as_json:
        tables.print_json({"workflow_id": workflow_id, "run": going_on.run})
    else:
        click.echo(f"{workflow_id} goes on as run {going_on.run}")


@click.command("fork", cls=CeleryCommand)
@id_argument
@click.argument("fork_id", metavar="NEW_ID")
@at_options
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=JsonValue(),
    help="Another positional argument, as JSON, @file or -; repeat it for more; give all of them.",
)
@click.option("--payload", type=JsonValue(), help="What the event brings instead; JSON likewise.")
@reapply_signals_option(default=False)
@despite_effects_flag
@click.option("--dry-run", is_flag=True, help="Say what it would mean; do nothing.")
@run_option
@json_flag
@click.pass_context
@worded
def fork(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    workflow_id: str,
    fork_id: str,
    event_id: int | None,
    before_step: str | None,
    inputs: Sequence[Json],
    payload: Json,
    reapply_signals: bool,
    despite_effects: bool,
    dry_run: bool,
    run: int | None,
    as_json: bool,
) -> None:
    """Let a run NEW_ID go on from an event of run ID, which is left alone.

    With --payload the event brings something else, with --input the run began with something else.
    """
    at = at_of(event_id, before_step)
    handle = orchestrator_of(ctx.obj.app).run(workflow_id, run)
    if dry_run:
        plan = handle.plan_reset(at, despite_effects=despite_effects, is_fork=True)
        _show(ctx, plan, as_json=as_json)
        return
    is_given = ctx.get_parameter_source("payload") is click.core.ParameterSource.COMMANDLINE
    forked = handle.fork(
        fork_id,
        at,
        args=inputs or ...,
        payload=payload if is_given else ...,
        reapply_signals=reapply_signals,
        despite_effects=despite_effects,
    )
    if as_json:
        tables.print_json({"workflow_id": fork_id, "run": forked.run})
    else:
        click.echo(f"{fork_id} run {forked.run} goes on from {workflow_id}")


def in_words(plan: ResetPlan) -> str:
    """Return what a plan says, in a line."""
    if plan.problem:
        return f"refused: {plan.problem}"
    return (
        f"events kept: {plan.kept}; steps dropped: {len(plan.lost)}; later signals: {plan.signals}"
    )


def _show(ctx: click.Context, plan: ResetPlan, *, as_json: bool) -> None:
    if as_json:
        tables.print_json(plan.as_json())
    else:
        words = f"{plan.workflow_id} run {plan.run}, event {plan.event}: {in_words(plan)}"
        click.echo(shown(words))
        for one in plan.lost[:_SHOWN_MAX]:
            effect = "  an effect that nobody would undo" if one.is_effect else ""
            click.echo(f"  event {one.event}: step {one.step} {shown(one.task)}{effect}")
        if len(plan.lost) > _SHOWN_MAX:
            click.echo(f"  … and {len(plan.lost) - _SHOWN_MAX} more")
    if plan.problem:
        ctx.exit(EXIT_NO)
