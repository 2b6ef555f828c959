"""What names, ids of messages and reasons may be.

NA1  A client refuses what is beyond a bound before it sends it.  An orchestrator, to whom others
     may write too, refuses a name or id beyond it, and cuts a reason: what was asked for counts.
"""

from orchestrator.core.errors import InvalidPayload
from orchestrator.core.limits import NAME_CHARS_MAX, REASON_CHARS_MAX
from orchestrator.core.values import Json


def why_no_name(name: object) -> str:
    """Return why `name` can be no name and no id of a message; "" if it can."""
    if not isinstance(name, str):
        return f"it is a {type(name).__name__}; text is wanted"
    if not name:
        return "it is empty"
    if len(name) > NAME_CHARS_MAX:
        return f"{len(name)} characters; at most {NAME_CHARS_MAX} fit"
    return ""


def checked_name(subject: str, name: str) -> str:
    """Return `name`; `subject` says what it names.

    Raises:
        InvalidPayload: It can be none; see `why_no_name`.
    """
    problem = why_no_name(name)
    if problem:
        raise InvalidPayload(subject, problem)
    return name


def checked_reason(subject: str, reason: str) -> str:
    """Return a person's `reason`, or name, for people.

    Raises:
        InvalidPayload: It is beyond ``REASON_CHARS_MAX``, or no text.
    """
    if not isinstance(reason, str):
        raise InvalidPayload(subject, f"it is a {type(reason).__name__}; text is wanted")
    if len(reason) > REASON_CHARS_MAX:
        raise InvalidPayload(subject, f"{len(reason)} characters; at most {REASON_CHARS_MAX} fit")
    return reason


def reason_in(value: Json) -> str:
    """Return the reason that a message gives, cut to its bound; "" where there is none (NA1)."""
    return str(value or "")[:REASON_CHARS_MAX]
