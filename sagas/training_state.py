"""What a researcher may send to a training on its way, and what can be read of it at any time."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tasks.training_models import Measured, Seed

#: Points of the loss curve, and orders, that the published state keeps: the newest.
CURVE_MAX = 200
ORDERS_MAX = 50


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str = "researcher"
    reason: str = ""


class Decide(_Order):
    """Signal ``decide``: go on as it is, go on with other values, or stop and evaluate."""

    decision: Literal["continue", "adjust", "stop"]
    hparams: dict[str, JsonValue] = {}


class Pause(_Order):
    """Signal ``pause``: save, and order no further steps until ``resume``."""


class Resume(_Order):
    """Signal ``resume``; `environment` changes the policy that made the run pause, if one did."""

    environment: Literal["refuse", "flag"] | None = None


class Rollback(_Order):
    """Signal ``rollback``: go on from an earlier checkpoint, as a new branch; nothing is deleted.

    `to` is the digest of its manifest, or the first eight characters or more.
    """

    to: str = Field(min_length=8, max_length=64)


class Reseed(_Order):
    """Signal ``reseed``: go on from here with another seed, as a new branch."""

    seed: Seed


class Fork(_Order):
    """Signal ``fork``: go on from here once more with each of these seeds, as runs of their own."""

    seeds: Annotated[list[Seed], Field(min_length=1, max_length=64)]
    hparams: dict[str, JsonValue] = {}


ResearcherOrder = Decide | Pause | Resume | Rollback | Reseed | Fork

SIGNALS: dict[str, type[_Order]] = {
    "decide": Decide,
    "pause": Pause,
    "resume": Resume,
    "rollback": Rollback,
    "reseed": Reseed,
    "fork": Fork,
}


class Status(Enum):
    """What a training is doing."""

    PREPARING = "preparing"
    TRAINING = "training"
    PAUSED = "paused"
    AWAITING_REVIEW = "awaiting_review"
    EVALUATING = "evaluating"
    CLEANING_UP = "cleaning_up"  #: it failed, or was cancelled
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Acknowledged(BaseModel):
    """An order of a person, and where it took effect; or why it did not."""

    order: str
    by: str
    applied: bool
    epoch: int
    step: int
    branch: str
    detail: str = ""


class Saved(BaseModel):
    """A checkpoint."""

    branch: str
    epoch: int
    step: int
    kind: str
    manifest_sha256: str


class TrainingState(BaseModel):
    """A training as its researcher sees it."""

    status: Status = Status.PREPARING
    storage: str = ""
    branch: str = "main"
    epoch: int = 0
    step: int = 0
    epochs: int
    seed: int
    hparams: dict[str, JsonValue] = {}
    #: Of the last chunk that took a step.
    loss: Measured | None = None
    best_loss: float | None = None
    best_epoch: int | None = None
    #: Mean loss per chunk where it is finite: [epoch, loss].
    curve: list[tuple[float, float]] = []
    metrics: dict[str, Measured] = {}
    interval_s: float | None = None
    interval_why: str = ""
    expected_waste: float | None = None
    checkpoints: list[Saved] = []
    orders: list[Acknowledged] = []
    forks: list[str] = []
    failures: int = 0
    rejected: list[str] = []
    bit_identical: bool = True
    reason: str = ""
    model_sha256: str = ""


class TrainingReport(BaseModel):
    """How a training ended."""

    storage: str
    branch: str
    epochs: int
    seed: int
    stopped_early: bool
    checkpoint: dict[str, JsonValue]
    model_sha256: str
    metrics: dict[str, Measured]
    #: Those in force at the end.
    hparams: dict[str, JsonValue] = {}
    registered: str | None = None
