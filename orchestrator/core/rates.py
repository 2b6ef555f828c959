"""What a key of permits or of a rate may be, and `Rate`."""

from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.core.errors import UsageError
from orchestrator.core.limits import (
    PERMIT_KEY_CHARS_MAX,
    PERMITS_MAX,
    RATE_MAX,
    RATE_PER_MS_MAX,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` of `key` in any stretch of time as long as `per`.

    Whoever names the same key shares it, whatever the workflow; the limit and the stretch of the
    latest request count.

    Raises:
        UsageError: A key, a limit or a stretch that cannot be.
    """

    key: str
    limit: int
    per: timedelta = field(kw_only=True)

    def __post_init__(self) -> None:
        checked_key(self.key)
        checked_limit("limit of a rate", self.limit, RATE_MAX)
        if not isinstance(self.per, timedelta) or not 1 <= self.per_ms <= RATE_PER_MS_MAX:
            longest = timedelta(milliseconds=RATE_PER_MS_MAX)
            raise UsageError(f"per= is a timedelta from 1 ms to {longest}, found {self.per!r}")

    @property
    def per_ms(self) -> int:
        """The stretch in milliseconds."""
        return round(self.per.total_seconds() * 1000)


def checked_key(key: object) -> str:
    """Return `key`.

    Raises:
        UsageError: Not a text that can stand in a key of the store and in a line of a table.
    """
    if not isinstance(key, str) or not key.isprintable() or not key:
        raise UsageError(f"a key of permits is a printable text, found {key!r}")
    if len(key) > PERMIT_KEY_CHARS_MAX:
        raise UsageError(
            f"a key of permits has at most {PERMIT_KEY_CHARS_MAX} characters, found {len(key)}: "
            f"use a digest of it"
        )
    return key


def checked_limit(what: str, limit: object, limit_max: int) -> int:
    """Return `limit`.

    Raises:
        UsageError: Not a whole number from 1 to `limit_max`.
    """
    is_number = isinstance(limit, int) and not isinstance(limit, bool)
    if not is_number or not 1 <= limit <= limit_max:  # type: ignore[operator]
        raise UsageError(f"the {what} is a whole number from 1 to {limit_max}, found {limit!r}")
    assert isinstance(limit, int)
    return limit


def checked_permits(limit: object) -> int:
    """Return how many may hold a permit of one key at a time; see `checked_limit`."""
    return checked_limit("limit of permits", limit, PERMITS_MAX)
