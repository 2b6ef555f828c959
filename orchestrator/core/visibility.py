"""What workflow code says of its run to those who look for it: attributes, memo, details.

Each call is a command of its own, recorded whatever it says, so that a changed text never changes
how many commands a history has.  What was said is not compared on replay.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.core.context import current
from orchestrator.core.errors import UsageError
from orchestrator.core.events import CurrentDetailsSet, MemoUpserted, SearchAttributesUpserted
from orchestrator.core.limits import DETAILS_BYTES_MAX
from orchestrator.core.search_attributes import (
    SearchValue,
    checked_count,
    checked_memo,
    checked_text,
    decode_attributes,
    encode_attributes,
    merged,
)


def upsert_search_attributes(attributes: Mapping[str, SearchValue | None]) -> None:
    """Set search attributes of this run; None removes one, what is not named stays as it is.

    `info` shows them at once; listings find them once the activation is history.

    Raises:
        UsageError: A name or a value that cannot be one, or more than fit; nothing was set.
    """
    execution = current("upsert_search_attributes()")
    upserted = encode_attributes(attributes)
    info = execution.info
    after = merged(encode_attributes(info.search_attributes), upserted)
    checked_count(after)
    execution.issue(SearchAttributesUpserted(at_ms=execution.now_ms, attributes=upserted))
    execution.info = replace(info, search_attributes=decode_attributes(after))


def upsert_memo(memo: Mapping[str, Any]) -> None:
    """Keep values with this run for whoever lists or describes it; None removes one.

    Raises:
        UsageError: Not a mapping of texts.
        TypeError: A value that has no JSON form.
        PayloadTooLarge: All of it together is beyond its bound; nothing was set.
    """
    execution = current("upsert_memo()")
    if not isinstance(memo, Mapping) or not all(isinstance(name, str) for name in memo):
        raise UsageError("a memo is a mapping of names to values that have a JSON form")
    encode = execution.definition.codec.encode
    upserted = {name: None if value is None else encode(value) for name, value in memo.items()}
    info = execution.info
    after = merged(info.memo, upserted)
    checked_memo(after)
    execution.issue(MemoUpserted(at_ms=execution.now_ms, memo=upserted))
    execution.info = replace(info, memo=after)


def set_current_details(text: str) -> None:
    """Tell people where this run stands; the last text is shown with the run.

    Raises:
        UsageError: Not a text.
        PayloadTooLarge: Beyond its bound.
    """
    execution = current("set_current_details()")
    checked_text("current details", text, DETAILS_BYTES_MAX)
    execution.issue(CurrentDetailsSet(at_ms=execution.now_ms, details=text))
