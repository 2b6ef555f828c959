"""Goal: the store in memory and the scripts decide alike, whatever is asked in whatever order.

Method: one run of acts drawn from the seed is carried out on both stores, on one clock that stands
still between acts.  After every act the answers are compared, and all that lies in the stores.
Beside that, the checker counts: an attempt's outcome is accepted once (P2), and a history grows by
what was committed, no more (H4).  The seed is in the id of a failed test.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest

from orchestrator.core.start_policies import IdReusePolicy
from orchestrator.core.values import Json, canonical
from orchestrator.store.clocks import ManualClock
from orchestrator.store.index_ports import Window
from orchestrator.store.memory import MemoryStore
from orchestrator.store.ports import (
    AttemptKey,
    ClaimAnswer,
    Commit,
    CommitResult,
    Kind,
    Message,
    PostAnswer,
    RunKey,
    StepRow,
    TimerKey,
    TimerKind,
)
from orchestrator.store.redis import RedisStore
from tests.store.world import World, events, redis_world

ACTS = 200
WORKFLOW_IDS = ["a", "b.1"]
TOKENS = ["w1:x", "w2:x", "w1:", ""]
LEASES = ["l1", "l2"]
STEPS = list(range(1, 9))
ATTRIBUTES: list[dict[str, Json]] = [{}, {"who": "ana"}, {"who": "bo", "n": 1}, {"n": 1}]
INDEXES = ["all", "open", "type:w", "status:pending", "status:running", "has:who"]
INDEXES += ["is:who=s:ana", "has:n"]


class Pair:
    """Both stores, and what the checker knows."""

    def __init__(self, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = rng
        #: For attributes, beside the one for acts.
        self.names = random.Random(rng.getstate()[1][0])
        self.clock = ManualClock()
        monkeypatch.setattr("time.time", lambda: self.clock.now_ms / 1000)
        client = fakeredis.FakeRedis(protocol=2)
        redis_store = RedisStore(client, partitions=1, blocking=client, direct_queues=True)
        memory = MemoryStore(1, self.clock)
        self.worlds = [World(memory, self.clock.advance), redis_world(redis_store, client)]
        self.heads: dict[RunKey, list[tuple[int, str]]] = {}
        self.accepted: Counter[AttemptKey] = Counter()
        #: Latest run by id, and latest attempt by step: an owner only ever counts up.
        self.latest = dict.fromkeys(WORKFLOW_IDS, 0)
        self.sent: dict[tuple[RunKey, int], int] = {}
        self.settled: set[tuple[RunKey, int]] = set()
        #: Claims that were granted, by attempt: mostly it is their holders who go on.
        self.held: dict[AttemptKey, str] = {}

    def both(self, act: Callable[[World], Any]) -> Any:
        """Return what both stores answer."""
        one, two = (act(world) for world in self.worlds)
        assert one == two
        return one

    def run_key(self) -> RunKey:
        name = self.rng.choice(WORKFLOW_IDS)
        older = self.rng.random() < 0.1
        return RunKey(workflow_id=name, run=max(1, self.latest[name] - older))

    def attempt(self, run: RunKey | None = None) -> AttemptKey:
        """Return an attempt, mostly one that was sent last."""
        run = run or self.run_key()
        mine = [step for key, step in self.sent if key == run and (key, step) not in self.settled]
        step = self.rng.choice(mine[-3:] or STEPS)
        number = self.sent.get((run, step), 1) + self.rng.choice([0] * 8 + [-1, 1])
        return AttemptKey(
            workflow_id=run.workflow_id, run=run.run, step=step, attempt=max(1, number)
        )

    def sends(self, run: RunKey) -> list[StepRow]:
        """Return the next attempt at a step that is not settled, or the last one again."""
        free = [step for step in STEPS if (run, step) not in self.settled]
        if not free or self.rng.random() < 0.4:
            return []
        step = self.rng.choice(free)
        number = self.sent.get((run, step), 0) + self.rng.choice([0, 1, 1])
        self.sent[run, step] = max(1, number)
        return [
            StepRow(
                step=step,
                attempt=max(1, number),
                start_to_close_ms=self.rng.choice([0, 9]),
                heartbeat_ms=self.rng.choice([0, 7]),
                local=self.rng.choice(["", "", "", "w1:x"]),
            )
        ]

    def fields(self, *, moves: bool) -> dict[str, str]:
        """Return what a commit says of the row."""
        fields = {"status": self.names.choice(["running", "blocked"])} if moves else {}
        if self.names.random() < 0.2:
            fields["attributes"] = canonical(self.names.choice(ATTRIBUTES)).decode()
        return fields

    def holder(self) -> tuple[AttemptKey, str]:
        """Return an attempt and a token, mostly those of a claim that was granted."""
        if self.held and self.rng.random() < 0.7:
            return self.rng.choice(list(self.held.items())[-4:])
        return self.attempt(), self.rng.choice(TOKENS)

    def some(self, make: Callable[[], Any], chance: float = 0.3) -> list[Any]:
        return [make()] if self.rng.random() < chance else []


def all_that_lies(world: World) -> dict[str, object]:
    """Return the contents of a store, without the ids that each makes up for itself."""
    runs = [RunKey(workflow_id=name, run=run) for name in WORKFLOW_IDS for run in (1, 2, 3, 4)]
    timers = world.timers()
    return {
        "inbox": [(e.kind, e.workflow_id, e.run, e.body) for e in world.inbox()],
        "rows": [world.store.find_row(name) for name in WORKFLOW_IDS],
        "histories": [world.store.read_history(run) for run in runs],
        "steps": [world.store.read_step(run, step) for run in runs[:2] for step in STEPS[:4]],
        "timers": [(name, world.due_ms(name)) for name in timers],
        "due": world.store.sweep([0], count=999),
        "blocked": world.store.list_blocked(0),
        "queue": world.queue("celery"),
        "runs": world.store.list_all_runs(0),
        "indexes": [world.store.page_runs([name], Window(count=3)) for name in INDEXES],
        "union": world.store.page_runs(INDEXES[-3:], Window(count=99)),
        "sizes": world.store.index_sizes(INDEXES),
        "every row": world.store.read_rows([(run.workflow_id, run.run) for run in runs]),
    }


def do_commit(pair: Pair) -> None:
    rng, run = pair.rng, pair.run_key()
    known = pair.heads.setdefault(run, [(0, "")])
    seq, head = known[-1] if rng.random() < 0.9 else rng.choice(known)
    made = events(run, [f"e{rng.random()}"] * rng.randint(0, 2), after=seq, head=head)
    taken = [place for place in range(3) if rng.random() < 0.5]
    lease = rng.choice([*LEASES[:1] * 9, LEASES[1]])
    due_ms = pair.clock.now_ms + rng.randint(-5, 50)
    kind = rng.choice(list(TimerKind))

    def timer() -> TimerKey:
        at = pair.attempt(run)
        return TimerKey(
            kind=kind, workflow_id=run.workflow_id, run=run.run, number=at.step, attempt=at.attempt
        )

    settled = pair.some(lambda: pair.attempt(run), 0.05)
    pair.settled |= {(run, key.step) for key in settled}
    parts = {
        "fields": pair.fields(moves=rng.random() < 0.2),
        "steps_sent": pair.sends(run),
        "steps_resting": pair.some(lambda: rng.choice(STEPS), 0.1),
        "steps_settled": settled,
        "steps_cancelled": pair.some(lambda: rng.choice(STEPS), 0.2),
        "given_up": pair.some(lambda: pair.attempt(run), 0.15),
        "unposted": pair.some(lambda: pair.attempt(run), 0.08),
        "unclaimed": pair.some(lambda: pair.attempt(run), 0.08),
        "timers_set": dict.fromkeys(pair.some(timer), due_ms),
        "timers_removed": pair.some(timer),
        "messages": pair.some(lambda: Message(queue="celery", body=b"m"), 0.2),
        "blocked": rng.choice([None, None, None, True, False]),
        "closed_at_ms": pair.clock.now_ms if rng.random() < 0.02 else None,
    }

    def act(world: World) -> CommitResult | None:
        ids = [entry.id for entry in world.inbox()]
        taken_ids = [ids[place] for place in taken if place < len(ids)]
        commit = Commit(
            key=run,
            expected_seq=seq,
            expected_head=head,
            events=made,
            inbox_ids=taken_ids,
            **parts,  # type: ignore[arg-type]
        )
        return world.store.commit([(lease, commit)])[0]

    if pair.both(act) is CommitResult.COMMITTED:
        assert (seq, head) == known[-1]
        known += [(event.seq, event.head) for event in made]


def do_post_outcome(pair: Pair) -> None:
    key, token = pair.holder()
    body: dict[str, Json] = {"kind": "completed", "result": pair.rng.random()}
    if pair.both(lambda w: w.store.post_outcome(key, token, body)) is PostAnswer.POSTED:
        pair.accepted[key] += 1


def do_claim(pair: Pair) -> None:
    key, token = pair.attempt(), pair.rng.choice(TOKENS[:2])
    ttl_ms = pair.rng.choice([5, 500])
    claim = pair.both(lambda w: w.store.claim(key, token, ttl_ms=ttl_ms))
    if claim.answer is ClaimAnswer.GRANTED:
        pair.held[key] = token


def do_renew(pair: Pair) -> None:
    key, token = pair.holder()
    pair.both(lambda w: w.store.renew({key: token}, ttl_ms=20))


def do_heartbeat(pair: Pair) -> None:
    key, token = pair.holder()
    details: Json = {"n": pair.rng.randint(0, 9)}
    pair.both(lambda w: w.store.heartbeat(key, token, details))


def do_start(pair: Pair) -> None:
    name, request = pair.rng.choice(WORKFLOW_IDS), f"r{pair.rng.randint(1, 30)}"
    body: dict[str, Json] = {"workflow": "w", "args": [], "kwargs": {}}
    if pair.names.random() < 0.5:
        body["search_attributes"] = dict(pair.names.choice(ATTRIBUTES))
    if pair.names.random() < 0.2:
        body["id_reuse_policy"] = pair.names.choice(list(IdReusePolicy)).value
    started = pair.both(lambda w: w.store.start(name, request_id=request, body=body))
    # A start that is known again names the run it opened, which may be an earlier one.
    pair.latest[name] = max(pair.latest[name], started.run)


def do_message(pair: Pair) -> None:
    name, kind = pair.rng.choice(WORKFLOW_IDS), pair.rng.choice([Kind.SIGNAL, Kind.QUERY])
    run = pair.rng.choice([0, 0, 1, 2])
    pair.both(lambda w: w.store.post(name, kind, {"n": 1}, run=run))


def do_lease(pair: Pair) -> None:
    owner, token = pair.rng.choice([*[("o1", "l1")] * 5, ("o2", "l2")])
    ttl_ms = 400 if owner == "o1" else 20
    pair.both(lambda w: w.store.grant_lease(0, owner, token, ttl_ms=ttl_ms))
    pair.both(lambda w: w.store.renew_leases({0: "l1"}, ttl_ms=400))


def do_wait(pair: Pair) -> None:
    pair.clock.advance(pair.rng.choice([1, 4, 30]))


DEEDS = [do_claim, do_post_outcome, do_renew, do_heartbeat, do_start, do_message, do_lease, do_wait]


@pytest.mark.parametrize("seed", range(6))
def test_memory_and_scripts_agree_step_by_step(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    pair = Pair(rng, monkeypatch)
    for _ in range(4):
        do_start(pair)
        do_lease(pair)
    for _ in range(ACTS):
        rng.choices([do_commit, *DEEDS], [5, 5, 2, 1, 1, 0.5, 0.5, 1, 1.5])[0](pair)
        pair.both(all_that_lies)
    sent_twice = {key for key, count in pair.accepted.items() if count > 1}
    assert not sent_twice
    assert len(pair.accepted) > 3, "a simulation in which nothing happens checks nothing"
    assert any(len(known) > 10 for known in pair.heads.values())
