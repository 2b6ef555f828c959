"""Promise: a chunk gives what its work says, whatever was lost, asked or changed before."""

from collections.abc import Callable

import pytest

from orchestrator.core.values import Json
from orchestrator.training import describing
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.environment import Environment, fingerprint
from orchestrator.training.errors import (
    BadCheckpoint,
    BadHyperparameter,
    DatasetChanged,
    EnvironmentDiffers,
    InvalidWork,
    ObjectStoreUnavailable,
    TrainerChanged,
)
from orchestrator.training.numpy_trainer import MlpTrainer
from orchestrator.training.runner import Stop
from orchestrator.training.session import WarmSessions
from orchestrator.training.trainer import Cursor
from orchestrator.training.work import Inherited, SaveAs, work_from_json
from tests.training.trainers_kit import DAMAGES, STEPS, Branch, at, branch, damage, outcomes

CUTS = [0, 20, STEPS, 70, 2 * STEPS]


def stop_after(steps: int, deadline_s: float | None = None) -> Callable[[], Stop | None]:
    """Return a control that asks to stop before step number `steps` of the chunk."""
    asked = iter(range(steps))
    return lambda: None if next(asked, None) is not None else Stop(deadline_s)


def test_the_same_work_from_the_same_parent_saves_the_same_manifest() -> None:
    found = branch().through([0, 20])
    work = found.work(at(STEPS))
    first = found.train(at(STEPS)).checkpoint
    again = Branch(store=found.store, orders=found.orders, refs=found.refs[:2], cursor=work.start)
    assert again.train(at(STEPS)).checkpoint == first


@pytest.mark.parametrize("bad", [[4], [3, 4], [2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_checkpoints_cost_steps_and_heal_bit_for_bit(bad: list[int], how: str) -> None:
    whole = branch().through([*CUTS, 110])
    hurt = branch().through(CUTS)
    for index in bad:
        damage(hurt.store, hurt.refs[index], how)
    result = hurt.train(at(110))
    assert result.checkpoint == whole.refs[-1]
    assert [one.ref.cursor for one in result.rejected] == [at(CUTS[i]) for i in reversed(bad)]
    assert outcomes(result) == ["healed"] * len(bad)
    assert result.repeated_steps == CUTS[4] - (CUTS[bad[0] - 1] if bad[0] else 0)
    for ref in hurt.refs:
        assert hurt.digest(ref) == whole.digest(ref)


def test_falling_back_over_an_order_trains_under_what_was_in_force() -> None:
    def train(*, lose: bool) -> Branch:
        found = branch().through([0, 20])
        found.order(lr=0.01)
        found.through([40])
        found.order(seed=11, dropout=0.0)
        found.through([60])
        for ref in found.refs[1:] if lose else []:
            damage(found.store, ref)
        return found.through([80])

    lost, whole = train(lose=True), train(lose=False)
    assert outcomes(lost.results[-1]) == ["healed"] * 3
    assert lost.refs == whole.refs


def test_falling_back_further_than_the_orders_reach_is_refused() -> None:
    found = branch().through([0, 20])
    for ref in found.refs:
        damage(found.store, ref)
    with pytest.raises(InvalidWork, match="nothing in force at epoch 0 step 0"):
        found.train(at(40), earlier=())


def test_a_checkpoint_whose_parent_is_gone_is_not_saved_over() -> None:
    found = branch().through([0, 20, 40])
    found.refs.pop(1)
    damage(found.store, found.refs[-1])
    result = found.train(at(60))
    assert outcomes(result) == ["left"]
    with pytest.raises(BadCheckpoint):
        found.store.load(found.refs[1].manifest_sha256, found.refs[1].key)
    assert found.digest() == branch().through([60]).digest()


def test_orders_take_effect_at_their_step_and_are_in_the_manifest() -> None:
    found = branch().through([20])
    found.order(lr=0.01)
    found.through([40])
    plain = branch().through([40])
    assert found.digest() != plain.digest()
    lr = [found.store.load(r.manifest_sha256, r.key).manifest.hparams["lr"] for r in found.refs]
    assert lr == [0.001, 0.01]


def test_an_order_that_changes_the_shape_of_the_net_is_refused() -> None:
    found = branch(warm=WarmSessions()).through([20])
    found.order(hidden=[4])
    with pytest.raises(BadHyperparameter, match="fixed for a run"):
        found.train(at(40))


def test_a_branch_from_an_old_checkpoint_leaves_the_first_alone() -> None:
    main = branch().through([0, 20, 40])
    side = Branch(store=main.store, refs=main.refs[:2], orders=list(main.orders), cursor=at(20))
    side.order(seed=99)
    side.train(at(40), branch="main@2")
    assert side.refs[-1].parent == main.refs[1].manifest_sha256
    assert side.digest() != main.digest()
    assert main.through([60]).digest() == branch().through([60]).digest()


def test_chunks_without_a_save_count_from_the_last_checkpoint() -> None:
    whole = branch().through([0, 60])
    for warm in (WarmSessions(), None):
        found = branch(warm=warm).through([0])
        found.through([20], save=None)
        found.through([35], save=None)
        result = found.train(at(60))
        assert result.checkpoint == whole.refs[-1]
        assert result.warm is (warm is not None)
        assert result.repeated_steps == (0 if warm is not None else 35)


def test_a_new_worker_that_has_read_a_checkpoint_keeps_what_it_trained_since() -> None:
    found = branch(warm=WarmSessions()).through([0, 20])
    found.warm = WarmSessions()
    found.through([35], save=None)
    result = found.train(at(60))
    assert (result.warm, result.repeated_steps) == (True, 0)
    assert result.checkpoint == branch().through([0, 20, 60]).refs[-1]


def test_saves_on_the_way_are_those_of_chunks_that_end_there() -> None:
    whole = branch().through([0, 20, 50, 60])
    found = branch().through([0])
    result = found.train(at(60), saves=(at(20), at(50)))
    assert list(result.saved) == whole.refs[1:]
    assert result.checkpoint == result.saved[-1]
    assert (result.batches, result.parent) == (10, whole.refs[2].manifest_sha256)


def test_a_stop_between_saves_on_the_way_keeps_those_that_were_made() -> None:
    found = branch().through([0])
    result = found.train(at(60), saves=(at(20), at(50)), control=stop_after(30, deadline_s=0.0))
    assert [ref.cursor for ref in result.saved] == [at(20)]
    assert result.checkpoint == result.saved[-1]
    assert (result.stopped_at, result.complete) == (at(30), False)


def test_a_save_on_the_way_that_fails_ends_the_chunk_and_can_be_done_again() -> None:
    broken = False

    def hook(point: str) -> None:
        if broken and point == "before manifest":
            raise ObjectStoreUnavailable("create", "manifest", "the test says so")

    found = Branch(store=CheckpointStore(hook=hook), warm=WarmSessions()).through([0])
    broken = True
    with pytest.raises(ObjectStoreUnavailable):
        found.train(at(60), saves=(at(20), at(50)))
    broken = False
    result = found.train(at(60), saves=(at(20), at(50)))
    assert not result.warm
    assert list(result.saved) == branch().through([0, 20, 50, 60]).refs[1:]


def test_memory_past_the_stop_is_not_used() -> None:
    found = branch(warm=WarmSessions()).through([0])
    found.through([20], save=None)
    found.cursor = at(5)
    result = found.train(at(10))
    assert (result.warm, result.stopped_at) == (False, at(10))
    assert result.checkpoint == branch().through([0, 10]).refs[-1]


def test_memory_under_other_orders_is_not_used() -> None:
    found = branch(warm=WarmSessions()).through([0])
    found.through([20], save=None)
    found.cursor = at(10)
    found.order(lr=0.01)
    found.cursor = at(20)
    result = found.train(at(30))
    assert not result.warm
    other = branch(warm=WarmSessions()).through([0])
    other.through([10], save=None)
    other.order(lr=0.01)
    other.through([20], save=None)
    assert other.train(at(30)).checkpoint == result.checkpoint


def test_orders_between_checkpoints_are_repeated_where_they_were() -> None:
    def train(warm: WarmSessions | None) -> Branch:
        found = branch(warm=warm).through([0])
        found.through([20], save=None)
        found.order(lr=0.01)
        found.through([33], save=None)
        found.order(lr=0.1, dropout=0.0)
        return found.through([40])

    warm, cold = train(WarmSessions()), train(None)
    assert [result.warm for result in warm.results] == [False, True, True, True]
    assert cold.results[-1].repeated_steps == 33
    assert warm.refs == cold.refs


def test_memory_is_lost_with_the_chunk_that_fails() -> None:
    warm = WarmSessions()
    found = branch(warm=warm).through([0])

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.train(at(20), control=fail)
    assert not found.train(at(20)).warm
    assert found.digest() == branch().through([20]).digest()


def test_memory_holds_a_bounded_number_of_trainers() -> None:
    warm = WarmSessions(1)
    first, second = branch(warm=warm), branch(warm=warm, run="run-2")
    first.through([0])
    second.through([0])
    assert not first.train(at(2)).warm
    assert not second.train(at(2)).warm


def test_a_worker_asked_to_stop_saves_where_it_is() -> None:
    found = branch().through([0])
    result = found.train(at(STEPS), control=stop_after(13))
    assert (result.complete, result.stopped_at) == (False, at(13))
    assert result.checkpoint is not None
    assert result.checkpoint.kind == "preempt"
    assert found.through([STEPS]).digest() == branch().through([STEPS]).digest()


def test_a_worker_without_the_time_to_save_hands_back_what_was_saved_before() -> None:
    found = branch(warm=WarmSessions()).through([0, 20])
    result = found.train(at(STEPS), control=stop_after(5, deadline_s=0.0))
    assert (result.complete, result.checkpoint) == (False, None)
    assert result.parent == found.refs[-1].manifest_sha256
    assert found.through([STEPS]).digest() == branch().through([STEPS]).digest()


def test_a_worker_asked_to_stop_while_it_repeats_steps_saves_nothing_between() -> None:
    found = branch().through([0, 20, 40])
    for ref in found.refs[1:]:
        damage(found.store, ref)
    result = found.train(at(60), control=stop_after(30))
    assert (result.stopped_at, result.checkpoint) == (at(30), None)
    assert outcomes(result) == ["left", "healed"]
    assert outcomes(found.train(at(60))) == ["healed"]


def test_nothing_to_train_saves_nothing_new() -> None:
    found = branch().through([0, 20])
    result = found.train(at(20))
    assert result.checkpoint == found.refs[-1]
    assert result.batches == 0


def test_metrics_and_batches_count_from_the_parent() -> None:
    found = branch().through([0, 20])
    result = found.train(at(30), save=SaveAs(kind="final", evaluate=True))
    assert result.batches == 10
    assert {"loss", "held_out_loss", "held_out_accuracy"} == set(result.metrics)
    assert result.checkpoint is not None
    manifest = found.store.load(result.checkpoint.manifest_sha256, result.checkpoint.key).manifest
    assert manifest.metrics == result.metrics
    assert manifest.data["merkle"] == result.merkle_root


def test_a_stage_continues_the_layers_of_another() -> None:
    first = branch(run="pretrain", trainer="autoencoder").through([0, STEPS])
    ref = first.refs[-1]
    given = Inherited(run="pretrain", key=ref.key, manifest_sha256=ref.manifest_sha256)
    second = branch(run="tune", stores={"pretrain": first.store})
    for stop in (at(0), at(20), at(40)):
        second.train(stop, inherits=given)
    before = first.store.load(ref.manifest_sha256, ref.key).state.groups["model"]
    after = second.store.load(second.refs[0].manifest_sha256, second.refs[0].key)
    assert (after.state.groups["model"]["w0"] == before["w0"]).all()
    assert after.manifest.data["inherits"] == ref.manifest_sha256
    alone = branch(run="tune").through([0])
    assert alone.digest() != second.digest(second.refs[0])


def test_other_data_another_trainer_and_unknown_names_are_refused_in_words() -> None:
    found = branch().through([0, 20])
    with pytest.raises(DatasetChanged, match="bring the data back"):
        found.train(at(40), dataset_fingerprint="0" * 64)
    with pytest.raises(DatasetChanged, match="digits"):
        found.train(at(40), split_seed=1)
    with pytest.raises(TrainerChanged, match="version 1 here"):
        found.train(at(40), trainer_version="0")
    with pytest.raises(BadHyperparameter, match=r"learning_rate.*known: .*lr"):
        branch(hparams={"learning_rate": 0.1}).train(at(0))


def test_another_environment_is_refused_or_flagged_as_ordered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = branch().through([0, 20])
    facts = {**fingerprint().facts, "numpy": "1.0"}
    monkeypatch.setattr(describing, "fingerprint", lambda uses: Environment(facts=facts))
    with pytest.raises(EnvironmentDiffers, match=r"numpy 1\.0 here, \d.* there"):
        found.train(at(40))
    flagged = found.train(at(40), environment="flag")
    assert len(flagged.environment_differs) == 1
    assert flagged.complete
    assert found.train(at(50)).environment_differs == ()


@pytest.mark.parametrize("stopped", [False, True], ids=["trained on", "stopped there"])
def test_what_another_machine_made_of_a_lost_checkpoint_is_answered(
    monkeypatch: pytest.MonkeyPatch, *, stopped: bool
) -> None:
    found = branch().through([0, 20, 40])
    before, lost = found.refs[-2:]
    damage(found.store, lost)
    facts = {**fingerprint().facts, "numpy": "1.0"}
    monkeypatch.setattr(describing, "fingerprint", lambda uses: Environment(facts=facts))
    control = stop_after(20 if stopped else 1000)
    result = found.train(at(60), environment="flag", control=control)
    assert outcomes(result) == ["differs"]
    anew, *later = result.saved
    assert (anew.cursor, anew.kind, anew.parent) == (at(40), lost.kind, before.manifest_sha256)
    assert anew.manifest_sha256 != lost.manifest_sha256
    assert [one.parent for one in later] == ([] if stopped else [anew.manifest_sha256])
    assert result.checkpoint == (anew if stopped else later[0])


def test_a_checkpoint_of_another_version_of_the_trainer_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = branch().through([0, 20])
    monkeypatch.setattr(MlpTrainer, "version", "2")
    with pytest.raises(TrainerChanged, match="version 2 here, the run was started with version 1"):
        found.train(at(40))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stop": {"epoch": 0, "step": 0}}, "not before the start"),
        ({"start": {"epoch": 0, "step": 3}}, "none after"),
        ({"saves": [{"epoch": 0, "step": 20}]}, "ascending, after epoch 0 step 20"),
        ({"hparams": None, "surprise": 1}, "surprise"),
    ],
)
def test_work_that_cannot_be_is_refused(change: dict[str, Json], said: str) -> None:
    found = branch().through([0, 20])
    good = found.work(at(40)).as_json()
    assert isinstance(good, dict)
    with pytest.raises(InvalidWork, match=said):
        work_from_json({**good, **change})


def test_live_metrics_are_told_of_every_step() -> None:
    told: list[Json] = []

    class Sink:
        """Keeps what it is given."""

        def put(self, record: object) -> None:
            assert isinstance(record, dict)
            told.append(record["step"])

    from orchestrator.training.runner import run_chunk
    from orchestrator.training.trainers import get_trainer

    found = Branch(store=CheckpointStore())
    run_chunk(
        found.work(Cursor(0, 5)),
        trainer=get_trainer("mlp"),
        checkpoints=lambda run: found.store,
        control=lambda: None,
        metrics=Sink(),
    )
    assert told == [1, 2, 3, 4, 5]
