"""Promise: PyTorch models resume to the same bits on the processor, without `torch.save`."""

import pytest

torch = pytest.importorskip(
    "torch", reason="PyTorch is an optional extra: pip install 'celery-orchestrator[torch]'"
)

from orchestrator.core.values import Json  # noqa: E402 - torch comes first
from orchestrator.training.datasets import open_dataset  # noqa: E402
from orchestrator.training.errors import BadHyperparameter, TrainerMisbehaved  # noqa: E402
from orchestrator.training.testkit import assert_resume_identical  # noqa: E402
from orchestrator.training.torch_state import flatten, restored  # noqa: E402
from orchestrator.training.torch_trainer import DigitsCnn  # noqa: E402
from orchestrator.training.trainer import Context  # noqa: E402
from tests.training.trainers_kit import Branch, branch  # noqa: E402

#: Decays at the end of every epoch, so that the schedule has a position of its own.
CNN: dict[str, Json] = {"channels": 4, "decay_every": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def cnn(**change: Json) -> Branch:
    """Return a branch of a small network."""
    return branch(trainer="digits-cnn", hparams={**CNN, **change})


def test_network_resumes_after_every_step_over_the_end_of_an_epoch() -> None:
    assert_resume_identical(DigitsCnn, hparams={**CNN, "batch_size": 512}, steps=7)


def test_chunks_cut_anywhere_give_the_same_bits() -> None:
    assert cnn().through([0, 13, 45, 46, 100]).digest() == cnn().through([100]).digest()


def test_a_new_learning_rate_is_the_orders_and_keeps_the_schedule() -> None:
    def train(cuts: list[int]) -> Branch:
        found = cnn().through([50])
        found.order(lr=0.01)
        return found.through(cuts)

    whole, cut = train([100]), train([51, 70, 90, 100])
    assert whole.digest() == cut.digest() != cnn().through([100]).digest()
    loaded = whole.store.load(whole.refs[-1].manifest_sha256, whole.refs[-1].key)
    groups = loaded.state.meta["groups"]
    assert isinstance(groups, list)
    group = groups[0]
    assert isinstance(group, dict)
    # Two epochs are done: a fourth of the new one.
    assert group["lr"] == pytest.approx(0.0025)


def test_loading_takes_the_learning_rate_from_the_context() -> None:
    data = open_dataset("digits")
    before = DigitsCnn.hyperparameters.complete(CNN)
    trainer, fresh = DigitsCnn(), DigitsCnn()
    trainer.init(Context(seed=7, hparams=before, dataset=data))
    after = DigitsCnn.hyperparameters.changed(before, {"lr": 0.5})
    fresh.load(trainer.state(), Context(seed=7, hparams=after, dataset=data))
    assert fresh.state().meta["lr"] == 0.5
    groups = fresh.state().meta["groups"]
    assert isinstance(groups, list)
    assert isinstance(groups[0], dict)
    assert groups[0]["lr"] == 0.5


def test_evaluation_changes_nothing() -> None:
    hparams = DigitsCnn.hyperparameters.complete(CNN)
    ctx = Context(seed=7, hparams=hparams, dataset=open_dataset("digits"))
    trainer = DigitsCnn()
    trainer.init(ctx)
    before = trainer.state().digest()
    assert set(trainer.evaluate(ctx)) == {"loss", "accuracy"}
    assert trainer.state().digest() == before


def test_bfloat16_and_tied_weights_come_back() -> None:
    shared = torch.arange(4.0)
    values = {"a": shared, "b": shared, "c": torch.ones(2, dtype=torch.bfloat16), "d": 3}
    tensors, meta = flatten(values, "the model's")
    assert set(tensors) == {"a", "c"}
    found = restored(tensors, meta)
    assert found["a"] is found["b"]
    assert found["c"].dtype is torch.bfloat16
    assert torch.equal(found["c"], values["c"])
    assert found["d"] == 3


def test_what_is_neither_tensor_nor_json_is_refused() -> None:
    with pytest.raises(TrainerMisbehaved, match="the model's hook"):
        flatten({"hook": object()}, "the model's")


def test_data_that_is_no_image_is_refused() -> None:
    with pytest.raises(BadHyperparameter, match="square images"):
        branch(trainer="digits-cnn", hparams=CNN, dataset="wine").through([0])
