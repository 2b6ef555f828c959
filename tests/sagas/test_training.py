"""Promise: what is trained follows from the plan and the orders alone, bit for bit.

The other side of every comparison was trained in one piece, without workflow or checkpoints.
"""

from itertools import count

import pytest

from orchestrator import step
from tasks.training_store import open_checkpoints
from tests.sagas.training_driver import STEPS, Lab, Weights, order, reference, stops_of

#: Saves nearly all the time: a step takes as long as the interval.
OFTEN = {"tau_min_s": 0.02, "tau_max_s": 0.02}


def test_a_training_is_what_the_same_steps_in_one_piece_are(
    lab: Lab, uninterrupted: Weights
) -> None:
    lab.start()
    report = lab.finish()
    assert lab.weights() == uninterrupted
    assert (report.epochs, report.branch, report.stopped_early) == (6, "main", False)
    assert stops_of(lab.chunks) == [(epoch, 0) for epoch in range(1, 7)]
    assert lab.state().status.value == "completed"


def test_epochs_that_are_long_are_cut_in_the_middle(lab: Lab, uninterrupted: Weights) -> None:
    lab.start(saving=OFTEN)
    lab.finish()
    assert lab.weights() == uninterrupted
    cut = [at for at in stops_of(lab.chunks) if at[1]]
    assert len(cut) >= 6, stops_of(lab.chunks)


def test_epochs_that_are_short_are_trained_together(lab: Lab, uninterrupted: Weights) -> None:
    lab.step_s = 0.001
    lab.start(saving={"tau_min_s": 60.0})
    lab.finish()
    assert lab.weights() == uninterrupted
    assert len(lab.chunks) <= 3, stops_of(lab.chunks)


@pytest.mark.long
def test_an_orchestrator_that_dies_after_everything_changes_nothing(
    lab: Lab, uninterrupted: Weights
) -> None:
    lab.restless = True
    lab.start(saving=OFTEN, model="digits")
    lab.finish()
    assert lab.weights() == uninterrupted


def test_workers_that_remember_nothing_change_nothing(lab: Lab, uninterrupted: Weights) -> None:
    lab.start()
    while lab.work_once():
        lab.forget_memory()
    assert lab.finish().epochs == 6
    assert lab.weights() == uninterrupted
    assert not any(chunk.warm for chunk in lab.chunks)


def test_a_worker_told_to_stop_saves_and_hands_over_where_it_is(
    lab: Lab, uninterrupted: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled = count(1)
    # Told so in the middle of the second, the third and the fifth epoch; the question that is
    # answered with yes counts as well.
    told = {STEPS + 5, 2 * STEPS + 9, 4 * STEPS + 8}
    monkeypatch.setattr(step, "is_stopping", lambda: next(polled) in told)
    lab.start()
    while lab.work_once():
        lab.forget_memory()
    lab.finish()
    assert lab.weights() == uninterrupted
    kinds = [saved.kind for chunk in lab.chunks for saved in chunk.saved]
    assert kinds.count("preempt") == 3
    assert all(chunk.repeated_steps == 0 for chunk in lab.chunks), "nothing was trained twice"
    ends = stops_of(lab.chunks)
    assert len([at for at in ends if at[1]]) == 3, ends
    saved = {(ref.cursor.epoch, ref.cursor.step) for chunk in lab.chunks for ref in chunk.saved}
    assert saved >= {(epoch, 0) for epoch in range(1, 7)}, "each epoch is saved as ordered"


def test_the_same_chunk_carried_out_twice_gives_one_checkpoint(
    lab: Lab, uninterrupted: Weights
) -> None:
    lab.start()
    lab.until(3)
    message = lab.world.pop()
    assert message is not None
    first = lab.world.run_body(message)["result"]["result"]["checkpoint"]  # type: ignore[index,call-overload]
    lab.forget_memory()
    lab.world.claim(message)
    again = lab.world.run_body(message)
    assert again["result"]["result"]["checkpoint"] == first  # type: ignore[index,call-overload]
    lab.world.finish(message, again)
    lab.finish()
    assert lab.weights() == uninterrupted
    found, rejected = open_checkpoints("t.1").list_manifests()
    assert rejected == []
    assert len({one.manifest.step for one in found}) == len(found)


def test_another_seed_and_another_value_are_another_training(uninterrupted: Weights) -> None:
    others = [reference(order(0, seed=8)), reference(order(0, lr=0.002))]
    assert len({uninterrupted, *others}) == 3


def test_a_model_that_is_named_is_registered(lab: Lab) -> None:
    lab.start(model="digits")
    report = lab.finish()
    assert report.registered is not None
    assert (lab.directory / report.registered).is_file()
    kept = [one.manifest.step for one in open_checkpoints("t.1").list_manifests()[0]]
    assert kept == [epoch * STEPS for epoch in range(7)], "younger than an hour, all of them stay"
