"""Every exception of the training library, by what the caller does about it.

OrchestratorError                   see `orchestrator.core.errors`
└── TrainingError                   base of all below
    ├── TrainingUsageError          fix it: an order, a name or an installation is wrong
    │   ├── BadHyperparameter       a value that does not fit, or may not change any more
    │   ├── InvalidWork             a chunk that no order of events can have led to
    │   ├── UnknownDataset          no data of that name
    │   ├── UnknownTrainer          no trainer of that name
    │   ├── DatasetChanged          the data is not what the run was started with
    │   ├── TrainerChanged          the trainer is not what the run was started with
    │   ├── EnvironmentDiffers      this machine would round differently
    │   ├── TrainingDependencyMissing  an optional package is not installed
    │   ├── ObjectStoreUnfit        a store that cannot keep checkpoints, or may not be reached
    │   └── UnsafePlan              a retention policy that would delete what is needed
    ├── CheckpointError             train on from another, or start again from the seed
    │   ├── BadCheckpoint           a checkpoint that is not what it was saved as
    │   ├── ObjectNotFound          no object under that key
    │   └── ObjectChanged           somebody else replaced the object first
    ├── NonDeterminismError         stop: the same work gave other bits
    ├── ObjectStoreUnavailable      back off: no answer; what was asked may have happened
    ├── EvidenceError               do not rely on it: what was recorded does not bear it out
    │   ├── BadRecord               stored facts that nothing here can have written
    │   ├── EvidenceRefused         a proof or a ledger that does not lead to the root
    │   └── NotProvable             the ledger says the contrary
    └── TrainerMisbehaved           mend the trainer: it broke its contract
        └── ResumeNotIdentical      what was saved and loaded trains on to other bits

Each hands its own arguments, in order, to ``super().__init__`` and words itself in ``__str__``.
"""

from orchestrator.core.errors import OrchestratorError


class TrainingError(OrchestratorError):
    """Base of all that the training library raises."""


class TrainingUsageError(TrainingError):
    """An order, a name or an installation is wrong: fix it, never retry."""


class BadHyperparameter(TrainingUsageError):
    """A hyperparameter that does not fit; nothing was changed."""

    def __init__(self, name: str, found: str, wanted: str) -> None:
        super().__init__(name, found, wanted)
        self.name = name
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"hyperparameter {self.name!r}: found {self.found}; {self.wanted}"


class InvalidWork(TrainingUsageError):
    """A chunk of work that no order of events can have led to; nothing was trained."""

    def __init__(self, part: str, found: str, wanted: str) -> None:
        super().__init__(part, found, wanted)
        self.part = part
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.part} of a chunk of work: found {self.found}; {self.wanted}"


class UnknownDataset(TrainingUsageError):
    """No dataset of that name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return f"no dataset is named {self.name!r}; known: {', '.join(self.known) or 'none'}"


class UnknownTrainer(TrainingUsageError):
    """No trainer of that name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return (
            f"no trainer is named {self.name!r}; known: {', '.join(self.known) or 'none'}; "
            f"others are made known with `register_trainer`"
        )


class DatasetChanged(TrainingUsageError):
    """The data under a name is not what the run was started with; nothing was trained."""

    def __init__(self, name: str, found: str, wanted: str) -> None:
        super().__init__(name, found, wanted)
        self.name = name
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"dataset {self.name!r} has the fingerprint {self.found}, the run was started with "
            f"{self.wanted}: bring the data back, or start another run"
        )


class TrainerChanged(TrainingUsageError):
    """The trainer under a name is not what the run was started with; nothing was trained."""

    def __init__(self, name: str, found: str, wanted: str) -> None:
        super().__init__(name, found, wanted)
        self.name = name
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"trainer {self.name!r} is version {self.found} here, the run was started with "
            f"version {self.wanted}: run a worker that has it, or start another run"
        )


class EnvironmentDiffers(TrainingUsageError):
    """This machine would round differently than the one that saved; nothing was trained."""

    def __init__(self, checkpoint: str, differences: tuple[str, ...]) -> None:
        super().__init__(checkpoint, differences)
        self.checkpoint = checkpoint
        self.differences = differences

    def __str__(self) -> str:
        return (
            f"checkpoint {self.checkpoint} was saved in another environment: "
            f"{'; '.join(self.differences)}; run it where it was saved, or order "
            f"environment='flag' to train on without the promise of equal bits"
        )


class TrainingDependencyMissing(TrainingUsageError):
    """An optional package is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(what, package, extra)
        self.what = what
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        return (
            f"{self.what} needs {self.package}, which is not installed: "
            f"pip install 'celery-orchestrator[{self.extra}]'"
        )


class ObjectStoreUnfit(TrainingUsageError):
    """A store that cannot keep checkpoints, or does not let us in; nothing was saved."""

    def __init__(self, store: str, found: str, wanted: str) -> None:
        super().__init__(store, found, wanted)
        self.store = store
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.store} cannot keep checkpoints: found {self.found}; {self.wanted}"


class UnsafePlan(TrainingUsageError):
    """A retention policy or plan that would delete what is needed; nothing was deleted."""

    def __init__(self, subject: str, found: str, wanted: str) -> None:
        super().__init__(subject, found, wanted)
        self.subject = subject
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.subject}: found {self.found}; {self.wanted}"


class CheckpointError(TrainingError):
    """A checkpoint or a part of it is not to be had: train on from another."""


class BadCheckpoint(CheckpointError):
    """A checkpoint that is not what it was saved as; nothing was loaded from it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"checkpoint {self.key}: {self.reason}; continue an older one, which mends it"


class ObjectNotFound(CheckpointError):
    """No object is stored under that key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"nothing is stored under {self.key}"


class ObjectChanged(CheckpointError):
    """The object is not the version any more that it was to be replaced or deleted as."""

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(key, expected)
        self.key = key
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.key} is not version {self.expected} any more: look at it again"


class NonDeterminismError(TrainingError):
    """The same work, done again, gave other bits; what was saved first stays."""

    def __init__(self, key: str, differs: tuple[str, ...]) -> None:
        super().__init__(key, differs)
        self.key = key
        self.differs = differs

    def __str__(self) -> str:
        return (
            f"{self.key} was saved before by the same work, and differs in "
            f"{', '.join(self.differs)}: look for chance outside the run's seed, for threads that "
            f"add up in another order, or for a changed library; what was saved first is kept"
        )


class ObjectStoreUnavailable(TrainingError):
    """No answer from the store of objects.  What was asked may or may not have happened."""

    def __init__(self, operation: str, key: str, reason: str) -> None:
        super().__init__(operation, key, reason)
        self.operation = operation
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation} {self.key}: no answer from the store ({self.reason}); try again"


class EvidenceError(TrainingError):
    """What was recorded does not bear out what is asked of it: do not rely on it."""


class BadRecord(EvidenceError):
    """Stored facts that nothing here can have written; nothing was taken from them."""

    def __init__(self, subject: str, found: str, wanted: str) -> None:
        super().__init__(subject, found, wanted)
        self.subject = subject
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.subject}: found {self.found}; wanted {self.wanted}"


class EvidenceRefused(EvidenceError):
    """A proof or a ledger that does not lead to the root it is held against."""

    def __init__(self, subject: str, found: str, wanted: str) -> None:
        super().__init__(subject, found, wanted)
        self.subject = subject
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.subject}: found {self.found}; wanted {self.wanted}: it proves nothing"


class NotProvable(EvidenceError):
    """The ledger says the contrary of what a proof was asked for."""

    def __init__(self, claim: str, found: str) -> None:
        super().__init__(claim, found)
        self.claim = claim
        self.found = found

    def __str__(self) -> str:
        return f"{self.claim} cannot be proved: {self.found}"


class TrainerMisbehaved(TrainingError):
    """A trainer broke its contract (see `trainer`); nothing of the chunk was kept."""

    def __init__(self, subject: str, found: str, wanted: str) -> None:
        super().__init__(subject, found, wanted)
        self.subject = subject
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.subject}: found {self.found}; {self.wanted}"


class ResumeNotIdentical(TrainerMisbehaved):
    """What was saved and loaded trains on to other bits than what was never interrupted."""
