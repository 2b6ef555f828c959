"""What the engine, the workers and the clients need from storage.  Contracts, no code.

Two implementations answer to the same contract tests in tests/store: the in-memory store and the
one on Redis or Valkey.  Each guarantees:

    H1  The events of a run are numbered 1, 2, 3, … without gap.
    H2  A commit lands whole or not at all.
    H3  A commit under a lease that is not held changes nothing.
    H4  A commit that does not follow the head it names changes nothing; so a commit that is sent
        twice lands once.
    H5  An inbox entry exists if and only if it is not yet history: the commit that records it
        removes it.
    H6  At most one worker holds a claim on an attempt; a claim, an outcome or a heartbeat for an
        attempt that is not current, or not the caller's, changes nothing.
    H7  A commit that gives an attempt up changes nothing unless the attempt's claim is still there
        and has expired (`given_up`), the attempt is current without an outcome (`unposted`), or
        current and unclaimed (`unclaimed`): an outcome that was acknowledged is never overtaken.
    H8  Of two starts with one id one wins; the other learns which run is open.
    H9  Every call may be repeated after a lost answer: the repetition changes nothing and says so.

Every call may raise `StoreUnavailable`: no answer, so what was asked may or may not have happened.
No implementation repeats a write by itself.

Instants are milliseconds of the store's own clock (Unix epoch): `now_ms` of the answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from orchestrator.core.values import Json
from orchestrator.store.index_ports import RunIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """One run of one workflow id; runs of an id are numbered from 1."""

    workflow_id: str
    run: int

    def __str__(self) -> str:
        return f"{self.workflow_id}.{self.run}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptKey:
    """One attempt at one step of a run; `step` and `attempt` count from 1."""

    workflow_id: str
    run: int
    step: int
    attempt: int

    @property
    def run_key(self) -> RunKey:
        """The run it belongs to."""
        return RunKey(workflow_id=self.workflow_id, run=self.run)

    def __str__(self) -> str:
        return f"{self.workflow_id}.{self.run}.{self.step}.{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> "AttemptKey":
        """Return the attempt that `str` wrote; a workflow id may itself contain dots.

        Raises:
            ValueError: Not such a text.
        """
        workflow_id, run, step, attempt = text.rsplit(".", 3)
        return cls(workflow_id=workflow_id, run=int(run), step=int(step), attempt=int(attempt))


class TimerKind(Enum):
    """What a due timer asks the owner to do."""

    SLEEP = "sleep"  #: fire workflow timer `number`
    RETRY = "retry"  #: start attempt `attempt` of step `number`
    UNCLAIMED = "unclaimed"  #: attempt not claimed yet: send its message again
    SCHEDULE_TO_START = "schedule_to_start"
    START_TO_CLOSE = "start_to_close"  #: set by the claim, not by a commit
    SCHEDULE_TO_CLOSE = "schedule_to_close"  #: of the whole step; `attempt` is 0
    HEARTBEAT = "heartbeat"  #: set by the claim, moved by each heartbeat
    RUN_TIMEOUT = "run_timeout"  #: the run's time is over; `number` and `attempt` are 0
    START = "start"  #: begin the run, whose start lies in its row; `number` and `attempt` are 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerKey:
    """One entry of the timer set.  `number` is a timer's or a step's; `attempt` 0 where none."""

    kind: TimerKind
    workflow_id: str
    run: int
    number: int
    attempt: int = 0

    @property
    def run_key(self) -> RunKey:
        """The run it belongs to."""
        return RunKey(workflow_id=self.workflow_id, run=self.run)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.workflow_id}.{self.run}.{self.number}.{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> "TimerKey":
        """Return the timer that `str` wrote.

        Raises:
            ValueError: Not such a text.
        """
        kind, _, rest = text.partition(":")
        workflow_id, run, number, attempt = rest.rsplit(".", 3)
        return cls(
            kind=TimerKind(kind),
            workflow_id=workflow_id,
            run=int(run),
            number=int(number),
            attempt=int(attempt),
        )


class Kind(Enum):
    """What an inbox entry is about."""

    START = "start"
    SIGNAL = "signal"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    OUTCOME = "outcome"  #: of an attempt
    LATE_OUTCOME = "late_outcome"  #: of an attempt that was already given up (H6)
    DECISION = "decision"  #: a person's, about a step
    QUERY = "query"
    CHILD = "child"  #: what became of a child, for its parent
    UPDATE = "update"
    WATCH = "watch"  #: another run waits for this one's end
    EXTERNAL = "external"  #: what became of something that this run asked of another
    RESET = "reset"  #: somebody lets the next run go on from an event of this one
    PERMIT = "permit"  #: one that is the run's now, or a slot of a rate
    PERMIT_REQUEST = "permit_request"  #: of letters alone, as is the next
    PERMIT_RELEASE = "permit_release"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEntry:
    """What arrived and is not yet history.  `id` orders the entries of a partition.

    `run` is 0 only where the entry was not written by a store's `post`.
    """

    id: str
    kind: Kind
    workflow_id: str
    run: int
    body: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event as it lies: number, canonical bytes, and the chain's head after it.

    `chained` are the bytes that the head is about where they are not `data` itself: whoever opened
    a sealed event leaves them there.  It `is_blank` if no key opened it.
    """

    seq: int
    data: bytes
    head: str
    chained: bytes | None = None
    is_blank: bool = False

    @property
    def recorded(self) -> bytes:
        """The bytes that lie in the store, and that the chain is computed over."""
        return self.data if self.chained is None else self.chained


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A Celery message, ready for the broker.

    `queue` is the broker's list (or routing) name, `body` the whole envelope as kombu writes it.
    """

    queue: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What one run has to say to another, wherever that one's partition is.

    Kept from the commit that writes it until it is delivered: perhaps twice, so that whoever gets
    it knows it again.  A START opens a run under `request`; every other kind is for run `run`, 0
    for whichever is open.
    """

    kind: Kind
    workflow_id: str
    run: int = 0
    request: str = ""
    body: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRun:
    """The run that goes on where a commit ends one, under the same id and the next number.

    `body` is what a START carries; it lies in the new run's row until the run begins.  Messages
    that name run `first_run` or a later one go to whichever run of the id is open.
    """

    workflow: str
    request: str
    first_run: int
    body: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """What workers may know of an outstanding step, written by the commit that sends it.

    Time-outs are milliseconds, 0 for none.  `local` is the token of the claim that the owner
    takes in the same commit, for a step that it runs itself; "" for one that a worker runs.
    """

    step: int
    attempt: int
    start_to_close_ms: int = 0
    heartbeat_ms: int = 0
    local: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One atomic change to one run, by the owner of its partition.

    Args:
        key: The run.
        expected_seq: Number of the last event the owner has seen; 0 for none.
        expected_head: The chain's head after that event.
        events: What to append, in order, each with the head after it.
        inbox_ids: Inbox entries that these events record, or that need no record.
        fields: Of the run's row, to set: status, result, … as text.  The run's indexes follow
            status and attributes (I1).
        steps_sent: Attempts now on their way: the step's row becomes this attempt, "scheduled"
            (or, where `local`, "claimed", with a claim in the claim set).  Of an attempt that the
            row has already, only a "paused" one is changed; one that waits no more loses the timers
            of its waiting.
        steps_paused: Steps held back: one that nobody has claimed becomes "paused", and nobody may
            claim it before it is sent again; one that is claimed goes on.
        steps_resting: Steps that wait for a back-off or a person: no attempt is current.
        steps_settled: Steps that are over: row, claim and timers set by the claim are removed.
        steps_cancelled: Steps no longer wanted.  One that nobody has claimed becomes "posted" at
            once, and the script itself posts its outcome, kind "cancelled", to the inbox; one that
            is claimed becomes "cancelling", which its worker learns with the next renewal.
        given_up: Attempts whose claim must still be there and expired (H7); it is removed.
        unposted: Attempts that must be current and have no outcome posted yet (H7): a time-out
            gives them up, although their claim may be alive.
        unclaimed: Attempts that must be current and not claimed (H7).
        timers_set: Instant by timer.
        timers_removed: Timers to remove; one that is not there is no error.
        messages: For the broker: pushed in the same act where it is the same Redis and database,
            into the outbox otherwise.
        letters: For other runs; they lie in the partition's letters until they are delivered.
        blocked: True and False mark the run in the set of blocked runs; None leaves it.
        closed_at_ms: The run ends: it leaves the open set; whatever is left of its steps goes.
        next_run: The id's next run opens in this very act; only where the run ends.
    """

    key: RunKey
    expected_seq: int
    expected_head: str
    events: Sequence[StoredEvent] = ()
    inbox_ids: Sequence[str] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    steps_sent: Sequence[StepRow] = ()
    steps_paused: Sequence[int] = ()
    steps_resting: Sequence[int] = ()
    steps_settled: Sequence[AttemptKey] = ()
    steps_cancelled: Sequence[int] = ()
    given_up: Sequence[AttemptKey] = ()
    unposted: Sequence[AttemptKey] = ()
    unclaimed: Sequence[AttemptKey] = ()
    timers_set: Mapping[TimerKey, int] = field(default_factory=dict)
    timers_removed: Sequence[TimerKey] = ()
    messages: Sequence[Message] = ()
    letters: Sequence[Letter] = ()
    blocked: bool | None = None
    closed_at_ms: int | None = None
    next_run: NextRun | None = None


class CommitResult(Enum):
    """What became of a commit."""

    COMMITTED = "committed"
    FENCED = "fenced"  #: the lease is not held (H3): drop the partition
    CONFLICT = "conflict"  #: history does not end at the expected head (H4): reload the run
    CLAIMED = "claimed"  #: a given-up attempt is not as expected (H7): reload


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a sweep of one partition found.

    `timers` are due, oldest first; `claims` have expired; `next_due_ms` is the instant of the
    first timer that is not due yet, None for no timer.
    """

    timers: Sequence[TimerKey]
    claims: Sequence[AttemptKey]
    next_due_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply to a query, as JSON: ``{"ok": value}`` or ``{"error": type, "message": text}``."""

    reply_to: str
    body: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorEntry:
    """A line that somebody wrote to the signal door with redis-cli; fields as they were given."""

    id: str
    fields: Mapping[str, str]


class OwnerStore(Protocol):
    """What an orchestrator needs."""

    @property
    def partitions(self) -> int:
        """How many partitions this namespace has; fixed at its first start."""
        ...

    def now_ms(self) -> int:
        """Return the store's clock."""
        ...

    def server_id(self) -> str:
        """Return what changes when the server was restarted or failed over."""
        ...

    def report_orchestrator(self, owner_id: str, *, ttl_ms: int) -> list[str]:
        """Note that `owner_id` lives for another `ttl_ms`; return all that live, sorted."""
        ...

    def retire_orchestrator(self, owner_id: str) -> None:
        """Forget `owner_id`."""
        ...

    def list_orchestrators(self) -> dict[str, int]:
        """Return until when the report of each orchestrator holds, in ms, by owner id.

        One whose report has expired is among them until another one reports.  Clients may ask, too.
        """
        ...

    def grant_lease(self, partition: int, owner_id: str, token: str, *, ttl_ms: int) -> bool:
        """Take the lease of `partition` if it is free, or held by `owner_id` under an old token."""
        ...

    def renew_leases(self, tokens: Mapping[int, str], *, ttl_ms: int) -> set[int]:
        """Extend the leases still held under these tokens; return the partitions *lost*."""
        ...

    def release_lease(self, partition: int, token: str) -> None:
        """Give the lease back if it is still held under `token`."""
        ...

    def take_inbox(
        self, after: Mapping[int, str], *, count: int, block_ms: int
    ) -> dict[int, list[InboxEntry]]:
        """Return up to `count` entries per partition after the given ids ("0" for all).

        Waits up to `block_ms` for the first one; 0 does not wait.  Reading removes nothing (H5).
        Entries that cannot be read as `InboxEntry` are moved to the rejected list, with a reason.
        """
        ...

    def sweep(self, partitions: Sequence[int], *, count: int) -> tuple[int, dict[int, Due]]:
        """Return the store's clock, and up to `count` due timers and expired claims of each."""
        ...

    def commit(self, commits: Sequence[tuple[str, Commit]]) -> list[CommitResult | None]:
        """Carry out commits, each under the lease token of its partition, in one round trip.

        Each is atomic by itself; one that is refused does not stop the others.  None stands for
        one whose answer is unknown.
        """
        ...

    def discard(
        self,
        partition: int,
        token: str,
        inbox_ids: Sequence[str],
        timers: Sequence[TimerKey] = (),
        claims: Sequence[AttemptKey] = (),
    ) -> None:
        """Remove inbox entries, timers and expired claims of no history, if the lease is held."""
        ...

    def set_aside(self, partition: int, token: str, inbox_id: str, reason: str) -> None:
        """Move an inbox entry that no run can take to the rejected list, as it is.

        It is kept twice, or not removed, where the lease is lost meanwhile; never lost.
        """
        ...

    def reject(self, fields: Mapping[str, str], reason: str) -> None:
        """Keep a signal that no run can take in the rejected list, with the reason."""
        ...

    def read_history(
        self, key: RunKey, *, after_seq: int = 0, count: int | None = None
    ) -> list[StoredEvent]:
        """Return the events numbered above `after_seq`, oldest first; [] for an unknown run."""
        ...

    def find_row(self, workflow_id: str) -> dict[str, str] | None:
        """Return the fields of the id's latest run, or None.

        Fields: run, status, type, request, started_at_ms, seq, head, and, once they exist,
        version, state, result, failure, closed_at_ms, blocked, joined, starts, retried; as JSON
        attributes, names of their indexes, memo, summary, details and current_details; of a run
        that continues another also first, the number of the chain's first run; of one put off, or
        continues another, until it begins, start, and of the former begins_at_ms; of one that
        rests, rests: why, as JSON (`engine.resting`).
        """
        ...

    def list_blocked(self, partition: int) -> list[RunKey]:
        """Return the blocked runs of a partition."""
        ...

    def read_step(self, key: RunKey, step: int) -> dict[str, str]:
        """Return a step's row: attempt, state, claim, external, details, …; {} for none.

        Clients may ask, too.
        """
        ...

    def answer(self, answers: Sequence[Answer]) -> None:
        """Hand replies to their waiting readers."""
        ...

    def read_door(self, *, count: int) -> list[DoorEntry]:
        """Return the oldest lines of the signal door; `ack_door` removes them."""
        ...

    def ack_door(self, ids: Sequence[str]) -> None:
        """Remove lines of the signal door that were passed on."""
        ...

    def read_letters(self, partition: int, *, count: int) -> list[tuple[str, Letter]]:
        """Return the oldest letters not delivered yet, with their ids."""
        ...

    def ack_letters(self, partition: int, ids: Sequence[str]) -> None:
        """Remove letters that were delivered."""
        ...

    def read_outbox(self, partition: int, *, count: int) -> list[tuple[str, Message]]:
        """Return the oldest messages the broker has not got yet, with their ids."""
        ...

    def ack_outbox(self, partition: int, ids: Sequence[str]) -> None:
        """Remove messages that the broker has got."""
        ...


class KeyStore(Protocol):
    """Where wrapped data keys lie; by scope, and apart from the histories whose payloads they open.

    What lies there is opaque text of at most some hundred characters.
    """

    def find_key(self, scope: str) -> str | None:
        """Return what lies there for `scope`, or None."""
        ...

    def create_key(self, scope: str, wrapped: str) -> str:
        """Keep `wrapped` for `scope` unless something is there; return what is there now."""
        ...

    def replace_key(self, scope: str, expected: str, wrapped: str) -> bool:
        """Put `wrapped` in the place of `expected`; False, and no change, if it is not that."""
        ...

    def list_keys(self, partition: int) -> list[str]:
        """Return the scopes of a partition that something lies there for, sorted."""
        ...


class ClaimAnswer(Enum):
    """What a claim or a renewal is told."""

    GRANTED = "granted"
    CANCELLED = "cancelled"  #: held, but the workflow no longer wants it: stop
    REFUSED = "refused"  #: not current, not the caller's, or another copy runs: do not run, or stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run one attempt.  `details` is what the last attempt's heartbeat left."""

    answer: ClaimAnswer
    details: Json = None


class PostAnswer(Enum):
    """What became of an outcome."""

    POSTED = "posted"
    REPEATED = "repeated"  #: this very outcome is already in
    SUPERSEDED = "superseded"  #: given up, or the step is settled; recorded
    GONE = "gone"  #: the run has ended, or there is none


class WorkerStore(Protocol):
    """What a worker needs.  It may read step rows, write claims, and add to inboxes; no more."""

    def claim(self, key: AttemptKey, token: str, *, ttl_ms: int) -> Claim:
        """Take the attempt if it is current and unclaimed; again under the same token is GRANTED.

        Removes the attempt's UNCLAIMED and SCHEDULE_TO_START timers, and sets START_TO_CLOSE and
        HEARTBEAT where its row asks for them.
        """
        ...

    def renew(
        self, claims: Mapping[AttemptKey, str], *, ttl_ms: int
    ) -> dict[AttemptKey, ClaimAnswer]:
        """Extend claims.  A token here may be a prefix of the claim's: the worker's part of it."""
        ...

    def post_outcome(self, key: AttemptKey, token: str, body: Mapping[str, Json]) -> PostAnswer:
        """Put an outcome into the inbox and release the claim, in one act.

        `token` is the claim's, "<worker>/<nonce>", or a prefix; "" stands for an attempt that
        nobody has claimed (unknown task, revoked message): posted only while that is so.
        Body: ``{"kind": "completed", "result": …}`` or ``{"kind": "failed" | "timed_out" | "lost"
        | "cancelled", "failure": {…}}``.

        With a `digest` of what is said and by whom, which is not passed on, another outcome under
        the same token is SUPERSEDED, with a note, and the same one is REPEATED until the run ends.
        Without one whatever comes under a token that has posted is REPEATED.
        """
        ...

    def heartbeat(self, key: AttemptKey, token: str, details: Json) -> ClaimAnswer:
        """Note progress: keep `details` for the next attempt and move the HEARTBEAT timer."""
        ...

    def detach(self, key: AttemptKey, token: str) -> ClaimAnswer:
        """Let the claim outlive its worker: it is not renewed any more, and never expires.

        Outcome and heartbeats come from whoever has the whole `token`; a part of it, which a worker
        knows all its claims by, posts nothing from now on.  Time-outs and cancellation are as
        before.
        """
        ...


class StartAnswer(Enum):
    """What became of a start."""

    STARTED = "started"
    REPEATED = "repeated"  #: this very request was taken before; its run may have ended
    EXISTS = "exists"  #: another request's run is open
    BARRED = "barred"  #: none is open, and the start must not follow the one that ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The answer to a start: the run it opened, or the one that is in its way."""

    answer: StartAnswer
    run: int
    status: str


class PostedAnswer(Enum):
    """What became of a message to a run."""

    POSTED = "posted"
    NOT_FOUND = "not_found"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """The answer to a message: the run it went to, or why it went nowhere."""

    answer: PostedAnswer
    run: int
    status: str


class ClientStore(RunIndex, Protocol):
    """What a client needs, beside `find_row` and `read_history` as in `OwnerStore`."""

    def start(
        self,
        workflow_id: str,
        *,
        request_id: str,
        body: Mapping[str, Json],
        message: tuple[Kind, Mapping[str, Json]] | None = None,
    ) -> Start:
        """Open the next run of an id and post its START, in one act (H8).

        Body: workflow (the type's name), args, kwargs, request_id; of a child also parent
        (workflow, run, child).  Where its time is bounded: run_timeout_ms, execution_timeout_ms or,
        in a chain, execution_deadline_at_ms; where it begins later, start_delay_ms; where it may be
        attempted again, retry and attempt.  Where there are any: search_attributes and memo,
        objects, summary and details, texts; the row has them from now on.

        `id_reuse_policy` is an `IdReusePolicy`: where the latest run has ended in a way that it
        lets no start follow, nothing changes, and the answer is BARRED with that run.

        With a `message` (its kind and its body, as `post` takes them) it is posted in the same act:
        behind the START, or to the run that is open, and then the answer is EXISTS.  Repeated under
        the same request, also after the run has ended, it posts nothing: REPEATED.  The row keeps
        the newest ``JOINED_REQUESTS_MAX`` of the requests that found a run open, for that.  The
        requests that opened the id's runs are known too, the latest's for good and the newest
        ``STARTS_REMEMBERED_MAX`` of the others: REPEATED, with the run that each opened.
        """
        ...

    def post(
        self, workflow_id: str, kind: Kind, body: Mapping[str, Json], *, run: int = 0
    ) -> Posted:
        """Put a message for a run into its inbox; `run` 0 is whichever is open now.

        Bodies: SIGNAL signal, signal_id, payload; CANCEL and TERMINATE reason, request_id;
        DECISION step, decision, reason, by; QUERY query, args, reply_to, deadline_ms; CHILD child,
        for_run, run, status, and result or failure; UPDATE update, update_id, args; WATCH asker;
        EXTERNAL external, for_run, run, status, and result or failure; PERMIT permit, run, key,
        kind, fence, go_at_ms.  A SIGNAL and a CANCEL of another run's have its asker too: workflow,
        run, external.  A QUERY goes to a closed run too.
        """
        ...

    def wait_for_answer(
        self, workflow_id: str, reply_to: str, *, wait_ms: int
    ) -> dict[str, Json] | None:
        """Return a query's answer, or None after `wait_ms`."""
        ...

    def wait_for_event(self, key: RunKey, *, after_seq: int, wait_ms: int) -> bool:
        """Wait until the history has an event beyond `after_seq`; False after `wait_ms`."""
        ...
