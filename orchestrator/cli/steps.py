"""``celery -A … workflow step``: steps in the hands of an operator, or of who has a token."""

import getpass
from collections.abc import Callable
from typing import Any

import click
from celery.bin.base import CeleryCommand

from orchestrator.cli.app import orchestrator_of
from orchestrator.cli.errors import EXIT_NO, Refusal, worded
from orchestrator.cli.options import id_argument, run_option
from orchestrator.cli.values import JsonValue
from orchestrator.client.step_handle import StepHandle
from orchestrator.client.token_handle import TokenHandle
from orchestrator.core.errors import ApplicationError
from orchestrator.core.values import Json


@click.group(name="step")
def step() -> None:
    """Pause, unpause or reset an outstanding step; end one by its token."""


#: Seconds that a decision is waited for: an orchestrator that is well takes it at once.
DECISION_WAIT_S = 2.0

no_wait_flag = click.option(
    "--no-wait", is_flag=True, help="Do not wait until an orchestrator has taken it, or refused it."
)


def decided(handle: StepHandle, decision: str, *, no_wait: bool, reason: str, by: str) -> bool:
    """Send a decision about a step, and return whether it is known to be taken.

    Raises:
        Refusal: It was refused.
    """
    wait_s = 0.0 if no_wait else DECISION_WAIT_S
    verdict = handle.decide(decision, reason=reason, by=by, wait_s=wait_s)
    if verdict is not None and not verdict.is_taken:
        raise Refusal(f"{decision} was refused: {verdict.reason}", EXIT_NO)
    return verdict is not None


def said_of(handle: StepHandle, decision: str, *, is_taken: bool) -> str:
    """Return what is said of a decision that was sent, and not refused."""
    done = f"{handle.workflow_id} step {handle.number}: {decision}"
    sent = f" sent; `workflow show {handle.workflow_id}` tells what became of it"
    return done if is_taken else f"{done}{sent}"


def _about_a_step(function: Callable[..., None]) -> Callable[..., None]:
    """Add what all three take: the run, the step, the reason and the name."""
    for decorate in (
        run_option,
        no_wait_flag,
        click.option("--by", default=getpass.getuser, show_default="you", help="Who decided."),
        click.option("--reason", default="", help="Goes into the history."),
        click.argument("number", metavar="STEP", type=click.IntRange(1)),
        id_argument,
    ):
        function = decorate(function)
    return function


def _handle(ctx: click.Context, workflow_id: str, run: int | None, number: int) -> StepHandle:
    return orchestrator_of(ctx.obj.app).run(workflow_id, run).step(number)


@step.command("pause", cls=CeleryCommand)
@_about_a_step
@click.pass_context
@worded
def pause(
    ctx: click.Context, /, *, workflow_id: str, run: int | None, number: int, **why: Any
) -> None:
    """Send no further attempt at STEP of run ID; one that runs goes on, and its outcome counts."""
    handle = _handle(ctx, workflow_id, run, number)
    click.echo(said_of(handle, "pause", is_taken=decided(handle, "pause", **why)))


@step.command("unpause", cls=CeleryCommand)
@_about_a_step
@click.pass_context
@worded
def unpause(
    ctx: click.Context, /, *, workflow_id: str, run: int | None, number: int, **why: Any
) -> None:
    """Send the next attempt at STEP of run ID at once, unless one runs."""
    handle = _handle(ctx, workflow_id, run, number)
    click.echo(said_of(handle, "unpause", is_taken=decided(handle, "unpause", **why)))


@step.command("reset", cls=CeleryCommand)
@_about_a_step
@click.pass_context
@worded
def reset(
    ctx: click.Context, /, *, workflow_id: str, run: int | None, number: int, **why: Any
) -> None:
    """Count the attempts at STEP of run ID from 1 again, and end its back-off."""
    handle = _handle(ctx, workflow_id, run, number)
    click.echo(said_of(handle, "reset", is_taken=decided(handle, "reset", **why)))


_token_argument = click.argument("token")


def _by_token(ctx: click.Context, token: str) -> TokenHandle:
    return orchestrator_of(ctx.obj.app).step(token)


@step.command("complete", cls=CeleryCommand)
@_token_argument
@click.argument("result", type=JsonValue(), required=False)
@click.pass_context
@worded
def complete(ctx: click.Context, /, *, token: str, result: Json) -> None:
    """End the step of TOKEN with RESULT (JSON, @file or -), as if its body had returned it."""
    handle = _by_token(ctx, token)
    handle.complete(result)
    click.echo(f"{handle.key}: completed")


@step.command("fail", cls=CeleryCommand)
@_token_argument
@click.argument("message")
@click.option("--type", "kind", default="ApplicationError", show_default=True, help="For policies.")
@click.option("--non-retryable", is_flag=True, help="A final answer: no further attempt.")
@click.pass_context
@worded
def fail(
    ctx: click.Context, /, *, token: str, message: str, kind: str, non_retryable: bool
) -> None:
    """End the attempt of TOKEN with MESSAGE; the step's retry policy decides what follows."""
    handle = _by_token(ctx, token)
    handle.fail(ApplicationError(message, kind, non_retryable=non_retryable))
    click.echo(f"{handle.key}: failed")


@step.command("heartbeat", cls=CeleryCommand)
@_token_argument
@click.argument("details", type=JsonValue(), required=False)
@click.pass_context
@worded
def heartbeat(ctx: click.Context, /, *, token: str, details: Json) -> None:
    """Say that the work of TOKEN goes on; keep DETAILS (JSON, @file or -) for the next attempt."""
    handle = _by_token(ctx, token)
    handle.heartbeat(details)
    click.echo(f"{handle.key}: goes on")


@step.command("cancelled", cls=CeleryCommand)
@_token_argument
@click.pass_context
@worded
def cancelled(ctx: click.Context, /, *, token: str) -> None:
    """End the attempt of TOKEN as cancelled, as the workflow asked."""
    handle = _by_token(ctx, token)
    handle.cancelled()
    click.echo(f"{handle.key}: cancelled")
