"""``python -m sagas training`` and ``stages``: start one, and tell how far it is until it ends.

Ctrl-C ends the telling alone; what was started goes on, and can be watched again by its id.
"""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from orchestrator import RunHandle, WorkflowFailed
from sagas.stages import train_in_stages
from sagas.stages_state import Exam, StagesPlan, StagesState, StageState
from sagas.training import train
from sagas.training_state import Status, TrainingState
from tasks.training_models import Measured, Review, Saving, TrainingPlan

#: How often the state is looked at.
LOOK_SECONDS = 0.25

State = TypeVar("State", bound=BaseModel)


@click.command()
@click.option("--id", "run_id", help="Workflow id; a new one unless given.")
@click.option("--epochs", default=20, show_default=True)
@click.option("--dataset", default="digits", show_default=True)
@click.option("--trainer", default="mlp", show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.option("--lr", type=float, help="Learning rate; the trainer's own unless given.")
@click.option("--set", "given", multiple=True, metavar="NAME=JSON", help="A hyperparameter.")
@click.option("--save-every", type=int, help="In epochs; as often as it pays unless given.")
@click.option("--review-every", type=int, help="In epochs; waits for `decide` there.")
@click.option("--model", help="Register the model under this name.")
def training(  # noqa: PLR0913 - one per option
    *,
    run_id: str | None,
    epochs: int,
    dataset: str,
    trainer: str,
    seed: int,
    lr: float | None,
    given: tuple[str, ...],
    save_every: int | None,
    review_every: int | None,
    model: str | None,
) -> None:
    """Train, and show epoch, loss, checkpoints, and how often is saved and why."""
    plan = _checked(
        TrainingPlan,
        epochs=epochs,
        dataset=dataset,
        trainer=trainer,
        seed=seed,
        hparams=_hparams(given, lr),
        saving=_checked(Saving, every_epochs=save_every),
        review=_checked(Review, every_epochs=review_every) if review_every else None,
        model=model,
    )
    run_id = run_id or f"train-{os.urandom(4).hex()}"
    handle = train.start(plan, id=run_id)
    _watch(run_id, handle, TrainingState, describe_training)


@click.command()
@click.option("--id", "run_id", help="Workflow id; a new one unless given.")
@click.option("--pretrain-epochs", default=5, show_default=True)
@click.option("--epochs", default=10, show_default=True, help="Of the fine-tuning.")
@click.option("--dataset", default="digits", show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.option("--lr", type=float, help="Learning rate of the fine-tuning.")
@click.option("--at-least", default=0.9, show_default=True, help="Accuracy that the exam wants.")
@click.option("--model", help="Register the model under this name.")
def stages(  # noqa: PLR0913 - one per option
    *,
    run_id: str | None,
    pretrain_epochs: int,
    epochs: int,
    dataset: str,
    seed: int,
    lr: float | None,
    at_least: float,
    model: str | None,
) -> None:
    """Pretrain an autoencoder, fine-tune from it, examine the model; show each stage."""
    common: dict[str, Any] = {"dataset": dataset, "seed": seed}
    plan = StagesPlan(
        pretraining=_checked(TrainingPlan, trainer="autoencoder", epochs=pretrain_epochs, **common),
        fine_tuning=_checked(TrainingPlan, epochs=epochs, hparams=_hparams((), lr), **common),
        exam=_checked(Exam, at_least={"accuracy": at_least}, model=model),
    )
    run_id = run_id or f"stages-{os.urandom(4).hex()}"
    handle = train_in_stages.start(plan, id=run_id)
    _watch(run_id, handle, StagesState, describe_stages)


def describe_training(state: TrainingState) -> str:
    """Return one line about a training: how far, how good, and how often it saves and why."""
    parts = [f"{state.status.value} epoch {state.epoch}/{state.epochs}"]
    if state.branch != "main":
        parts.append(f"branch {state.branch}")
    if state.loss is not None:
        parts.append(_describe_loss(state.loss, state))
    if state.checkpoints:
        newest = state.checkpoints[-1]
        parts.append(f"saved {newest.manifest_sha256[:12]} at epoch {newest.epoch}")
    if state.interval_s is not None:
        parts.append(f"saves every {state.interval_s:.3g} s: {state.interval_why}")
    if state.expected_waste is not None:
        parts.append(f"expected waste {state.expected_waste:.1%}")
    if state.failures:
        parts.append(f"{state.failures} lost attempts")
    if state.orders:
        last = state.orders[-1]
        how = "" if last.applied else "refused: "
        parts.append(f"{last.order} by {last.by} at {last.epoch}.{last.step}: {how}{last.detail}")
    if state.status in (Status.PAUSED, Status.FAILED):
        parts.append(state.reason)
    if state.model_sha256:
        metrics = sorted(state.metrics.items())
        found = ", ".join(f"{name} {float(value):.4f}" for name, value in metrics)
        parts += [found, f"weights {state.model_sha256[:16]}"]
    return " | ".join(parts)


def _describe_loss(loss: Measured, state: TrainingState) -> str:
    said = f"loss {float(loss):.4f}"
    if state.best_loss is None:
        return said
    return f"{said}, best {state.best_loss:.4f} at {state.best_epoch}"


def describe_stages(state: StagesState) -> str:
    """Return one line about all stages."""
    return " | ".join([state.status.value, *map(_describe_stage, state.stages)])


def _describe_stage(stage: StageState) -> str:
    parts = [f"{stage.name} {stage.status.value}"]
    if stage.attempts > 1:
        parts.append(f"(attempt {stage.attempts})")
    parts += [f"{name}={float(value):.4f}" for name, value in sorted(stage.metrics.items())]
    if stage.output:
        parts.append(stage.output[:12])
    if stage.reason:
        parts.append(f"- {stage.reason}")
    return " ".join(parts)


def _watch(
    run_id: str, handle: RunHandle[Any], kind: type[State], describe: Callable[[State], str]
) -> None:
    """Print a line whenever another one is to be said; exit with 1 where the run fails."""
    said = ""
    try:
        for state in _states(handle, kind):
            line = describe(state)
            if line != said:
                click.echo(f"{run_id}: {line}")
                said = line
        handle.result(timeout=LOOK_SECONDS)
    except WorkflowFailed as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo(f"{run_id} goes on; celery -A sagas workflow show {run_id} shows it")


def _states(handle: RunHandle[Any], kind: type[State]) -> Iterator[State]:
    """Yield the published state again and again, the last one when the run has ended."""
    is_over = False
    while not is_over:
        try:
            handle.result(timeout=LOOK_SECONDS)
            is_over = True
        except TimeoutError:
            pass
        except WorkflowFailed:  # The caller asks again.
            is_over = True
        state: State | None = handle.state(kind)
        if state is not None:
            yield state


def _hparams(given: tuple[str, ...], lr: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {} if lr is None else {"lr": lr}
    for one in given:
        name, _, value = one.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            raise click.UsageError(
                f"--set {one}: {value!r} is no JSON; a number, say, or [64, 32]"
            ) from None
    return found


def _checked(kind: type[State], **values: Any) -> State:
    try:
        return kind(**values)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise click.UsageError(f"{where}: {wrong['msg']}, found {wrong['input']!r}") from None
