"""Options of a start: what the run is found by, and what people read of it."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from orchestrator.cli.errors import EXIT_WRONG, Refusal
from orchestrator.client.start_options import StartSettings
from orchestrator.core.retry import Retry
from orchestrator.core.start_policies import IdConflictPolicy, IdReusePolicy
from orchestrator.core.values import Json


def said_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `settings_of` takes."""
    for option in (
        click.option("--details", default="", help="A page for people."),
        click.option(
            "--id-conflict-policy",
            "conflict_policy",
            type=click.Choice([policy.value for policy in IdConflictPolicy]),
            default=IdConflictPolicy.FAIL.value,
            show_default=True,
            help="While a run of the id is open.",
        ),
        click.option(
            "--id-reuse-policy",
            "reuse_policy",
            type=click.Choice([policy.value for policy in IdReusePolicy]),
            default=IdReusePolicy.ALLOW_DUPLICATE.value,
            show_default=True,
            help="Whether the id may have a run after one that has ended.",
        ),
        click.option(
            "--retry-attempts",
            type=click.IntRange(1),
            help="Runs in all, as long as they fail; with waits that grow.",
        ),
        *(
            click.option(f"--{name}", type=float, metavar="SECONDS", help=words)
            for name, words in (
                ("execution-timeout", "How long runs may last in all that continue each other."),
                ("run-timeout", "How long the run may last."),
                ("start-delay", "How long it waits before it begins."),
            )
        ),
        click.option("--summary", default="", help="One line for people."),
        click.option(
            "--memo",
            "memos",
            multiple=True,
            metavar="NAME=JSON",
            help="Kept with the run, not searched; repeat it for more.",
        ),
        click.option(
            "--search-attribute",
            "attributes",
            multiple=True,
            metavar="NAME=VALUE",
            help="JSON, an instant such as 2026-11-25T20:00:00Z, or else a text; repeat for more.",
        ),
    ):
        command = option(command)
    return command


def settings_of(
    *, attributes: Sequence[str], memos: Sequence[str], **settings: Any
) -> StartSettings:
    """Return the settings that the options say.

    Raises:
        Refusal: A memo that is no JSON, or a value without a name.
    """
    more: dict[str, Any] = {
        name: timedelta(seconds=settings[name])
        for name in ("run_timeout", "execution_timeout", "start_delay")
        if settings[name] is not None
    }
    if settings["retry_attempts"] is not None:
        more["retry"] = Retry(attempts=settings["retry_attempts"])
    said: StartSettings = {
        "search_attributes": {
            name: _value(text) for name, text in map(_pair("--search-attribute"), attributes)
        },
        "memo": {name: _json(name, text) for name, text in map(_pair("--memo"), memos)},
        "summary": settings["summary"],
        "details": settings["details"],
        "id_reuse_policy": settings["reuse_policy"],
        "id_conflict_policy": settings["conflict_policy"],
    }
    said.update(more)  # type: ignore[typeddict-item]
    return said


def _pair(option: str) -> Callable[[str], tuple[str, str]]:
    def split(text: str) -> tuple[str, str]:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise Refusal(f"{option} {text[:80]!r}: NAME=VALUE is wanted", EXIT_WRONG)
        return name, value

    return split


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        at = _instant(text)
        return text if at is None else at


def _instant(text: str) -> datetime | None:
    # With a zone only: what merely looks like a day is more often a name than an instant.
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else found


def _json(name: str, text: str) -> Json:
    try:
        value: Json = json.loads(text)
    except ValueError as error:
        reason = f"--memo {name}: not JSON: {error}; a text is put in quotes"
        raise Refusal(reason, EXIT_WRONG) from error
    return value
