"""Promise: a run that ends deletes what its plan gives up of its own, and nothing anybody needs.

Forks share the storage of their parent: whoever ends first, the other one goes on, its result and
what was ordered of it stay.
"""

import json
import os
from collections.abc import Callable

import pytest

from orchestrator.store.ports import AttemptKey, ClaimAnswer, Kind, RunKey
from orchestrator.training.work import ref_from_json
from sagas.training_state import TrainingReport
from tasks.training_store import open_checkpoints
from tests.sagas.training_driver import Lab, order, reference, weights_in

LAST_ONLY = {"latest": 1, "best": 0}


def make_old(lab: Lab) -> None:
    """Let all that was saved be a day old and more."""
    then = open_checkpoints("t.1").objects.now_ms() / 1000 - 25 * 3600
    for path in lab.directory.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def only(lab: Lab, id: str, is_enough: Callable[[], bool] = lambda: False) -> None:
    """Carry out the steps of one run, until it rests; those of the others wait."""
    lab.world.turn()
    while not is_enough():
        queue = lab.world.store.queues["celery"]
        mine = [one for one in queue if key_of(one).workflow_id == id]
        if not mine:
            return
        queue.remove(mine[0])
        message = json.loads(mine[0])
        if lab.world.claim(message) is ClaimAnswer.GRANTED:
            lab.world.finish(message, lab.world.run_body(message))
        lab.world.turn()


def key_of(message: str | bytes) -> RunKey:
    """Return the run that waits for a message."""
    return AttemptKey.parse(json.loads(message)["key"]).run_key


def reaches(lab: Lab, id: str, epoch: int) -> Callable[[], bool]:
    return lambda: lab.state(id).epoch >= epoch


def saved(lab: Lab, branch: str, storage: str = "t.1") -> list[int]:
    """Return the epochs of the checkpoints of a branch that are in the store."""
    found, rejected = open_checkpoints(storage).list_manifests()
    assert rejected == []
    return [one.manifest.epoch for one in found if one.manifest.branch == branch]


def test_a_fork_that_ends_leaves_the_result_of_its_parent(lab: Lab) -> None:
    lab.start(epochs=12, model="digits", keeping=LAST_ONLY)
    only(lab, "t", reaches(lab, "t", 3))
    lab.signal("fork", seeds=[11])
    only(lab, "t", reaches(lab, "t", 7))
    to = next(one for one in lab.state().checkpoints if one.epoch == 2)
    lab.signal("rollback", to=to.manifest_sha256)
    lab.signal("decide", decision="stop")
    only(lab, "t")
    report = TrainingReport.model_validate(lab.world.result("t"))
    assert report.epochs == 2
    make_old(lab)
    lab.finish("t-fork-1")
    weights_in(open_checkpoints("t.1"), ref_from_json(report.checkpoint))


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_fork_that_ends_leaves_the_checkpoints_of_a_parent_that_goes_on(
    lab: Lab, end: str
) -> None:
    lab.start(epochs=10, keeping=LAST_ONLY)
    only(lab, "t", reaches(lab, "t", 3))
    lab.signal("fork", seeds=[11])
    only(lab, "t", reaches(lab, "t", 8))
    lab.signal("pause")
    only(lab, "t")
    make_old(lab)
    if end == "cancelled":
        only(lab, "t-fork-1", reaches(lab, "t-fork-1", 6))
        lab.world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c1"}, id="t-fork-1")
    only(lab, "t-fork-1")
    assert lab.world.status("t-fork-1") == end
    assert saved(lab, "main") == [*range(10)]
    to = next(one for one in lab.state().checkpoints if one.epoch == 5)
    lab.signal("rollback", to=to.manifest_sha256)
    lab.signal("resume")
    lab.forget_memory()
    only(lab, "t", reaches(lab, "t", 7))
    assert lab.state().rejected == []


def test_a_parent_that_ends_leaves_the_checkpoints_of_its_forks(lab: Lab) -> None:
    lab.start(epochs=12, keeping=LAST_ONLY)
    only(lab, "t", reaches(lab, "t", 3))
    lab.signal("fork", seeds=[11])
    only(lab, "t", reaches(lab, "t", 5))
    only(lab, "t-fork-1", reaches(lab, "t-fork-1", 8))
    make_old(lab)
    only(lab, "t")
    assert saved(lab, "main-fork-1") == [5, 6, 7, 8]
    assert 4 in saved(lab, "main"), "the fork begins there"
    lab.finish("t-fork-1")


def test_a_fork_of_a_branch_never_names_its_own_like_one_of_its_parent(lab: Lab) -> None:
    lab.start(epochs=14, keeping=LAST_ONLY)
    only(lab, "t", reaches(lab, "t", 2))
    lab.signal("reseed", seed=5)
    only(lab, "t", reaches(lab, "t", 4))
    lab.signal("fork", seeds=[11])
    only(lab, "t", reaches(lab, "t", 9))
    lab.signal("pause")
    only(lab, "t")
    assert lab.state().branch == "main@2"
    fork = "t-fork-1"
    only(lab, fork, reaches(lab, fork, 7))
    lab.signal("reseed", id=fork, seed=77)
    only(lab, fork, reaches(lab, fork, 9))
    assert lab.state(fork).branch == "main@2-fork-1@2"
    before = saved(lab, "main@2")
    make_old(lab)
    only(lab, fork)
    assert lab.world.status(fork) == "completed"
    lab.check(fork)
    assert saved(lab, "main@2") == before
    assert saved(lab, "main@2-fork-1@2")[-1] == 14


def test_what_an_order_began_from_stays_whatever_it_was_saved_as(lab: Lab) -> None:
    lab.start(epochs=12, keeping=LAST_ONLY)
    lab.until(4)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.002})
    lab.until(8)
    to = next(one for one in lab.state().checkpoints if one.epoch == 7)
    lab.signal("rollback", to=to.manifest_sha256)
    lab.until(9)
    make_old(lab)
    lab.finish()
    begun = [one.epoch for one in lab.acknowledged()]
    assert begun == [5, 9]
    assert {5, 7, 9} <= {*saved(lab, "main")}
    assert lab.weights() == reference(order(0), order(5, lr=0.002), epochs=12)


def test_a_run_that_is_cancelled_keeps_what_was_saved_for_an_order(lab: Lab) -> None:
    lab.step_s = 0.08
    lab.start(epochs=12, keeping=LAST_ONLY, saving={"tau_min_s": 3.0, "tau_max_s": 3.0})
    lab.until(2)
    lab.signal("decide", decision="adjust", hparams={"lr": 0.002})
    lab.until(11)
    make_old(lab)
    lab.world.post(Kind.CANCEL, {"reason": "enough", "request_id": "c1"}, id="t")
    lab.settle()
    assert lab.world.status("t") == "cancelled"
    assert lab.acknowledged()[0].epoch in saved(lab, "main")
