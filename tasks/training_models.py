"""What the training's tasks take and give, as pydantic models.

The work of a chunk and what came of it travel as the plain JSON of `orchestrator.training.work`.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

Name = Annotated[str, Field(min_length=1, max_length=100)]
#: Of a storage, which is called after its run, and of a branch: a workflow id, and what follows it.
LongName = Annotated[str, Field(min_length=1, max_length=400)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Json = dict[str, JsonValue]
#: What was measured; a number that is not finite is its name, as JSON has no other for it.
Measured = float | Literal["nan", "inf", "-inf"]


def measured(value: float) -> Measured:
    """Return a number as reports and states carry it."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Saving(_Value):
    """When checkpoints are saved: every so many epochs, or as often as it pays."""

    every_epochs: int | None = Field(default=None, ge=1)
    #: Expected time between failures before any was seen.
    prior_mtbf_s: Seconds = 4 * 3600.0
    tau_min_s: Seconds = 10.0
    tau_max_s: Seconds = 1800.0
    money_per_save: Money = 0.0
    money_per_hour: Money = 0.0

    @model_validator(mode="after")
    def _check(self) -> "Saving":
        if self.tau_max_s < self.tau_min_s:
            raise ValueError(f"tau_max_s {self.tau_max_s} is below tau_min_s {self.tau_min_s}")
        return self


class Keeping(_Value):
    """Which checkpoints stay when the run ends; those it needs stay anyway."""

    latest: int = Field(default=3, ge=1)
    best: int = Field(default=1, ge=0)
    best_by: Name = "held_out_accuracy"
    highest: bool = True
    every: int | None = Field(default=None, ge=1, description="steps")


class Review(_Value):
    """When a person looks at a run, and how long it waits for one."""

    every_epochs: int = Field(ge=1)
    timeout_s: Seconds = 24 * 3600.0


class Inherits(_Value):
    """The final checkpoint of an earlier stage: where its run keeps it, and what it is."""

    storage: LongName
    key: str
    manifest_sha256: str


class BranchStart(_Value):
    """Where a fork begins: its parent's checkpoints and orders, as the parent knew them."""

    storage: LongName
    branch: LongName
    cursor: Json
    refs: tuple[Json, ...]
    orders: tuple[Json, ...]


class TrainingPlan(_Value):
    """What is to be trained; all that it names is checked before the first step."""

    trainer: Name = "mlp"
    dataset: Name = "digits"
    split_seed: Seed = 0
    epochs: int = Field(default=20, ge=1, le=1_000_000)
    seed: Seed = 7
    hparams: Json = {}
    saving: Saving = Saving()
    keeping: Keeping = Keeping()
    review: Review | None = None
    #: What to do on a machine that would round differently than the checkpoint's.
    environment: Literal["refuse", "flag"] = "refuse"
    #: Under which name the model is registered; None for not at all.
    model: Name | None = None
    inherits: Inherits | None = None
    start: BranchStart | None = None
    #: Celery queue of the steps that train; None for the one they are routed to.
    queue: Name | None = None


class Prepared(_Value):
    """What is known once a run has been checked: all of it is fixed from here on."""

    storage: str
    store: str
    hparams: Json
    steps_per_epoch: int
    trainer_version: str
    dataset_fingerprint: str
    environment_class: str
    #: The first checkpoint, as the JSON of a chunk's result; None for a fork, which has some.
    first: Json | None = None


class Evaluation(_Value):
    """What the final model is worth, and which bits it is."""

    model_sha256: str
    manifest_sha256: str
    metrics: dict[str, Measured]


class Registered(_Value):
    """A model in the registry."""

    name: str
    key: str
    manifest_sha256: str
