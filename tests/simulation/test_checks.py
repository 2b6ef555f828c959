"""Every promise's check goes red when the engine, or the store, breaks that promise.

A fault is planted, and seeds are tried until one finds it: a checker that never complains checks
nothing.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import compensation, randomness, seen
from orchestrator.core.compensation import SagaRecord
from orchestrator.core.events import RunFailed, StepCompleted
from orchestrator.core.last_ends import LastEnds
from orchestrator.core.ledger import Ledger
from orchestrator.core.run_retry import attempt_in
from orchestrator.engine import chains, delays, mail, owner, undelivered
from orchestrator.engine.attempts import Attempts
from orchestrator.engine.chains import Forwarding
from orchestrator.engine.draft import Draft
from orchestrator.engine.leases import Leases
from orchestrator.engine.mail import Mail
from orchestrator.engine.owner import Owner
from orchestrator.engine.permits import RunPermits
from orchestrator.engine.run import LiveRun
from orchestrator.store import memory_attempts, memory_commit, memory_permits
from orchestrator.store.memory_partition import Partition
from orchestrator.store.memory_permits import MemoryPermits
from orchestrator.store.permit_ports import Grant, Holder
from orchestrator.store.ports import Claim, ClaimAnswer, Kind, TimerKind
from tests.simulation.__main__ import main, one

pytestmark = pytest.mark.long

SEEDS_MAX = 400

Plant = Callable[[pytest.MonkeyPatch], None]


def nothing(*_args: Any, **_kwargs: Any) -> None:
    return None


def signals_vanish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mail, "signal", nothing)


def starts_vanish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Owner,
        "_sort",
        lambda self, partition, entries, work: self._store.discard(
            partition, self._leases.tokens[partition], [entry.id for entry in entries]
        ),
    )


def outcomes_are_overtaken(patch: pytest.MonkeyPatch) -> None:
    """A step times out although its outcome is in."""
    patch.setattr(memory_commit, "_is_current", lambda *_args: True)


def every_copy_runs(patch: pytest.MonkeyPatch) -> None:
    granted = Claim(answer=ClaimAnswer.GRANTED)
    patch.setattr(memory_attempts, "claim", lambda *_args: granted)


def lost_too_early(patch: pytest.MonkeyPatch) -> None:
    """A sweep finds claims that have not expired, and the commit does not mind."""
    patch.setattr(memory_attempts, "renew", lambda *_args: ClaimAnswer.GRANTED)


def attempts_are_skipped(patch: pytest.MonkeyPatch) -> None:
    apply = Ledger.apply

    def skipping(ledger: Ledger, event: Any) -> None:
        apply(ledger, event)
        if type(event).__name__ == "StepAttemptFailed":
            ledger.steps[event.step].attempt += 1

    patch.setattr(Ledger, "apply", skipping)


def chance_is_not_recorded(patch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    patch.setattr(randomness, "stream", lambda _seed: random.Random(chance.getrandbits(32)))


def nothing_is_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SagaRecord, "_undo", SagaRecord._finish)


def only_what_completed_is_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        compensation, "_may_have_run", lambda step: isinstance(step.outcome, StepCompleted)
    )


def messages_are_never_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "arm_resend", nothing)


def timers_of_starts_outlive_their_runs(patch: pytest.MonkeyPatch) -> None:
    """Mail begins a run before its START timer is due, which only a run in progress removes."""
    begun, close = delays.arrivals_of_unbegun, Draft.close

    def kept(draft: Draft) -> None:
        removed = draft.timers_removed
        draft.timers_removed = {one for one in removed if one.kind is not TimerKind.START}

    def beginning(store: Any, run: LiveRun, arrivals: Any, now_ms: int) -> Any:
        found = begun(store, run, arrivals, now_ms)
        kept(run.draft)
        return found

    def closing(draft: Draft, at_ms: int) -> None:
        close(draft, at_ms)
        kept(draft)

    patch.setattr(owner, "arrivals_of_unbegun", beginning)
    patch.setattr(Draft, "close", closing)
    patch.setattr(Draft, "_is_of_open_run", True)


def pokes_are_lost_with_an_answer(patch: pytest.MonkeyPatch) -> None:
    """A blocked run is poked when its partition is gained, and then no more."""

    def without_poke(call: Callable[..., Any]) -> Callable[..., Any]:
        def forgetful(self: Owner, *args: Any) -> None:
            pokes, unpoked = self._pokes.copy(), self._unpoked.copy()
            call(self, *args)
            self._pokes, self._unpoked = pokes, unpoked

        return forgetful

    patch.setattr(Owner, "doubt", without_poke(Owner.doubt))
    patch.setattr(Owner, "_wake_resting", without_poke(Owner._wake_resting))
    patch.setattr(Owner, "_settle", without_poke(Owner._settle))


def retries_have_no_timer(patch: pytest.MonkeyPatch) -> None:
    follow = Attempts._follow

    def without_timer(self: Attempts, entry: Any, outcome: Any) -> None:
        follow(self, entry, outcome)
        for timer in list(self._turn.draft.timers_set):
            if timer.kind.value == "retry":
                del self._turn.draft.timers_set[timer]

    patch.setattr(Attempts, "_follow", without_timer)


def outcomes_that_come_too_late_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    post = Partition.post

    def forgetful(self: Partition, kind: Kind, workflow_id: str, run: int, body: bytes) -> None:
        if kind is not Kind.LATE_OUTCOME:
            post(self, kind, workflow_id, run, body)

    patch.setattr(Partition, "post", forgetful)


def what_nobody_took_does_not_go_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mail, "carried_in", lambda _body, _at_ms: iter(()))


def a_chain_does_not_know_its_signals_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seen, "signal_digest", lambda _signal_id: "")


def mail_of_a_chain_stays_where_it_is(patch: pytest.MonkeyPatch) -> None:
    """An entry that names an earlier run is that run's, which has ended."""
    patch.setattr(Forwarding, "run_of", lambda _self, _entry, run: run)


def everybody_is_let_in(patch: pytest.MonkeyPatch) -> None:
    request = MemoryPermits.request_permit

    def generous(self: MemoryPermits, key: str, holder: Holder, *, limit: int) -> list[Grant]:
        return request(self, key, holder, limit=limit + 1)

    patch.setattr(MemoryPermits, "request_permit", generous)


def fences_stand_still(patch: pytest.MonkeyPatch) -> None:
    def same(**parts: Any) -> Grant:
        return Grant(**{**parts, "fence": 7})

    patch.setattr(memory_permits, "Grant", same)


def fences_are_made_up(patch: pytest.MonkeyPatch) -> None:
    """A run is told of another fence than the one that its key has."""
    take = RunPermits.take_grant

    def inventive(self: RunPermits, body: dict[str, Any]) -> None:
        take(self, {**body, "fence": 7_000})

    patch.setattr(RunPermits, "take_grant", inventive)


def runs_that_end_keep_their_permits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RunPermits, "leave", nothing)


def permits_that_nobody_wants_stay(patch: pytest.MonkeyPatch) -> None:
    """A request that is delivered again behind its release is granted for ever."""
    take = RunPermits.take_grant

    def deaf(self: RunPermits, body: dict[str, Any]) -> None:
        if body.get("permit") in self._turn.ledger.permits:
            take(self, body)

    patch.setattr(RunPermits, "take_grant", deaf)
    patch.setattr(undelivered, "unwanted", lambda _entry: None)


def slots_are_all_at_once(patch: pytest.MonkeyPatch) -> None:
    def now(self: MemoryPermits, *_args: Any, **_kwargs: Any) -> int:
        return self.clock.now_ms

    patch.setattr(MemoryPermits, "take_slot", now)


def attempts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mail, "attempt_in", lambda body: {"retry": body.get("retry") or {}})


def attempts_lose_their_policy(patch: pytest.MonkeyPatch) -> None:
    def forgetful(body: Any) -> dict[str, Any]:
        return {"attempt": body["attempt"]} if "attempt" in body else attempt_in(body)

    patch.setattr(mail, "attempt_in", forgetful)


def runs_forget_what_they_continue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mail, "chain_in", lambda _body: {})


def attempts_begin_at_once(patch: pytest.MonkeyPatch) -> None:
    open_next = chains._open_next

    def soon(turn: Any, begins: Any, over: Any, last: Any, **_at_ms: int) -> None:
        begins = {name: value for name, value in begins.items() if name != "start_delay_ms"}
        open_next(turn, begins, over, last, at_ms=turn.at_ms)

    patch.setattr(chains, "_open_next", soon)


def attempts_are_given_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chains, "with_next_attempt", lambda ending, *_args, **_kwargs: ending)


def attempts_forget_why_they_are_made(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LastEnds, "failed", lambda self, _failure: self)


def an_attempt_begins_before_the_last_one_has_ended(patch: pytest.MonkeyPatch) -> None:
    """The commit that fails a run opens the next one, and lacks the end."""
    end = LiveRun._end

    def endless(self: LiveRun, ending: Any, data: bytes) -> None:
        if not (isinstance(ending, RunFailed) and ending.retry_at_ms):
            end(self, ending, data)

    patch.setattr(LiveRun, "_end", endless)


def nobody_takes_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "_take", lambda self, share: set())


def anyone_may_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Partition, "holds_lease", lambda self, token, now_ms: True)


def the_engine_stumbles(patch: pytest.MonkeyPatch) -> None:
    def stumble(*_args: Any) -> None:
        raise AttributeError("a slip of ours")

    patch.setattr(Mail, "cancel", stumble)


#: What is planted, the promise that it breaks, and a seed from which on it is found soon.
PLANTED: list[tuple[Plant, str, int]] = [
    (signals_vanish, "P1", 0),
    (starts_vanish, "P1", 0),
    (outcomes_are_overtaken, "P1", 570),
    (outcomes_that_come_too_late_are_forgotten, "P1", 1),
    (every_copy_runs, "P2", 0),
    (lost_too_early, "P2", 1),
    (attempts_are_skipped, "P2", 2),
    (chance_is_not_recorded, "P3", 1),
    (nothing_is_undone, "P4", 5),
    (only_what_completed_is_undone, "P4", 5),
    (what_nobody_took_does_not_go_over, "P2", 82),
    (a_chain_does_not_know_its_signals_again, "P2", 20),
    (mail_of_a_chain_stays_where_it_is, "P5", 25),
    (everybody_is_let_in, "P2", 95),
    (fences_stand_still, "P2", 0),
    (fences_are_made_up, "P2", 0),
    (slots_are_all_at_once, "P2", 0),
    (runs_that_end_keep_their_permits, "P5", 0),
    (permits_that_nobody_wants_stay, "P5", 3150),
    (attempts_are_not_counted, "P2", 0),
    (attempts_lose_their_policy, "P2", 0),
    (runs_forget_what_they_continue, "P2", 0),
    (attempts_begin_at_once, "P2", 0),
    (attempts_are_given_up, "P2", 0),
    (attempts_forget_why_they_are_made, "P2", 0),
    (an_attempt_begins_before_the_last_one_has_ended, "P2", 0),
    (messages_are_never_sent_again, "P5", 55),
    (retries_have_no_timer, "P5", 2),
    (timers_of_starts_outlive_their_runs, "P5", 0),
    (pokes_are_lost_with_an_answer, "P5", 1180),
    (nobody_takes_over, "P5", 0),
    (anyone_may_write, "P6", 0),
    (the_engine_stumbles, "engine", 3),
]


@pytest.mark.parametrize(
    ("plant", "promise", "first"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED]
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, promise: str, first: int
) -> None:
    plant(monkeypatch)
    for seed in range(first, first + SEEDS_MAX):
        broken = one(seed).broken
        if broken is not None:
            assert broken.promise == promise, f"seed {seed}: {broken}"
            return
    raise AssertionError(f"{plant.__name__} was not found in {SEEDS_MAX} seeds from {first}")


def test_a_failing_seed_is_told_with_the_promise_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signals_vanish(monkeypatch)
    assert main(["--seeds", "8"]) == 1
    said = capsys.readouterr().out
    assert "P1 is broken" in said
    assert "expected:" in said
    assert "repeat:   python -m tests.simulation --seed" in said
    seed = said.rpartition("failed: ")[2].split()[0]
    assert main(["--seed", seed]) == 1
    assert "P1 is broken" in capsys.readouterr().out
