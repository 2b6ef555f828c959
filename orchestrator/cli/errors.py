"""What the commands say when something is wrong, and the exit codes."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from orchestrator.cli.shown import shown
from orchestrator.core.errors import (
    OrchestratorError,
    RunClosed,
    RunExists,
    RunNotFound,
    StepClosed,
    UsageError,
    WorkflowUpdateRejected,
)

P = ParamSpec("P")
R = TypeVar("R")

#: The answer is no: the run is not there, has ended, has failed; or nobody answers.
EXIT_NO = 1
#: The command line, the input or the configuration is wrong.
EXIT_WRONG = 2

#: Errors of usage in a program, but a plain answer to somebody who types.
_ANSWERS = (RunClosed, RunExists, RunNotFound, StepClosed, WorkflowUpdateRejected)


class Refusal(click.ClickException):
    """An error as the person at the terminal gets it: one line, and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        # Click declares it for the class; it reads it from the object.
        vars(self)["exit_code"] = exit_code

    def show(self, file: Any = None) -> None:
        """Print the line."""
        line = shown(" ".join(self.format_message().split()))
        click.echo(f"{click.style('error:', fg='red')} {line}", file=file, err=file is None)


def refusal_of(error: OrchestratorError | TimeoutError) -> Refusal:
    """Return how the commands say `error`."""
    is_wrong = isinstance(error, UsageError) and not isinstance(error, _ANSWERS)
    return Refusal(str(error), EXIT_WRONG if is_wrong else EXIT_NO)


def worded(command: Callable[P, R]) -> Callable[P, R]:
    """Return `command` with the product's errors turned into lines; other exceptions pass."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (OrchestratorError, TimeoutError) as error:
            raise refusal_of(error) from error

    return wrapper
