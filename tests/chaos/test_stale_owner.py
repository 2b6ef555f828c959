"""Promise: an orchestrator that slept beyond its lease writes nothing at all (P6).

Histories alone do not show it: Redis itself refuses an event under a number that is taken, whatever
a script forgot to check.  Hence, here, all that the sleeper tries would fit: nobody has written to
its runs since it read them.  Only its leases have gone, to an owner (this test) that does nothing
with them.  And what is compared is everything that lies in Redis, byte by byte.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import RunHandle
from orchestrator.core import events as e
from orchestrator.core.limits import RESEND_AFTER_MS
from tests.acceptance.child import Child
from tests.acceptance.stack import PARTITIONS, Stack, events_of
from tests.acceptance.waiting import eventually

#: The test's leases do not expire while it looks.
HELD_MS = 120_000
ROUNDS_MAX = 4
REFUSED = re.compile(r"partition (\d+): another orchestrator owns it now")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """One run in each partition: some have a signal coming, in the others a message is overdue."""

    called: list[RunHandle[object]]
    overdue: list[RunHandle[object]]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    with Stack(tmp_path) as stack:
        yield stack


def waiting_runs(stack: Stack, number: int) -> Runs:
    """Start a run in each partition; half of them send a step that no worker will claim."""
    ids: dict[int, str] = {}
    for attempt in range(10_000):
        name = f"fenced-{number}-{attempt}"
        ids.setdefault(stack.keys.of_workflow(name), name)
    assert len(ids) == PARTITIONS
    handles = [stack.start("stepwise", ids[p], id=ids[p]) for p in sorted(ids)]
    runs = Runs(called=handles[::2], overdue=handles[1::2])
    for handle in runs.overdue:
        handle.signal("next", {})
    for handle in runs.overdue:
        stack.wait_for_event(handle, e.StepScheduled)
    for handle in runs.called:
        stack.wait_for_event(handle, e.RunStarted)
    return runs


def take_leases(stack: Stack) -> dict[int, str]:
    """Take each lease as soon as it has expired, as another orchestrator would."""
    tokens = {partition: f"idle-{partition}" for partition in range(PARTITIONS)}
    for partition, token in tokens.items():
        eventually(
            lambda partition=partition, token=token: stack.orc.store.grant_lease(  # type: ignore[misc]
                partition, "idle", token, ttl_ms=HELD_MS
            ),
            f"the lease of partition {partition} expires",
        )
    return tokens


def wait_until_overdue(stack: Stack, runs: Runs) -> None:
    """Wait until each unclaimed step's message is to be sent again."""

    def look() -> bool:
        now_ms = stack.orc.store.now_ms()
        due = [
            member.decode()
            for partition in range(PARTITIONS)
            for member in stack.redis.zrangebyscore(stack.keys.timers(partition), 0, now_ms)
        ]
        return all(any(handle.id in timer for timer in due) for handle in runs.overdue)

    eventually(look, f"timers of {RESEND_AFTER_MS} ms are due")


def everything_in(stack: Stack) -> dict[bytes, bytes]:
    """Return all keys with their bytes, but for the list in which orchestrators say they live."""
    names = sorted(set(stack.redis.scan_iter(count=1000)) - {stack.keys.orchestrators.encode()})
    return {name: stack.redis.dump(name) for name in names}


def wait_until_it_knows(stack: Stack, sleeper: Child) -> None:
    """Wait until the sleeper has reported twice: what it still believed is then behind it."""

    def reported() -> float:
        scores = stack.redis.zrange(stack.keys.orchestrators, 0, -1, withscores=True)
        of_sleeper = [score for name, score in scores if f"-{sleeper.pid}-" in name.decode()]
        return max(of_sleeper, default=0.0)

    before = reported()
    for _ in range(2):
        before = eventually(
            lambda before=before: max(reported() - before, 0.0) and reported(),  # type: ignore[misc]
            f"{sleeper.name} reports",
        )


def refused(sleeper: Child) -> set[int]:
    """Return the partitions in which a commit of the sleeper was refused."""
    return {int(number) for number in REFUSED.findall(sleeper.log())}


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_orchestrator_that_slept_beyond_its_lease_changes_nothing_in_redis(stack: Stack) -> None:
    sleeper = stack.orchestrator()
    stack.wait_for_owners(sleeper)
    wanted: set[int] = set()
    # A pause that hits between two reads can leave the sleeper without a signal; then once more.
    for number in range(ROUNDS_MAX):
        runs = waiting_runs(stack, number)
        sleeper.pause()
        # The sleeper's own blocked read is handed the first of these: it will act on it, late.
        for handle in runs.called:
            handle.signal("next", {})
        tokens = take_leases(stack)
        wait_until_overdue(stack, runs)
        before = everything_in(stack)
        sleeper.resume()
        wait_until_it_knows(stack, sleeper)
        after = everything_in(stack)
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        assert not changed, f"the stale owner wrote: {sorted(changed)}\n{sleeper.log()[-3000:]}"
        for partition, token in tokens.items():
            stack.orc.store.release_lease(partition, token)
        stack.wait_for_owners(sleeper)
        by_signal = {stack.keys.of_workflow(handle.id) for handle in runs.called}
        wanted = refused(sleeper) & by_signal
        if wanted and refused(sleeper) - by_signal:
            break
    assert wanted, "no commit that followed a signal was tried and refused"
    assert refused(sleeper) - by_signal, "no commit that followed a timer was tried and refused"
    # As good as new with a lease of its own: what waited is history now, once.
    for handle in [*runs.called, *runs.overdue]:
        stack.wait_for_event(handle, e.StepScheduled)
        assert len(events_of(handle, e.SignalReceived)) == 1
        stack.check_history(handle)
    for handle in runs.overdue:
        stack.wait_for_event(handle, e.StepResent)
