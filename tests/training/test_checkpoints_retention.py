"""Promise: a plan keeps what was asked for and what a run needs, and says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.training.errors import UnsafePlan
from orchestrator.training.retention import (
    YOUNG_MS,
    BestN,
    Candidate,
    EveryK,
    LatestN,
    Pinned,
    Plan,
    Policy,
    plan,
)

NOW_MS = 1_000_000_000


def digest(branch: str, step: int) -> str:
    """Return the name of a checkpoint."""
    return f"{branch}:{step}"


def candidate(
    step: int, branch: str = "main", parent: str | None = "", **more: object
) -> Candidate:
    """Return an old checkpoint, whose parent is the one before."""
    given: dict[str, object] = {
        "manifest_sha256": digest(branch, step),
        "key": f"r/ckpt/{branch}/{step}",
        "branch": branch,
        "step": step,
        "parent": (digest(branch, step - 1) if step else None) if parent == "" else parent,
        "modified_at_ms": NOW_MS - 10 * YOUNG_MS + step,
        "metrics": {"loss": 1 / (step + 1), "accuracy": step / 10},
        **more,
    }
    return Candidate(**given)  # type: ignore[arg-type]


def planned(checkpoints: list[Candidate], *policies: Policy, **more: object) -> Plan:
    """Return a plan in which all are verified and none is referenced, unless `more` says so."""
    given: dict[str, object] = {
        "verified": {one.manifest_sha256 for one in checkpoints},
        "referenced": {},
        "now_ms": NOW_MS,
        **more,
    }
    return plan(checkpoints, policies, **given)  # type: ignore[arg-type]


def kept(found: Plan) -> list[int]:
    """Return the steps on the main branch that stay."""
    return sorted(int(name.partition(":")[2]) for name in found.keep if name.startswith("main:"))


SOME: list[Policy] = [LatestN(1), EveryK(7), BestN("loss")]
TEN = [candidate(step) for step in range(10)]


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        (LatestN(1), [8, 9]),
        (LatestN(4), [6, 7, 8, 9]),
        (BestN("loss"), [8, 9]),
        (BestN("loss", 3), [7, 8, 9]),
        (BestN("accuracy", 2, "lower"), [0, 1, 8, 9]),
        (BestN("accuracy", 2, "higher"), [8, 9]),
        (BestN("unknown"), [8, 9]),
        (EveryK(4), [0, 4, 8, 9]),
        (Pinned(frozenset({digest("main", 3), "gone"})), [3, 8, 9]),
    ],
)
def test_a_policy_keeps_what_it_wants_beside_the_newest_two(
    policy: Policy, steps: list[int]
) -> None:
    found = planned(TEN, policy)
    assert kept(found) == steps
    assert [one.step for one in found.delete] == [s for s in range(10) if s not in steps]


def test_policies_are_joined_by_any_and_every_reason_is_given() -> None:
    found = planned(TEN, EveryK(4), LatestN(1), Pinned(frozenset({digest("main", 8)})))
    assert found.keep[digest("main", 8)] == (
        "every 4 steps",
        "pinned",
        "newest verified of its branch",
    )
    assert found.keep[digest("main", 0)] == ("every 4 steps",)


def test_a_metric_that_is_no_number_is_not_the_best() -> None:
    nan = candidate(3, metrics={"loss": float("nan")})
    wrong = candidate(4, metrics={"loss": True})
    found = planned([*TEN[:3], nan, wrong, *TEN[5:]], BestN("loss", 8, "higher"))
    assert kept(found) == [0, 1, 2, 5, 6, 7, 8, 9]


def test_the_newest_two_that_are_whole_stay_and_not_those_that_are_not() -> None:
    found = planned(TEN, LatestN(1), verified={digest("main", s) for s in (1, 4, 6)})
    assert kept(found) == [4, 6, 9]


def test_a_branch_without_two_whole_ones_keeps_all() -> None:
    found = planned(TEN, LatestN(1), verified={digest("main", 2)})
    assert kept(found) == list(range(10))
    assert found.keep[digest("main", 0)] == ("its branch has 1 verified",)


def test_the_point_where_a_branch_begins_stays() -> None:
    side = [candidate(step, "main@2") for step in range(5, 8)]
    side[0] = candidate(5, "main@2", parent=digest("main", 4))
    found = planned([*TEN, *side], LatestN(1))
    assert kept(found) == [4, 8, 9]
    assert found.keep[digest("main", 4)] == ("branch main@2 begins there",)
    assert {digest("main@2", 6), digest("main@2", 7)} < found.keep.keys()


def test_what_is_referenced_or_young_stays() -> None:
    young = candidate(2, modified_at_ms=NOW_MS - YOUNG_MS + 1)
    found = planned(
        [*TEN[:2], young, *TEN[3:]], LatestN(1), referenced={digest("main", 5): "output of stage 1"}
    )
    assert kept(found) == [2, 5, 8, 9]
    assert found.keep[digest("main", 5)] == ("output of stage 1",)
    assert found.keep[digest("main", 2)] == ("younger than an hour",)


def test_keeping_none_is_refused() -> None:
    for make in (
        lambda: LatestN(0),
        lambda: BestN("loss", 0),
        lambda: EveryK(0),
        lambda: LatestN(-1),
    ):
        with pytest.raises(UnsafePlan, match="at least 1: a run without checkpoints starts anew"):
            make()
    with pytest.raises(UnsafePlan, match="no policy; say what to keep"):
        planned(TEN)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["main", "a", "b"])), unique=True),
    st.data(),
)
def test_no_plan_takes_what_safety_keeps(where: list[tuple[int, str]], data: st.DataObject) -> None:
    names = [digest(branch, step) for step, branch in where]
    some = st.sets(st.sampled_from(names)) if names else st.just(set[str]())
    ages = st.integers(0, 2 * YOUNG_MS)
    checkpoints = [
        candidate(
            step,
            branch,
            parent=data.draw(st.sampled_from([None, *names])),
            modified_at_ms=NOW_MS - data.draw(ages),
        )
        for step, branch in where
    ]
    verified, referenced, pinned = data.draw(some), data.draw(some), data.draw(some)
    found = planned(
        checkpoints,
        data.draw(st.sampled_from(SOME)),
        Pinned(frozenset(pinned)),
        verified=verified,
        referenced=dict.fromkeys(referenced, "needed"),
    )
    gone = {one.manifest_sha256 for one in found.delete}
    assert gone | (found.keep.keys() & set(names)) == set(names)
    assert not gone & found.keep.keys()
    assert not gone & (referenced | pinned)
    for one in checkpoints:
        assert NOW_MS - one.modified_at_ms >= YOUNG_MS or one.manifest_sha256 not in gone
        parent = next((p for p in checkpoints if p.manifest_sha256 == one.parent), None)
        if parent is not None and parent.branch != one.branch:
            assert parent.manifest_sha256 not in gone
    for branch in {one.branch for one in checkpoints}:
        of = sorted((c for c in checkpoints if c.branch == branch), key=lambda c: -c.step)
        whole = [one.manifest_sha256 for one in of if one.manifest_sha256 in verified]
        assert not gone & set(whole[:2])
        if len(whole) < 2:
            assert not gone & {one.manifest_sha256 for one in of}


def test_what_other_runs_saved_in_the_storage_decides_nothing_but_where_they_begin() -> None:
    own = [candidate(step) for step in range(6)]
    fork = [candidate(step, "main-fork-1") for step in range(4, 9)]
    fork[0] = candidate(4, "main-fork-1", digest("main", 3))
    found = planned(own, LatestN(1), others=fork)
    assert kept(found) == [3, 4, 5]
    assert found.keep[digest("main", 3)] == ("branch main-fork-1 begins there",)
    assert {one.branch for one in found.delete} == {"main"}
