"""P1, H9: a start follows an ended run only where its policy allows; none is lost or doubled."""

import random

import pytest

from orchestrator.core.limits import STARTS_REMEMBERED_MAX
from orchestrator.core.start_policies import IdReusePolicy
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind, NextRun, RunKey, Start, StartAnswer
from tests.store.world import START, World

_SIGNAL: dict[str, Json] = {"signal": "go", "signal_id": "s1", "payload": 1}


def _body(policy: IdReusePolicy) -> dict[str, Json]:
    return {**START, "id_reuse_policy": policy.value}


def _ended(world: World, status: str, request_id: str = "r1") -> RunKey:
    key = world.open_run(request_id=request_id)
    world.commit(key, ["end"], fields={"status": status}, closed_at_ms=5)
    return key


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "terminated"])
@pytest.mark.parametrize("policy", IdReusePolicy)
def test_start_follows_an_ended_run_only_as_its_policy_allows(
    world: World, policy: IdReusePolicy, status: str
) -> None:
    _ended(world, status)
    is_allowed = policy is IdReusePolicy.ALLOW_DUPLICATE or (
        policy is IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY and status != "completed"
    )
    found = world.store.start("order-42", request_id="r2", body=_body(policy))
    if is_allowed:
        assert found == Start(answer=StartAnswer.STARTED, run=2, status="pending")
        assert [entry.kind for entry in world.inbox()] == [Kind.START]
    else:
        assert found == Start(answer=StartAnswer.BARRED, run=1, status=status)
        assert world.inbox() == []
        row = world.store.find_row("order-42")
        assert row is not None
        assert (row["run"], row["request"]) == ("1", "r1")


@pytest.mark.parametrize("policy", IdReusePolicy)
def test_reuse_policy_says_nothing_of_an_unused_id_nor_of_an_open_run(
    world: World, policy: IdReusePolicy
) -> None:
    body = _body(policy)
    assert world.store.start("order-42", request_id="r1", body=body).answer is StartAnswer.STARTED
    again = world.store.start("order-42", request_id="r1", body=body)
    assert again.answer is StartAnswer.REPEATED
    other = world.store.start("order-42", request_id="r2", body=body)
    assert other == Start(answer=StartAnswer.EXISTS, run=1, status="pending")


def test_start_that_is_barred_posts_no_message(world: World) -> None:
    _ended(world, "completed")
    body = _body(IdReusePolicy.REJECT_DUPLICATE)
    message = (Kind.SIGNAL, _SIGNAL)
    found = world.store.start("order-42", request_id="r2", body=body, message=message)
    assert found.answer is StartAnswer.BARRED
    assert world.inbox() == []


def test_start_that_was_made_is_known_again_although_it_would_be_barred_now(world: World) -> None:
    body = _body(IdReusePolicy.REJECT_DUPLICATE)
    key = world.open_run(request_id="r1")
    world.commit(key, ["end"], fields={"status": "completed"}, closed_at_ms=5)
    again = world.store.start("order-42", request_id="r1", body=body)
    assert again == Start(answer=StartAnswer.REPEATED, run=1, status="completed")


def test_start_repeated_after_another_run_began_names_the_run_it_opened(world: World) -> None:
    _ended(world, "failed", "r1")
    second = world.open_run(request_id="r2")
    again = world.store.start("order-42", request_id="r1", body=START)
    assert again == Start(answer=StartAnswer.REPEATED, run=1, status="failed")
    world.commit(second, ["end"], fields={"status": "completed"}, closed_at_ms=6)
    again = world.store.start("order-42", request_id="r1", body=START)
    assert again == Start(answer=StartAnswer.REPEATED, run=1, status="failed")
    assert world.inbox() == []


def test_start_repeated_after_its_run_was_continued_names_the_run_it_opened(world: World) -> None:
    for run, request in ((1, "order-42.1.next"), (2, "order-42.2.next")):
        key = world.open_run(request_id="r1") if run == 1 else RunKey(workflow_id="order-42", run=2)
        opened = NextRun(workflow="order", request=request, first_run=1, body=START)
        fields = {"status": "continued_as_new"}
        world.commit(key, ["end"], fields=fields, closed_at_ms=5, next_run=opened)
    again = world.store.start("order-42", request_id="r1", body=START)
    assert again == Start(answer=StartAnswer.REPEATED, run=1, status="continued_as_new")
    row = world.store.find_row("order-42")
    assert row is not None
    assert (row["run"], row["starts"]) == ("3", "1=r1"), "what continues a run is no start"


def test_starts_of_an_id_are_kept_within_a_bound(world: World) -> None:
    count = STARTS_REMEMBERED_MAX + 3
    for number in range(count):
        _ended(world, "completed", f"r{number}")
    row = world.store.find_row("order-42")
    assert row is not None
    kept = row["starts"].split()
    assert len(kept) == STARTS_REMEMBERED_MAX
    assert kept[-1] == f"{count - 1}=r{count - 2}"


@pytest.mark.parametrize("seed", range(6))
def test_no_start_is_lost_or_doubled_however_often_and_late_it_is_sent_again(
    world: World, seed: int
) -> None:
    """Goal: each request opens at most one run, and says the same of it ever after.

    Method: some requests, each with a policy, are sent in a random order, again and again, while
    the open run ends at random in a random way.
    """
    rng = random.Random(seed)
    requests = {f"r{n}": rng.choice(list(IdReusePolicy)) for n in range(STARTS_REMEMBERED_MAX)}
    opened: dict[str, int] = {}
    open_run: RunKey | None = None
    world.lease()
    for _ in range(80):
        if open_run is not None and rng.random() < 0.3:
            status = rng.choice(["completed", "failed", "terminated"])
            ids = [entry.id for entry in world.inbox()]
            world.commit(
                open_run, ["all"], inbox_ids=ids, fields={"status": status}, closed_at_ms=5
            )
            open_run = None
        request, policy = rng.choice(list(requests.items()))
        found = world.store.start("order-42", request_id=request, body=_body(policy))
        if request in opened:
            assert (found.answer, found.run) == (StartAnswer.REPEATED, opened[request])
        elif open_run is not None:
            assert (found.answer, found.run) == (StartAnswer.EXISTS, open_run.run)
        elif found.answer is StartAnswer.STARTED:
            opened[request] = found.run
            open_run = RunKey(workflow_id="order-42", run=found.run)
        else:
            assert found.answer is StartAnswer.BARRED
            assert policy is not IdReusePolicy.ALLOW_DUPLICATE
        assert len(world.inbox()) == (open_run is not None)
    assert sorted(opened.values()) == list(range(1, len(opened) + 1))
