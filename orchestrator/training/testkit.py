"""For whoever writes a trainer: does it resume to the same bits?

`assert_resume_identical` trains the same steps several times over, with and without being saved
and loaded in between, and compares SHA-256 digests over every tensor, counter and memory order.
"""

from collections.abc import Collection, Mapping

from orchestrator.core.values import Json
from orchestrator.training.datasets import open_dataset
from orchestrator.training.errors import ResumeNotIdentical
from orchestrator.training.session import Session
from orchestrator.training.state import State
from orchestrator.training.trainer import Context, Cursor, Trainer, TrainerFactory


def assert_resume_identical(
    factory: TrainerFactory,
    *,
    dataset: str = "digits",
    hparams: Mapping[str, Json] | None = None,
    seed: int = 7,
    steps: int = 12,
    cuts: Collection[int] | None = None,
) -> str:
    """Return the digest that training ends with, however it is interrupted.

    Args:
        factory: Makes the trainer.
        dataset: Name of the data, see `datasets.open_dataset`.
        hparams: Hyperparameters; defaults for what is not named.
        seed: The run's seed.
        steps: How many steps to train.
        cuts: After which numbers of steps to save and load; after every step if None.

    Raises:
        ResumeNotIdentical: Names the first difference: what the trainer does not save.
    """
    ways = _Ways(factory, dataset, dict(hparams or {}), seed)
    where = sorted(cuts) if cuts is not None else list(range(steps + 1))
    wanted = ways.train(steps, {}, "without interruption")
    again = ways.train(steps, {}, "without interruption, again")
    _compare("a second run from the same seed", again, wanted, "draws from elsewhere than the keys")
    for used in (False, True):
        into = "an object that has trained" if used else "a fresh object"
        found = ways.train(steps, dict.fromkeys(where, used), f"loaded into {into}")
        _compare(f"a run saved and loaded into {into}", found, wanted, "leaves something out")
    for cut in where:
        found = ways.train(steps, {cut: False}, f"interrupted after step {cut}")
        _compare(f"a run interrupted once, after step {cut}", found, wanted, "leaves something out")
    return wanted


class _Ways:
    """The same training, by several ways."""

    def __init__(
        self, factory: TrainerFactory, dataset: str, hparams: dict[str, Json], seed: int
    ) -> None:
        self._factory = factory
        self._dataset = open_dataset(dataset)
        self._hparams = factory().hyperparameters.complete(hparams)
        self._seed = seed

    def train(self, steps: int, cuts: Mapping[int, bool], way: str) -> str:
        """Return the digest after `steps`; at each cut saved, and loaded (True: into itself)."""
        trainer = self._factory()
        trainer.init(self._context())
        session = self._session(trainer, Cursor(0, 0))
        for done in range(steps + 1):
            if done in cuts:
                saved = through_bytes(trainer.state())
                trainer = trainer if cuts[done] else self._factory()
                session = self._session(trainer, session.cursor)
                trainer.load(saved, session.ctx)
                loaded = trainer.state().digest()
                _compare(f"the state {way}", loaded, saved.digest(), "leaves something out")
            if done < steps:
                session.advance()
        return trainer.state().digest()

    def _context(self) -> Context:
        return Context(seed=self._seed, hparams=self._hparams, dataset=self._dataset)

    def _session(self, trainer: Trainer, at: Cursor) -> Session:
        return Session(trainer, self._context(), cursor=at, step=0)


def _compare(subject: str, found: str, wanted: str, why: str) -> None:
    if found != wanted:
        raise ResumeNotIdentical(
            subject, f"digest {found[:12]}", f"{wanted[:12]} without: the trainer {why}"
        )


def through_bytes(state: State) -> State:
    """Return what is read back from the bytes that `state` is written as."""
    return State.decode(state.encode())
