"""Every exception the orchestrator raises, in one tree, by what the caller does about it.

OrchestratorError             base; caught only at a process boundary
├── UsageError                fix it: the caller's code, input or configuration is wrong
│   ├── ConfigurationError    the store, the broker or a setting does not fit
│   ├── InvalidWorkflowId     the id cannot be part of a key
│   ├── InvalidPayload        input, signal or query argument that does not validate
│   ├── InvalidFilter         a filter over runs that says nothing; names the place
│   ├── PayloadTooLarge       JSON beyond its bound
│   ├── UnknownWorkflow       no workflow of that name in this app
│   ├── UnknownQuery          the workflow has no query of that name
│   ├── WorkflowUpdateRejected  the workflow does not take the update; nothing else was changed
│   ├── RunNotFound           no run with this id
│   ├── RunExists             a run with this id is open
│   │   └── DuplicateRun      the id has had its run, and its reuse was not allowed
│   ├── RunClosed             the run has ended; it takes no more messages
│   ├── ResetRefused          no run can go on from that event of a history
│   ├── StepClosed            the attempt is over, or was given up; it takes no outcome
│   ├── HistoryFileError      an exported history that is damaged, or none at all
│   ├── WorkflowStuck         in a test: nothing can happen any more that would end the run
│   ├── ForbiddenInWorkflow   workflow code reached for clock, chance or I/O
│   └── NondeterminismError   replay disagreed with history; the run is blocked, history is kept
├── WorkflowUpdateFailed      an accepted update ended without an answer; its failure is inside
├── WorkflowFailed            the run ended without a result; its failure is inside
├── ApplicationError          the application says no: fails the step or the run that raises it
├── StepError                 a step ended without a result, and has had its last attempt
│   ├── StepTimeout           one of its four time-outs
│   ├── StepLost              its worker died, every time
│   └── StepCancelled         cancelled or revoked
├── ChildWorkflowError        a child ended without a result, or could not begin
├── ExternalWorkflowError     another run could not be told, or ended without a result
├── ActivationFailed          the engine's own: the run is blocked, with the reason
├── PayloadSealed             stop: no key opens what is stored; shredded, or not here
├── StoreUnavailable          back off: no answer; what was asked may have happened
│   └── BlobUnavailable       put it back: a large value cannot be read
└── QueryTimeout              back off: no orchestrator answered in time

BaseExceptions, which user code's ``except Exception`` must not eat:
    ActivationInterrupted     the activation held the thread too long
    CompleteLater             the step's outcome comes later, from whoever has its token
    ContinueAsNew             the run is to go on as a new one
    RunEvicted                the run leaves memory; its coroutines are closed

Celery and pickle rebuild an exception as ``cls(*exc.args)``.  So each class hands its own
arguments, in order, to ``super().__init__`` and words the message in ``__str__``;
``tests/core/test_errors.py`` round-trips every class.
"""

from datetime import timedelta

from orchestrator.core.failure import Failure
from orchestrator.core.values import Json


class OrchestratorError(Exception):
    """Base of all.  Catch it at a process boundary only."""


class UsageError(OrchestratorError):
    """The caller's code, input or configuration is wrong: fix it, never retry."""


class ConfigurationError(UsageError):
    """A store, broker or setting that cannot work; says what was found and wanted."""

    def __init__(self, subject: str, found: str, wanted: str) -> None:
        super().__init__(subject, found, wanted)
        self.subject = subject
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.subject}: found {self.found}; {self.wanted}"


class InvalidWorkflowId(UsageError):
    """A workflow id that cannot be part of keys and task ids."""

    def __init__(self, workflow_id: str, reason: str) -> None:
        super().__init__(workflow_id, reason)
        self.workflow_id = workflow_id
        self.reason = reason

    def __str__(self) -> str:
        return f"workflow id {self.workflow_id[:80]!r}: {self.reason}"


class InvalidPayload(UsageError):
    """Input, signal payload or query argument that does not validate; nothing was recorded."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)
        self.subject = subject
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.subject} does not validate: {self.reason}"


class InvalidFilter(UsageError):
    """A filter over runs, or the token of a page, that cannot be read; `at` counts from 1."""

    def __init__(self, filter: str, at: int, reason: str) -> None:
        super().__init__(filter, at, reason)
        self.filter = filter
        self.at = at
        self.reason = reason

    def __str__(self) -> str:
        begin = max(0, self.at - 21)
        near = self.filter[begin : self.at + 20]
        place = f"at character {self.at}, near {near!r}" if near else f"at character {self.at}"
        return f"filter, {place}: {self.reason}"


class PayloadTooLarge(UsageError):
    """JSON beyond its bound; nothing was recorded."""

    def __init__(self, subject: str, found_bytes: int, bytes_max: int) -> None:
        super().__init__(subject, found_bytes, bytes_max)
        self.subject = subject
        self.found_bytes = found_bytes
        self.bytes_max = bytes_max

    def __str__(self) -> str:
        return (
            f"{self.subject}: {self.found_bytes} bytes of JSON, at most {self.bytes_max} fit; "
            f"store the data elsewhere and pass its address"
        )


class UnknownWorkflow(UsageError):
    """No workflow of that name is registered in this app."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return f"no workflow is named {self.name!r} here; known: {', '.join(self.known) or 'none'}"


class UnknownQuery(UsageError):
    """The workflow answers no query of that name."""

    def __init__(self, workflow_id: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(workflow_id, name, known)
        self.workflow_id = workflow_id
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return (
            f"{self.workflow_id} answers no query {self.name!r}; "
            f"known: {', '.join(self.known) or 'none'}"
        )


class WorkflowUpdateRejected(UsageError):
    """The workflow does not take the update: its validator, or its handler's absence, says no."""

    def __init__(self, workflow_id: str, name: str, update_id: str, reason: str) -> None:
        super().__init__(workflow_id, name, update_id, reason)
        self.workflow_id = workflow_id
        self.name = name
        self.update_id = update_id
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.workflow_id} rejects update {self.name!r}: {self.reason}"


class RunNotFound(UsageError):
    """No run has this id."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"no run has the id {self.workflow_id!r}; was it started in this namespace?"


class RunExists(UsageError):
    """A run with this id is open; ids are free again once their run has ended."""

    def __init__(self, workflow_id: str, run: int, status: str) -> None:
        super().__init__(workflow_id, run, status)
        self.workflow_id = workflow_id
        self.run = run
        self.status = status

    def __str__(self) -> str:
        return (
            f"{self.workflow_id} is {self.status} as run {self.run}; "
            f"choose another id, or wait for its end"
        )


class DuplicateRun(RunExists):
    """No run of this id is open, but the start's reuse policy allows no further one."""

    def __init__(self, workflow_id: str, run: int, status: str, policy: str) -> None:
        UsageError.__init__(self, workflow_id, run, status, policy)
        self.workflow_id = workflow_id
        self.run = run
        self.status = status
        self.policy = policy

    def __str__(self) -> str:
        return (
            f"{self.workflow_id} is {self.status} as run {self.run}, and the start's "
            f"id_reuse_policy is {self.policy}; choose another id, or allow_duplicate"
        )


class RunClosed(UsageError):
    """The run has ended and takes no more messages."""

    def __init__(self, workflow_id: str, run: int, status: str) -> None:
        super().__init__(workflow_id, run, status)
        self.workflow_id = workflow_id
        self.run = run
        self.status = status

    def __str__(self) -> str:
        return f"{self.workflow_id} run {self.run} is {self.status}: it takes no more messages"


class ResetRefused(UsageError):
    """No run can go on from there; the text says why, and what to do instead."""


class StepClosed(UsageError):
    """The attempt that a token names is over or was given up: nothing more is taken from it."""

    def __init__(self, workflow_id: str, run: int, step: int, attempt: int) -> None:
        super().__init__(workflow_id, run, step, attempt)
        self.workflow_id = workflow_id
        self.run = run
        self.step = step
        self.attempt = attempt

    def __str__(self) -> str:
        return (
            f"{self.workflow_id} run {self.run}: nobody waits for attempt {self.attempt} at step "
            f"{self.step} any more; it is over or was given up, and a later attempt has a new token"
        )


class HistoryFileError(UsageError):
    """A file that holds no history, or not the one that was exported.  `line` 0 is the whole."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path = path
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}{f', line {self.line}' if self.line else ''}: {self.reason}"


class ForbiddenInWorkflow(UsageError):
    """Workflow code reached for clock, chance or I/O, which replay could not repeat.

    Raised where it happened, kept by the engine, and raised again after the activation: code
    that swallows it does not get away with it.
    """

    def __init__(self, call: str, instead: str) -> None:
        super().__init__(call, instead)
        self.call = call
        self.instead = instead

    def __str__(self) -> str:
        return f"{self.call} cannot be replayed inside a workflow: {self.instead}"


class NondeterminismError(UsageError):
    """Replay disagreed with history.  The run is blocked until fitting code is deployed."""

    def __init__(self, workflow_id: str, seq: int, recorded: str, issued: str, where: str) -> None:
        super().__init__(workflow_id, seq, recorded, issued, where)
        self.workflow_id = workflow_id
        self.seq = seq
        self.recorded = recorded
        self.issued = issued
        self.where = where

    def __str__(self) -> str:
        return (
            f"{self.workflow_id}: at event {self.seq} history has {self.recorded}, "
            f"the code asks for {self.issued} ({self.where or 'no source line'}); "
            f"deploy code that fits the history, or guard the change with a patch"
        )


class WorkflowUpdateFailed(OrchestratorError):
    """An update that was accepted ended without an answer.

    `status` is "failed" (a failure left its handler), or "unfinished" (the run ended first).
    """

    def __init__(
        self, workflow_id: str, name: str, update_id: str, status: str, failure: Failure
    ) -> None:
        super().__init__(workflow_id, name, update_id, status, failure)
        self.workflow_id = workflow_id
        self.name = name
        self.update_id = update_id
        self.status = status
        self.failure = failure

    def __str__(self) -> str:
        return (
            f"update {self.name!r} of {self.workflow_id} {self.status}: "
            f"{self.failure.type}: {self.failure.message}"
        )


class WorkflowStuck(UsageError):
    """In a test, a run was waited for, and nothing can happen any more that would end it.

    `waits` says what it waits for, one line each: provide it before you ask for the result.
    """

    def __init__(self, workflow_id: str, status: str, why: str, waits: tuple[str, ...]) -> None:
        super().__init__(workflow_id, status, why, waits)
        self.workflow_id = workflow_id
        self.status = status
        self.why = why
        self.waits = waits

    def __str__(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.waits)
        return f"{self.workflow_id} is {self.status}, and {self.why}; it waits for:{lines}"


class WorkflowFailed(OrchestratorError):
    """The run ended without a result: failed, cancelled or terminated."""

    def __init__(self, workflow_id: str, run: int, status: str, failure: Failure | None) -> None:
        super().__init__(workflow_id, run, status, failure)
        self.workflow_id = workflow_id
        self.run = run
        self.status = status
        self.failure = failure

    def __str__(self) -> str:
        why = f": {self.failure.type}: {self.failure.message}" if self.failure else ""
        return f"{self.workflow_id} run {self.run} {self.status}{why}"


class ApplicationError(OrchestratorError):
    """The application's own failure; fails the step or the run that raises it.

    Args:
        message: For people.
        type: For policies and handlers; the class's name unless given.
        non_retryable: The answer is final.  A step that ends so has refused *for certain*: a
            saga does not undo it, unless an earlier attempt may have taken effect.
        next_retry_delay: Overrides the back-off before the next attempt.
        details: Any JSON value.
    """

    def __init__(
        self,
        message: str,
        type: str = "ApplicationError",
        non_retryable: bool = False,  # noqa: FBT001, FBT002 - rebuilt from args
        next_retry_delay: timedelta | None = None,
        details: object = None,
    ) -> None:
        super().__init__(message, type, non_retryable, next_retry_delay, details)
        self.message = message
        self.type = type
        self.non_retryable = non_retryable
        self.next_retry_delay = next_retry_delay
        self.details = details

    def __str__(self) -> str:
        return self.message


class StepError(OrchestratorError):
    """A step ended without a result.  Raised in workflow code, where the step was awaited."""

    def __init__(self, step: int, name: str, attempt: int, failure: Failure) -> None:
        super().__init__(step, name, attempt, failure)
        self.step = step
        self.name = name
        self.attempt = attempt
        self.failure = failure

    @property
    def type(self) -> str:
        """Name of the exception class, or of the failure's declared type, that ended the step."""
        return self.failure.type

    def __str__(self) -> str:
        return (
            f"step {self.step} {self.name}, attempt {self.attempt}: "
            f"{self.failure.type}: {self.failure.message}"
        )


class StepTimeout(StepError):
    """A step ran into one of its time-outs, named by the failure's `type`.

    The failure's `details` are what the last heartbeat left, if the attempt may have run.
    """


class StepLost(StepError):
    """A step's worker died, and its last attempt with it."""


class StepCancelled(StepError):
    """A step was cancelled or revoked before it gave a result."""


class ChildWorkflowError(OrchestratorError):
    """A child ended without a result.  Raised in workflow code, where the child was awaited.

    `status` is "failed", "cancelled" or "terminated", or "refused": another run with its id was
    open; or "completed" with a failure of type "PayloadSealed": its result was shredded before it
    was read.
    """

    def __init__(self, id: str, workflow: str, run: int, status: str, failure: Failure) -> None:
        super().__init__(id, workflow, run, status, failure)
        self.id = id
        self.workflow = workflow
        self.run = run
        self.status = status
        self.failure = failure

    @property
    def type(self) -> str:
        """Type of the failure that ended the child."""
        return self.failure.type

    def __str__(self) -> str:
        return (
            f"child {self.id} ({self.workflow}) {self.status}: "
            f"{self.failure.type}: {self.failure.message}"
        )


class ExternalWorkflowError(OrchestratorError):
    """Another run could not be told, or ended without a result.  Raised where that was awaited.

    `status` is "not_found", "closed" or "rejected" (a signal that it does not take); of an awaited
    result "not_found", "failed", "cancelled" or "terminated", or "completed" with a failure of type
    "PayloadSealed": the result was shredded before it was read.  `run` is 0 where there is none.
    """

    def __init__(self, id: str, run: int, status: str, failure: Failure) -> None:
        super().__init__(id, run, status, failure)
        self.id = id
        self.run = run
        self.status = status
        self.failure = failure

    @property
    def type(self) -> str:
        """Type of the failure."""
        return self.failure.type

    def __str__(self) -> str:
        return f"workflow {self.id} {self.status}: {self.failure.type}: {self.failure.message}"


class ActivationFailed(OrchestratorError):
    """An activation could not be carried out; the engine blocks the run and records why.

    `kind` is "nondeterminism", "bug", "forbidden", "deadline", "limit", "unknown_workflow" or
    "newer_engine".
    """

    def __init__(
        self,
        kind: str,
        message: str,
        where: str = "",
        traceback: str = "",
        recorded: str = "",
        issued: str = "",
    ) -> None:
        super().__init__(kind, message, where, traceback, recorded, issued)
        self.kind = kind
        self.message = message
        self.where = where
        self.traceback = traceback
        self.recorded = recorded
        self.issued = issued

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" + (f" ({self.where})" if self.where else "")


class PayloadSealed(OrchestratorError):
    """A payload cannot be opened here: its key was shredded, or this process does not have it."""

    def __init__(self, scope: str, reason: str) -> None:
        super().__init__(scope, reason)
        self.scope = scope
        self.reason = reason

    def __str__(self) -> str:
        return f"payloads of {self.scope} cannot be opened: {self.reason}"


class StoreUnavailable(OrchestratorError):
    """No answer from the store.  What was asked may or may not have happened."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(operation, reason)
        self.operation = operation
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation}: no answer from the store ({self.reason}); it may have happened"


class BlobUnavailable(StoreUnavailable):
    """A large value could not be read; whoever needs it goes on once it is there."""

    def __str__(self) -> str:
        return f"{self.operation}: {self.reason}"


class QueryTimeout(OrchestratorError):
    """No orchestrator answered a query in time."""

    def __init__(self, workflow_id: str, name: str, waited_ms: int) -> None:
        super().__init__(workflow_id, name, waited_ms)
        self.workflow_id = workflow_id
        self.name = name
        self.waited_ms = waited_ms

    def __str__(self) -> str:
        return (
            f"query {self.name!r} of {self.workflow_id}: no answer within {self.waited_ms} ms; "
            f"is an orchestrator running?"
        )


class ActivationInterrupted(BaseException):
    """The activation held the owner's thread too long; raised in it from outside."""


class ContinueAsNew(BaseException):
    """How `workflow.continue_as_new` leaves the workflow's code.

    Args:
        workflow: The type of the next run.
        args: Its positional input, as JSON.
        kwargs: Its input by name, as JSON.
    """

    def __init__(self, workflow: str, args: list[Json], kwargs: dict[str, Json]) -> None:
        super().__init__(workflow, args, kwargs)
        self.workflow = workflow
        self.arguments = args
        self.kwargs = kwargs

    def __str__(self) -> str:
        return f"the run goes on as a new run of {self.workflow}"


def continuation_in(error: BaseException | None) -> ContinueAsNew | None:
    """Return the continuation that `error` is, or that is all there is in a group of a TaskGroup.

    Where something else failed beside it, the run does not go on as if nothing had: see
    `beside_continuation`.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [continuation_in(member) for member in error.exceptions]
        return found[0] if all(found) else None
    return error if isinstance(error, ContinueAsNew) else None


def beside_continuation(error: BaseException) -> BaseException:
    """Return `error`; of a group in which something failed beside a continuation, what failed."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(ContinueAsNew)[1] or error
    return error


class CompleteLater(BaseException):
    """A body ends, and its step does not: see `orchestrator.step.complete_later`."""


class RunEvicted(BaseException):
    """The run leaves memory: its coroutines are closed and may order nothing."""
