"""A failure as data: what history and messages keep of an exception.

Invariant F1: a `Failure` is plain JSON, bounded in every part, and holds no local variables.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.core.limits import (
    FAILURE_CAUSES_MAX,
    FAILURE_MESSAGE_CHARS_MAX,
    FAILURE_TRACEBACK_CHARS_MAX,
    INLINE_BYTES_MAX,
    NAME_CHARS_MAX,
)
from orchestrator.core.values import Json, canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, for people, policies and handlers.

    Args:
        type: Name of the exception's class, or the type an `ApplicationError` declares.
        message: Its text, cut at the bound.
        non_retryable: The body's final word; no further attempt.
        next_retry_delay_ms: The body's wish for the next attempt, instead of the policy's.
        details: Any JSON value the application added.
        traceback: Where it happened, without values; the tail is kept.
        cause: The failure this one was raised from, if any.
    """

    type: str
    message: str
    non_retryable: bool = False
    next_retry_delay_ms: int | None = None
    details: Json = None
    traceback: str = ""
    cause: "Failure | None" = None

    def as_json(self) -> dict[str, Json]:
        """Return the JSON object of this failure; parts that say nothing are left out."""
        data: dict[str, Json] = {"type": self.type, "message": self.message}
        if self.non_retryable:
            data["non_retryable"] = True
        if self.next_retry_delay_ms is not None:
            data["next_retry_delay_ms"] = self.next_retry_delay_ms
        if self.details is not None:
            data["details"] = self.details
        if self.traceback:
            data["traceback"] = self.traceback
        if self.cause is not None:
            data["cause"] = self.cause.as_json()
        return data

    def bounded(self) -> "Failure":
        """Return the failure with all of its parts, and its causes, within their bounds (F1)."""
        return self._bounded(FAILURE_CAUSES_MAX)

    def _bounded(self, depth: int) -> "Failure":
        size = 0 if self.details is None else len(canonical(self.details))
        note = f" (details of {size} bytes left out)" if size > INLINE_BYTES_MAX else ""
        return replace(
            self,
            type=self.type[:NAME_CHARS_MAX],
            message=self.message[:FAILURE_MESSAGE_CHARS_MAX] + note,
            details=None if note else self.details,
            traceback=self.traceback[-FAILURE_TRACEBACK_CHARS_MAX:],
            cause=self.cause._bounded(depth - 1) if self.cause and depth > 0 else None,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> "Failure":
        """Return the failure in `data`, an object as `as_json` writes it.

        Raises:
            TypeError: A part that is unknown, missing, or of another type.
        """
        parts: dict[str, Any] = dict(data)
        cause = parts.pop("cause", None)
        if cause is not None and not isinstance(cause, dict):
            raise TypeError("cause: an object is wanted")
        found = cls(**parts, cause=cls.from_json(cause) if cause else None)
        texts = (found.type, found.message, found.traceback)
        delay_ms = found.next_retry_delay_ms
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("type, message and traceback are text")
        if delay_ms is not None and type(delay_ms) is not int:
            raise TypeError("next_retry_delay_ms: a whole number is wanted")
        return found


def failure_of(error: BaseException, *, depth: int = FAILURE_CAUSES_MAX) -> Failure:
    """Return what history keeps of `error`, and of up to `depth` causes."""
    delay = getattr(error, "next_retry_delay", None)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    declared = getattr(error, "type", None)
    frames = "".join(traceback.format_tb(error.__traceback__))
    return Failure(
        type=(declared if isinstance(declared, str) else type(error).__name__)[:NAME_CHARS_MAX],
        message=str(error)[:FAILURE_MESSAGE_CHARS_MAX],
        non_retryable=bool(getattr(error, "non_retryable", False)),
        next_retry_delay_ms=None if delay is None else max(0, round(delay.total_seconds() * 1000)),
        details=getattr(error, "details", None),
        traceback=frames[-FAILURE_TRACEBACK_CHARS_MAX:],
        cause=failure_of(cause, depth=depth - 1) if cause is not None and depth > 0 else None,
    )
