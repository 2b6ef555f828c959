"""`workflow.mutex`, `workflow.semaphore` and `workflow.rate_limit`: what many runs share."""

from datetime import timedelta

from orchestrator.core.context import current
from orchestrator.core.permits import Held
from orchestrator.core.rates import Rate, checked_key, checked_permits


def mutex(key: str) -> Held:
    """Return a block that one run at a time is in, of all that name the key.

        async with workflow.mutex("account-42") as permit:
            await workflow.step(debit, 42, fence=permit.fence)

    A semaphore with the limit 1; see there.
    """
    return _held("mutex()", key, 1)


def semaphore(key: str, *, limit: int) -> Held:
    """Return a block that at most `limit` are in at a time, of all that name the key.

    They enter in the order in which their requests reached the key.  The place is kept by the run:
    it is given back when the block is left, or when the run ends in whatever way, and no death of
    a worker or an orchestrator loses or doubles it.  The limit of the latest request counts; who
    is inside stays.  A run that asks for a key again inside its own block takes a second place.

    Raises:
        UsageError: A key or a limit that cannot be.
    """
    return _held("semaphore()", key, limit)


async def rate_limit(key: str, limit: int, per: timedelta) -> None:
    """Wait until the key's rate lets the run go on: at most `limit` in any stretch of `per`.

    Slots are given in the order in which requests reach the key; the wait is a durable timer.  A
    slot that was given is used up, also if whoever waits for it is cancelled.

    Raises:
        UsageError: See `Rate`.
    """
    execution = current("rate_limit()")
    await execution.permits.wait_for_slot(Rate(key, limit, per=per))


def _held(call: str, key: str, limit: int) -> Held:
    execution = current(call)
    return execution.permits.held(checked_key(key), checked_permits(limit))
