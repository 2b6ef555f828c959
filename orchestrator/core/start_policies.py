"""Whether a start may begin: what it says about an id that has had a run, or has an open one.

P1  The reuse policy is about runs that have ended; it is decided where the run would be opened, in
    the same act, so that no two starts can both be the first.
P2  The conflict policy is about a run that is open.  Two runs of one id are never open at once.
"""

from enum import Enum
from typing import TypeVar

from orchestrator.core.errors import UsageError
from orchestrator.core.states import CLOSED_STATUSES, RunState

Policy = TypeVar("Policy", bound=Enum)


class IdReusePolicy(Enum):
    """What a start does where the id's latest run has ended."""

    ALLOW_DUPLICATE = "allow_duplicate"  #: it opens the next run
    ALLOW_DUPLICATE_FAILED_ONLY = "allow_duplicate_failed_only"  #: only if that one has no result
    REJECT_DUPLICATE = "reject_duplicate"  #: an id has one run, for good


class IdConflictPolicy(Enum):
    """What a start does where a run of the id is open."""

    FAIL = "fail"  #: it raises `RunExists`
    USE_EXISTING = "use_existing"  #: it returns the run that is open; its own input is not used
    TERMINATE_EXISTING = "terminate_existing"  #: it ends that run first, and waits for the end


def blocking_statuses(policy: IdReusePolicy) -> tuple[str, ...]:
    """Return the statuses of a closed run that `policy` lets no start follow."""
    match policy:
        case IdReusePolicy.ALLOW_DUPLICATE:
            return ()
        case IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY:
            return (RunState.COMPLETED.value,)
        case IdReusePolicy.REJECT_DUPLICATE:
            return CLOSED_STATUSES


def one_of(setting: str, policies: type[Policy], found: str) -> Policy:
    """Return the policy that `found` names.

    Raises:
        UsageError: It names none.
    """
    for policy in policies:
        if policy.value == found:
            return policy
    known = ", ".join(policy.value for policy in policies)
    raise UsageError(f"{setting} is {found!r}; it is one of {known}")
