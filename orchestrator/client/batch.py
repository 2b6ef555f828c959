"""One act for every run that a filter takes: counted first, at a bounded rate, safe to repeat.

B1  Each request carries an id made of the batch's, the verb and the run's: the same batch again
    changes nothing for a run that has it, and goes on where it was interrupted; another verb, or
    another signal, under the batch's id is another request.  An open run is named by the first one
    of its chain, which may have gone on since.  Runs that a batch of resets has made are none of
    its business.
B2  A request names its run: a later run of the id is not touched.
B3  One run that cannot take it does not stop the others; a store that does not answer does.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

from orchestrator.client import listing, messages, resets
from orchestrator.client.filters import All, Comparison, Filter
from orchestrator.client.ids import new_request_id
from orchestrator.client.listing import Found
from orchestrator.client.messages import Target
from orchestrator.client.port import run_in_place
from orchestrator.client.resets import ResetHow, ResetOptions, ResetPlan
from orchestrator.client.session import Session
from orchestrator.core.errors import (
    OrchestratorError,
    RunClosed,
    RunNotFound,
    StoreUnavailable,
    UsageError,
)
from orchestrator.core.limits import BATCH_RPS_DEFAULT
from orchestrator.core.values import Json

#: Characters of a batch's id: it is part of the id of every request.
BATCH_ID_CHARS_MAX = 64

#: Does it to one run: session, run, the request's id, and what the verb is told.
Act = Callable[[Session, Target, str, Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What a batch does to each run.  `only_open`: runs that have ended are left out."""

    act: Act
    only_open: bool = True


async def _cancel(session: Session, target: Target, request: str, told: Mapping[str, Any]) -> None:
    await messages.cancel(session, target, told["reason"], request)


async def _terminate(
    session: Session, target: Target, request: str, told: Mapping[str, Any]
) -> None:
    await messages.terminate(session, target, told["reason"], request)


async def _signal(session: Session, target: Target, request: str, told: Mapping[str, Any]) -> None:
    await messages.signal(session, target, told["name"], told["payload"], request)


async def _reset(session: Session, target: Target, request: str, told: Mapping[str, Any]) -> None:
    # Begun again, the batch meets the runs that it has made.
    await resets.reset(session, target, told["options"], request, told["batch"])


#: A further verb is a line here, and a command in `cli.batch`.
VERBS: dict[str, Verb] = {
    "cancel": Verb(act=_cancel),
    "terminate": Verb(act=_terminate),
    "signal": Verb(act=_signal),
    "reset": Verb(act=_reset, only_open=False),
}


@dataclass(slots=True, kw_only=True)
class BatchReport:
    """What became of a batch.

    Args:
        id: The same id again goes on with the same batch.
        matched: Runs that the filter took.
        done: Runs that were told.
        ended: Runs that had ended by the time they were to be told.
        failed: Reason by run, "<workflow id> run <number>".
        interrupted: Why the rest was not tried, or "".
    """

    id: str
    matched: int = 0
    done: int = 0
    ended: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: str = ""

    def __bool__(self) -> bool:
        return not self.failed and not self.interrupted

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return {
            "batch_id": self.id,
            "matched": self.matched,
            "done": self.done,
            "ended": self.ended,
            "failed": dict(self.failed),
            "interrupted": self.interrupted,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a batch is carried out: its id, and requests a second."""

    id: str = field(default_factory=new_request_id)
    rps: float = BATCH_RPS_DEFAULT

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not 0 < len(self.id) <= BATCH_ID_CHARS_MAX:
            raise UsageError(f"a batch's id is a text of 1 to {BATCH_ID_CHARS_MAX} characters")
        if not self.rps > 0:
            raise UsageError(f"rps {self.rps}: a number of requests a second above 0 is wanted")


async def matched(session: Session, verb: str, wanted: Filter) -> list[Found]:
    """Return the runs that the batch is about, newest first: a dry run."""
    if VERBS[verb].only_open:
        wanted = All((wanted, Comparison(name="CloseTime", operator="IS NULL")))
    return await listing.find(session, wanted)


async def run_batch(
    session: Session,
    verb: str,
    wanted: Filter,
    told: Mapping[str, Any],
    options: BatchOptions,
) -> BatchReport:
    """Do it to every run that the filter takes now, and return what became of it.

    Raises:
        StoreUnavailable: The runs could not be listed; nothing was done.
    """
    report = BatchReport(id=options.id)
    runs = await matched(session, verb, wanted)
    report.matched = len(runs)
    what = f"{verb}:{told['name']}" if "name" in told else verb
    requests = f"batch:{options.id}:{what}:"
    told = {**told, "batch": requests}
    for number, found in enumerate(runs):
        if number:
            await session.pause(1 / options.rps)
        target = Target(workflow_id=found.workflow_id, run=found.run)
        try:
            request = f"{requests}{found.workflow_id}.{await _named(session, verb, found)}"
            await VERBS[verb].act(session, target, request, told)
        except (RunClosed, RunNotFound):
            report.ended += 1
        except StoreUnavailable as error:
            report.interrupted = str(error)
            break
        except (OrchestratorError, TimeoutError) as error:
            report.failed[f"{found.workflow_id} run {found.run}"] = str(error)
        else:
            report.done += 1
    return report


async def _named(session: Session, verb: str, found: Found) -> int:
    """Return the number of the run that the request's id names (B1)."""
    if not VERBS[verb].only_open:
        return found.run  # Several runs of one chain may be asked.
    row = await session.resend(lambda: session.store.find_row(found.workflow_id)) or {}
    return int(row.get("first") or found.run) if row.get("run") == str(found.run) else found.run


class Batch:
    """The same for plain code: ``orc.batch("customer = 'ana'").cancel("closed account")``.

    Args:
        open_session: The app's way to the store.
        wanted: Which runs.
        options: See `BatchOptions`.
    """

    def __init__(
        self, open_session: Callable[[], Session], wanted: Filter, options: BatchOptions
    ) -> None:
        self._open_session = open_session
        self._wanted = wanted
        self.options = options

    def matched(self, verb: str = "cancel") -> list[Found]:
        """See `matched`."""
        return run_in_place(matched(self._open_session(), verb, self._wanted))

    def cancel(self, reason: str) -> BatchReport:
        """Ask every open run of them to stop."""
        return self.run("cancel", {"reason": reason})

    def terminate(self, reason: str) -> BatchReport:
        """End every open run of them."""
        return self.run("terminate", {"reason": reason})

    def signal(self, name: str, payload: Any = None) -> BatchReport:
        """Send every open run of them a signal, each once."""
        return self.run("signal", {"name": name, "payload": payload})

    def reset(self, at: int | str, **how: Unpack[ResetHow]) -> BatchReport:
        """Let the next run of each of their ids go on from an event; see `resets.reset`."""
        return self.run("reset", {"options": ResetOptions(at=at, **how)})

    def plan_reset(self, found: Found, options: ResetOptions) -> ResetPlan:
        """Return what `reset` would do to one of them; see `resets.plan`."""
        target = Target(workflow_id=found.workflow_id, run=found.run)
        return run_in_place(resets.plan(self._open_session(), target, options))

    def run(self, verb: str, told: Mapping[str, Any]) -> BatchReport:
        """See `run_batch`."""
        work = run_batch(self._open_session(), verb, self._wanted, told, self.options)
        return run_in_place(work)
