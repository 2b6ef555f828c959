"""What a start says beside its input: what the run is found by, and what people read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypedDict

from orchestrator.core.deadlines import span_ms, timeouts_asked
from orchestrator.core.definition import Codec
from orchestrator.core.errors import UsageError
from orchestrator.core.limits import DETAILS_BYTES_MAX, SUMMARY_BYTES_MAX
from orchestrator.core.retry import Retry
from orchestrator.core.search_attributes import (
    SearchValue,
    checked_memo,
    checked_text,
    encode_attributes,
)
from orchestrator.core.start_policies import IdConflictPolicy, IdReusePolicy, one_of
from orchestrator.core.values import Json
from orchestrator.payloads import normalize

ReusePolicy = Literal["allow_duplicate", "allow_duplicate_failed_only", "reject_duplicate"]
ConflictPolicy = Literal["fail", "use_existing", "terminate_existing"]


class StartSettings(TypedDict, total=False):
    """The settings of a start; see `StartOptions`."""

    search_attributes: Mapping[str, SearchValue]
    memo: Mapping[str, Any]
    summary: str
    details: str
    id_reuse_policy: ReusePolicy
    id_conflict_policy: ConflictPolicy
    run_timeout: timedelta
    execution_timeout: timedelta
    start_delay: timedelta
    retry: Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """Settings of a start.

    Args:
        search_attributes: What the run is found by, from its start on; see
            `core.search_attributes`.
        memo: What is kept with the run for its readers, values with a JSON form; not searched.
        summary: One line for people.
        details: A page for people, about what the run is for.
        id_reuse_policy: Whether the start may follow a run of the id that has ended: always, only
            one without a result, or never; see `IdReusePolicy`.
        id_conflict_policy: What the start does while a run of the id is open: raise `RunExists`,
            return that run, or terminate it first; see `IdConflictPolicy` and
            `client.conflicts`.
        run_timeout: How long each run may last; see `core.deadlines`.
        execution_timeout: How long all runs may last together that continue each other.
        start_delay: How long the run waits, from its start on, before it begins; its time-outs
            count from then.  Signals and updates wait with it, a message that goes with a start
            begins it at once.
        retry: Whether, and when, a run that failed is followed by another attempt on the same
            input; see `core.run_retry`.
    """

    search_attributes: Mapping[str, SearchValue] = field(default_factory=dict)
    memo: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    details: str = ""
    id_reuse_policy: str = IdReusePolicy.ALLOW_DUPLICATE.value
    id_conflict_policy: str = IdConflictPolicy.FAIL.value
    run_timeout: timedelta | None = None
    execution_timeout: timedelta | None = None
    start_delay: timedelta | None = None
    retry: Retry | None = None

    @property
    def conflict_policy(self) -> IdConflictPolicy:
        """What the start does while a run of the id is open.

        Raises:
            UsageError: There is no such policy.
        """
        return one_of("id_conflict_policy", IdConflictPolicy, self.id_conflict_policy)

    def said_with_message(self, codec: Codec) -> dict[str, Json]:
        """Return the same for a start that a message goes with: it finds the open run in any case.

        Raises:
            UsageError, InvalidPayload, PayloadTooLarge: As `as_body`; or a policy that such a
                start cannot follow.
        """
        if self.conflict_policy is IdConflictPolicy.TERMINATE_EXISTING:
            raise UsageError(
                "id_conflict_policy terminate_existing is for starts alone: "
                "a message that goes with a start is for the run that is open"
            )
        return self.as_body(codec)

    def as_body(self, codec: Codec) -> dict[str, Json]:
        """Return what a START's body carries of it; {} where nothing was said.

        Raises:
            UsageError, InvalidPayload, PayloadTooLarge: A part that cannot be; nothing was sent.
        """
        attributes = encode_attributes(self.search_attributes)
        memo = normalize("memo", None, dict(self.memo), codec)
        if not isinstance(memo, dict) or not all(isinstance(name, str) for name in self.memo):
            raise UsageError("a memo is a mapping of names to values that have a JSON form")
        checked_memo(memo)
        body: dict[str, Json] = {
            "search_attributes": {n: value for n, value in attributes.items() if value is not None},
            "memo": {name: value for name, value in memo.items() if value is not None},
            "summary": checked_text("summary of a run", self.summary, SUMMARY_BYTES_MAX),
            "details": checked_text("details of a run", self.details, DETAILS_BYTES_MAX),
        }
        reuse = one_of("id_reuse_policy", IdReusePolicy, self.id_reuse_policy)
        if reuse is not IdReusePolicy.ALLOW_DUPLICATE:
            body["id_reuse_policy"] = reuse.value
        body |= timeouts_asked(self.run_timeout, self.execution_timeout)
        if self.start_delay is not None:
            body["start_delay_ms"] = span_ms("start_delay", self.start_delay)
        if self.retry is not None:
            body["retry"] = self.retry.as_json()
        return {name: part for name, part in body.items() if part}


def start_options(settings: StartSettings) -> StartOptions:
    """Return the options that `settings` name.

    Raises:
        UsageError: A setting that there is not.
    """
    unknown = settings.keys() - StartSettings.__annotations__.keys()
    if unknown:
        known = ", ".join(StartSettings.__annotations__)
        raise UsageError(f"a start has no setting {', '.join(sorted(unknown))}; there are {known}")
    return StartOptions(**settings)
