"""The facts in a history, and their bytes.

Three families, told apart by what they do on replay:

* **Inputs** start an activation: one input is applied, the loop is drained.
* **Commands** are what an activation issued, in the form in which they are recorded, stamped with
  the activation's time; replay compares issued with recorded, in their order.
* **Notes** are recorded for people and for the ledger; replay of the code passes over them.

E1  An event never changes once recorded; a new meaning is a new field with a default, or a type.
E2  Every event carries ``at_ms``, the store's clock; it never decreases within a history, but for
    commands that a blocked run owed: they follow late, and carry their activation's time.
E3  Fields marked `_untold` are not compared on replay: changing a retry policy, a text or a queue
    does not block a run.  Everything else is.
"""

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeAlias, Union

from orchestrator.core.failure import Failure
from orchestrator.core.values import Json, canonical


def _untold(default: Any = MISSING, factory: Any = MISSING) -> Any:
    if factory is not MISSING:
        return field(default_factory=factory, compare=False)
    return field(default=default, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact in a history.  `at_ms` is the store's clock when the owner recorded it."""

    at_ms: int


# --- inputs ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The first event of every history.

    `flags` are the numbered decisions of the engine that this run was born with (S9); `seed` feeds
    the run's random numbers and never changes; `fingerprint` is the digest of its source.  `parent`
    is {} or ``{"workflow": id, "run": number, "child": number}``: who ordered it.  A run that
    continues another names the one before it and the first of the chain, and `seen`: digests of
    the ids of signals and updates that the chain has taken lately, and `watchers`: who waits for
    its end.
    `search_attributes`, `memo`, `summary` and `details`: see `core.search_attributes`.
    `is_pinned`: whoever started it named the version; see `core.versions`.
    """

    workflow: str
    version: str = ""
    args: list[Json] = field(default_factory=list)
    kwargs: dict[str, Json] = field(default_factory=dict)
    seed: str
    flags: list[int] = field(default_factory=list)
    fingerprint: str = ""
    engine: str = ""
    python: str = ""
    request_id: str = ""
    parent: dict[str, Json] = field(default_factory=dict)
    continued_from: int = 0
    first_run: int = 0
    seen: list[str] = field(default_factory=list)
    watchers: list[dict[str, Json]] = field(default_factory=list)
    search_attributes: dict[str, Json] = field(default_factory=dict)
    memo: dict[str, Json] = field(default_factory=dict)
    summary: str = ""
    details: str = ""
    #: {} or ``{"schedule": id, "at_ms": instant}``: which schedule started it, and for when.
    scheduled: dict[str, Json] = field(default_factory=dict)
    is_pinned: bool = False
    #: See `core.deadlines`; 0 for none.
    run_timeout_ms: int = 0
    execution_deadline_at_ms: int = 0
    #: Cancelled or terminated before it began: what asks for that follows, and no code of it runs.
    is_withdrawn: bool = False
    #: {} or `Retry.as_json`, and which attempt this run is; see `core.run_retry`.
    retry: dict[str, Json] = field(default_factory=dict)
    attempt: int = 1
    #: See `core.last_ends`.  A large result is a reference, as in `StepCompleted`.
    has_last_result: bool = False
    last_result: Json = None
    last_failure: dict[str, Json] = field(default_factory=dict)
    headers: dict[str, Json] = field(default_factory=dict)  #: see `core.interceptors`


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompleted(Event):
    """A step's result.  A large one is a reference, `core.blobs.BlobRef` as JSON."""

    step: int
    attempt: int
    result: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(Event):
    """A step had its last attempt.

    `kind` is one of "failed" (the body raised), "timed_out", "lost" (its worker died) and
    "cancelled".  `may_have_run` is False only where it is certain that no attempt took effect.
    """

    step: int
    attempt: int
    kind: str
    failure: Failure
    may_have_run: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStarted(Event):
    """A child that was ordered through `workflow.child.start` has begun, as run `run` of its id."""

    child: int
    run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCompleted(Event):
    """A child's result.  A large one is a reference, as in `StepCompleted`."""

    child: int
    run: int
    result: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFailed(Event):
    """A child ended without a result.

    `kind` is one of "failed", "cancelled" and "terminated"; or "refused": it never began, as
    another run with its id was open; `run` is 0 then; or "completed": its result was shredded
    before this run had it.
    """

    child: int
    run: int
    kind: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTimesComputed(Event):
    """The next instants of a schedule: pairs of the instant and when it is due.

    `missed` of those asked about were older than the catch-up window.  `problem` says why the spec
    has no instants that can be computed, or is "".
    """

    request: int
    times: list[list[int]] = field(default_factory=list)
    missed: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired(Event):
    """A timer is due."""

    timer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Event):
    """A signal; recorded before anyone asks for it.  `signal_id` makes a repeated one harmless."""

    signal: str
    signal_id: str
    payload: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReceived(Event):
    """An update; what the workflow makes of it follows as commands.

    `update_id` makes a repeated one harmless.
    """

    update: str
    update_id: str
    args: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCompleted(Event):
    """What another run was told has reached it, or its result is there; see `core.externals`.

    `run` is which run of the id that was.  A large result is a reference, as in `StepCompleted`.
    """

    external: int
    run: int
    result: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFailed(Event):
    """What another run was to be told did not reach it, or it ended without a result.

    `kind` is one of "not_found", "closed", "rejected" (its signals are declared, and this is none
    of them), or how the run ended: "failed", "cancelled", "terminated", or "completed" where its
    result was shredded before this run had it.
    """

    external: int
    run: int
    kind: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitGranted(Event):
    """A permit is the run's, or a slot of a rate: from `go_at_ms` on it may go; see `core.permits`.

    `fence` grows with each permit of a key; a slot has none.
    """

    permit: int
    fence: int = 0
    go_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody asks the run to stop; its code may clean up."""

    reason: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateRequested(Event):
    """Somebody ends the run: no further code of it runs, except for compensations."""

    reason: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut(Event):
    """The run's time was over at `due_at_ms`: by `kind` "run" or "execution"; `core.deadlines`."""

    kind: str
    due_at_ms: int


Input: TypeAlias = Union[
    RunStarted,
    StepCompleted,
    StepFailed,
    ChildStarted,
    ChildCompleted,
    ChildFailed,
    ScheduleTimesComputed,
    TimerFired,
    SignalReceived,
    UpdateReceived,
    ExternalCompleted,
    ExternalFailed,
    PermitGranted,
    CancelRequested,
    TerminateRequested,
    RunTimedOut,
]


# --- commands ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StepScheduled(Event):
    """A step was ordered; attempt 1 is on its way.

    `undo` names the task that compensates it: recorded before the step can take effect.
    `compensates` is the number of the step that this one undoes.  `args` is left as given, or a
    blob's reference; replay compares `args_digest`, the digest of ``[args, kwargs]`` as ordered.
    """

    step: int
    task: str
    args_digest: str
    args: Json = _untold(factory=list)
    kwargs: Json = _untold(factory=dict)
    options: dict[str, Json] = _untold(factory=dict)
    undo: str | None = _untold(None)
    compensates: int | None = None
    saga: int | None = None
    summary: str = _untold("")
    headers: dict[str, Json] | None = _untold(None)  #: None for the run's own


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCancelRequested(Event):
    """The workflow no longer wants a step; what became of it follows as an input."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildScheduled(Event):
    """A run of another workflow was ordered, under `id`.

    `args` is left as given, or a blob's reference; replay compares `args_digest`, as in
    `StepScheduled`.  `parent_close_policy`: see `core.children`.  `announced`: a `ChildStarted` is
    wanted.
    """

    child: int
    workflow: str
    id: str
    args_digest: str
    args: Json = _untold(factory=list)
    kwargs: Json = _untold(factory=dict)
    parent_close_policy: str = _untold("terminate")
    scheduled: dict[str, Json] = _untold(factory=dict)
    #: What its START says beside its input: time-outs, retry.
    said: dict[str, Json] = _untold(factory=dict)
    announced: bool = False
    headers: dict[str, Json] | None = _untold(None)  #: None for the run's own


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCancelRequested(Event):
    """The workflow asks a child to stop; what became of it follows as an input.

    With an `external` number the child says that it has the request, as in `ExternalCancelSent`.
    """

    child: int
    terminate: bool = False
    external: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTimesRequested(Event):
    """A schedule asks for its next `count` instants after `after_ms`; they follow as an input.

    Those up to `missed_until_ms` are only counted.
    """

    request: int
    schedule: str
    spec: dict[str, Json] = field(default_factory=dict)
    after_ms: int
    missed_until_ms: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerStarted(Event):
    """A durable wake-up; due `duration_ms` after the activation's time."""

    timer: int
    duration_ms: int
    due_at_ms: int = _untold(0)
    summary: str = _untold("")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerCancelled(Event):
    """A timer is no longer wanted."""

    timer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorOpened(Event):
    """The workflow asked for the random numbers of `name`; `probe` is what numpy draws here."""

    name: str
    scheme: str
    probe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorDrawn(Event):
    """Where the stream of `name` stands, after an activation that drew from it.

    `words`: how many of 64 bits were drawn since it was opened, or reseeded.  `digest`: of all that
    decides what comes next; see `generators.position`.
    """

    name: str
    words: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchMarked(Event):
    """The run takes the new branch of `patch` from `activation` on; see `core.patches`.

    One that is `deprecated` may be missing in the code: nothing asks for the patch any more.
    `is_late`: the run was told before that the patch is off, and took the old branch.
    """

    patch: str
    activation: int
    deprecated: bool = _untold(False)  # noqa: FBT003 - a field's default
    is_late: bool = _untold(False)  # noqa: FBT003


@dataclass(frozen=True, slots=True, kw_only=True)
class SideEffectRecorded(Event):
    """What a function outside of the workflow returned; see `core.side_effects`."""

    side_effect: int
    value: Json = _untold(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRefused(Event):
    """The workflow asked for a signal and could not take the payload it found; it waits on."""

    signal_id: str
    signal: str
    reason: str = _untold("")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAccepted(Event):
    """The workflow takes an update; its handler runs."""

    update: str
    update_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRejected(Event):
    """The workflow does not take an update: no handler, arguments, or its validator says no."""

    update: str
    update_id: str
    reason: str = _untold("")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCompleted(Event):
    """An update's handler returned.  A large result is a reference, as in `StepCompleted`."""

    update_id: str
    result: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFailed(Event):
    """A failure left an update's handler; the run goes on."""

    update_id: str
    failure: Failure = _untold()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSignalSent(Event):
    """The workflow signals run `run` of another id; 0 is whichever is open."""

    external: int
    id: str
    signal: str
    payload_digest: str
    run: int = 0
    payload: Json = _untold(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCancelSent(Event):
    """The workflow asks run `run` of another id to stop; 0 is whichever is open."""

    external: int
    id: str
    run: int = 0
    reason: str = _untold("")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalResultAwaited(Event):
    """The workflow waits for the end of run `run` of another id; 0 is the latest."""

    external: int
    id: str
    run: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitRequested(Event):
    """The workflow asks for a permit of `key` ("permit"), or for a slot of its rate ("rate")."""

    permit: int
    key: str
    kind: str
    limit: int = _untold(1)
    per_ms: int = _untold(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitReleased(Event):
    """The workflow gives a permit back, or no longer waits for it."""

    permit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationStarted(Event):
    """A saga begins to undo `steps`, in this order."""

    saga: int
    steps: list[int]
    reason: str = _untold("")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationCompleted(Event):
    """A saga has undone all it had to."""

    saga: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaCommitted(Event):
    """The point of no return: from here on the saga is driven forward."""

    saga: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAttributesUpserted(Event):
    """The workflow says what it is found by; null removes.  See `core.search_attributes`."""

    attributes: dict[str, Json] = _untold(factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoUpserted(Event):
    """The workflow keeps something for its readers; null removes."""

    memo: dict[str, Json] = _untold(factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentDetailsSet(Event):
    """The workflow tells people where it stands."""

    details: str = _untold("")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Event):
    """The workflow returned."""

    result: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """A failure left the workflow, or its time was over.

    `retry_at_ms`: when the next attempt begins, as the id's next run; 0 for none.
    """

    failure: Failure = _untold()
    retry_at_ms: int = _untold(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled(Event):
    """The workflow ended by the cancellation that was asked for."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerminated(Event):
    """The run was ended from outside; its compensations are through."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContinuedAsNew(Event):
    """The run ended, and the next run of its id goes on in its place, with this input.

    `args` is left as given, or a blob's reference; replay compares `args_digest`.  Signals that
    went over unread are the first that the next run receives.
    """

    workflow: str
    args_digest: str
    args: Json = _untold(factory=list)
    kwargs: Json = _untold(factory=dict)


Command: TypeAlias = Union[
    StepScheduled,
    StepCancelRequested,
    ChildScheduled,
    ChildCancelRequested,
    ScheduleTimesRequested,
    TimerStarted,
    TimerCancelled,
    GeneratorOpened,
    GeneratorDrawn,
    PatchMarked,
    SideEffectRecorded,
    SignalRefused,
    UpdateAccepted,
    UpdateRejected,
    UpdateCompleted,
    UpdateFailed,
    ExternalSignalSent,
    ExternalCancelSent,
    ExternalResultAwaited,
    PermitRequested,
    PermitReleased,
    CompensationStarted,
    CompensationCompleted,
    SagaCommitted,
    SearchAttributesUpserted,
    MemoUpserted,
    CurrentDetailsSet,
    RunCompleted,
    RunFailed,
    RunCancelled,
    RunTerminated,
    RunContinuedAsNew,
]


# --- notes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAttemptFailed(Event):
    """An attempt is over and another one follows at `retry_at_ms`; `kind` as in `StepFailed`."""

    step: int
    attempt: int
    kind: str
    failure: Failure
    retry_at_ms: int
    may_have_run: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRetried(Event):
    """Attempt `attempt` is on its way."""

    step: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResent(Event):
    """Nobody had claimed the attempt; its message was sent once more, for the `resend`-th time."""

    step: int
    attempt: int
    resend: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParked(Event):
    """A step that must not be given up has had its last attempt: a person has to decide."""

    step: int
    attempt: int
    kind: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUnparked(Event):
    """A person decided about a parked step: "retry", "skip" or "done", and why.

    "retry" sends `attempt`; after "skip" and "done" a `StepCompleted` follows.
    """

    step: int
    attempt: int
    decision: str
    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPaused(Event):
    """A person holds a step back: no attempt follows `attempt`, which goes on if it runs."""

    step: int
    attempt: int
    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUnpaused(Event):
    """A person lets a step go on: `attempt` is sent at once, unless it runs already."""

    step: int
    attempt: int
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReset(Event):
    """A person begins a step's attempts anew: its retry policy counts `attempt` as the first."""

    step: int
    attempt: int
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRefused(Event):
    """An outcome came for an attempt that was already given up; it changed nothing."""

    step: int
    attempt: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRejected(Event):
    """A signal that the run cannot take: unknown name, or a payload that does not validate."""

    signal: str
    signal_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherAdded(Event):
    """Another run waits for the end of this one, and is told of it: workflow, run, external."""

    watcher: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected(Event):
    """A request other than a signal that made no sense in this state of the run."""

    request: str
    reason: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBlocked(Event):
    """The run rests until fitting code is deployed; its inputs are recorded meanwhile.

    `kind` is "nondeterminism", "bug", "forbidden", "deadline", "unknown_workflow", "limit" or
    "newer_engine".
    For a nondeterminism `recorded` and `issued` show both sides; `where` is the source line.
    """

    kind: str
    message: str
    recorded: str = ""
    issued: str = ""
    where: str = ""
    traceback: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUnblocked(Event):
    """The run moves again."""

    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryCopied(Event):
    """The events before this one, `event` of them, are copies; the last was made by `run` of `id`.

    Whoever asked for it made the run go on from there; see `core.resetting`.  What follows is of
    this run alone: its chain, and who is told of its end (as in `RunStarted`), and how long its
    deadlines stood still.
    """

    id: str
    run: int
    event: int
    reason: str = ""
    by: str = ""
    request_id: str = ""
    continued_from: int = 0
    first_run: int = 0
    seen: list[str] = field(default_factory=list)
    watchers: list[dict[str, Json]] = field(default_factory=list)
    parent: dict[str, Json] = field(default_factory=dict)
    stood_still_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReset(Event):
    """The run was ended from outside: the next run of its id goes on from `event` of this one.

    The one ending that no code comes to, so that replay passes over it.
    """

    event: int
    reason: str = ""
    by: str = ""
    request_id: str = ""


Note: TypeAlias = Union[
    StepAttemptFailed,
    StepRetried,
    StepResent,
    StepParked,
    StepUnparked,
    StepPaused,
    StepUnpaused,
    StepReset,
    OutcomeRefused,
    SignalRejected,
    WatcherAdded,
    RequestRejected,
    RunBlocked,
    RunUnblocked,
    HistoryCopied,
    RunReset,
]

INPUTS: tuple[type[Event], ...] = Input.__args__  # type: ignore[attr-defined]
COMMANDS: tuple[type[Event], ...] = Command.__args__  # type: ignore[attr-defined]
NOTES: tuple[type[Event], ...] = Note.__args__  # type: ignore[attr-defined]
ENDINGS = (RunCompleted, RunFailed, RunCancelled, RunTerminated, RunContinuedAsNew, RunReset)

_TYPES: dict[str, type[Event]] = {kind.__name__: kind for kind in (*INPUTS, *COMMANDS, *NOTES)}


class _Frame:
    """How one type of event is written and read; worked out once per type."""

    __slots__ = ("defaults", "has_failure", "names")

    def __init__(self, kind: type[Event]) -> None:
        self.names = tuple(part.name for part in fields(kind))
        self.defaults = {
            part.name: part.default_factory()
            if part.default_factory is not MISSING
            else part.default
            for part in fields(kind)
        }
        self.has_failure = "failure" in self.names


_FRAMES = {kind: _Frame(kind) for kind in _TYPES.values()}


def encode(event: Event) -> bytes:
    """Return the canonical bytes of `event`; fields at their default are left out.

    Raises:
        TypeError, ValueError: A value that is not JSON.
    """
    frame = _FRAMES[type(event)]
    data: dict[str, Json] = {"type": type(event).__name__}
    for name in frame.names:
        value = getattr(event, name)
        if value != frame.defaults[name] or frame.defaults[name] is MISSING:
            data[name] = value.as_json() if isinstance(value, Failure) else value
    return canonical(data)


def decode(data: dict[str, Json]) -> Event:
    """Return the event in `data`, the parsed JSON of one history entry.

    Raises:
        ValueError: A type of event that this version does not know, or parts that do not fit it:
            the history was written by a newer orchestrator, or was tampered with.
    """
    parts = dict(data)
    name = parts.pop("type", None)
    kind = _TYPES.get(str(name))
    if kind is None:
        raise ValueError(f"unknown event type {name!r}; was it written by a newer version?")
    try:
        if _FRAMES[kind].has_failure:
            parts["failure"] = Failure.from_json(parts["failure"])  # type: ignore[arg-type, assignment]
        return kind(**parts)  # type: ignore[arg-type]
    except (TypeError, KeyError) as error:
        sealed = "they are sealed, and this process has no payload codec"
        why = sealed if "$sealed" in parts else str(error)
        raise ValueError(f"{name} event with parts that do not fit: {why}") from error
