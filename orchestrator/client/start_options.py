"""What a start says beside its input: what the run is found by, and what people read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from orchestrator.core.definition import Codec
from orchestrator.core.errors import UsageError
from orchestrator.core.limits import DETAILS_BYTES_MAX, SUMMARY_BYTES_MAX
from orchestrator.core.search_attributes import (
    SearchValue,
    checked_memo,
    checked_text,
    encode_attributes,
)
from orchestrator.core.values import Json
from orchestrator.payloads import normalize


class StartSettings(TypedDict, total=False):
    """The settings of a start; see `StartOptions`."""

    search_attributes: Mapping[str, SearchValue]
    memo: Mapping[str, Any]
    summary: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """Settings of a start.

    Args:
        search_attributes: What the run is found by, from its start on; see
            `core.search_attributes`.
        memo: What is kept with the run for its readers, values with a JSON form; not searched.
        summary: One line for people.
        details: A page for people, about what the run is for.
    """

    search_attributes: Mapping[str, SearchValue] = field(default_factory=dict)
    memo: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    details: str = ""

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
