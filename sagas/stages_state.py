"""What a training in stages is asked for, what may be sent to it, and what can be read of it."""

from enum import Enum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tasks.training_models import Inherits, Measured, Name, Seconds, TrainingPlan

StageName = Literal["pretrain", "fine-tune", "exam"]
#: Notes that the published state keeps: the newest.
NOTES_MAX = 20


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Exam(_Value):
    """What the model has to reach on the held-out samples, and its name in the registry then."""

    at_least: dict[str, float] = {"accuracy": 0.9}
    model: Name | None = None


class StagesPlan(_Value):
    """The stages, each with a plan of its own; the second goes on from what the first learned."""

    pretraining: TrainingPlan = TrainingPlan(trainer="autoencoder", epochs=5)
    fine_tuning: TrainingPlan = TrainingPlan(trainer="mlp", epochs=10)
    exam: Exam = Exam()
    #: The output of an earlier run's first stage, to begin with the second.
    pretrained: Inherits | None = None
    #: How long a failed stage waits for somebody to say what to do.
    patience_s: Seconds = 7 * 24 * 3600.0

    @model_validator(mode="after")
    def _check(self) -> "StagesPlan":
        if self.fine_tuning.inherits is not None:
            raise ValueError("fine_tuning.inherits is set; it is the first stage, or `pretrained`")
        return self


class _Order(_Value):
    by: str = "researcher"
    reason: str = ""


class RetryStage(_Order):
    """Signal ``retry``: try again what failed, or from an earlier `stage` on; with changed values.

    `hparams` are for the stage that is tried again, `at_least` is for the exam.
    """

    stage: StageName | None = None
    hparams: dict[str, JsonValue] = {}
    at_least: dict[str, float] = {}


class GiveUp(_Order):
    """Signal ``give_up``: end the run with what failed."""


SIGNALS: dict[str, type[_Order]] = {"retry": RetryStage, "give_up": GiveUp}


class StageStatus(Enum):
    """Where a stage is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    GIVEN = "given"  #: its output is an earlier run's
    FAILED = "failed"
    CANCELLED = "cancelled"


class StageState(BaseModel):
    """A stage; the run `workflow_id` has a published state and a history of its own."""

    name: StageName
    status: StageStatus = StageStatus.WAITING
    attempts: int = 0
    workflow_id: str = ""
    #: Digest of its checkpoint's manifest.
    output: str = ""
    metrics: dict[str, Measured] = {}
    reason: str = ""


class Status(Enum):
    """Where the whole is."""

    RUNNING = "running"
    AWAITING_HELP = "awaiting_help"  #: a stage failed: `retry` or `give_up`
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StagesState(BaseModel):
    """A training in stages as its researcher sees it."""

    status: Status = Status.RUNNING
    stages: list[StageState] = Field(min_length=3, max_length=3)
    notes: list[str] = []


class ExamReport(BaseModel):
    """What a model that passed is worth, and where it is registered."""

    model_sha256: str
    metrics: dict[str, Measured]
    registered: str | None = None


class StagesReport(BaseModel):
    """How it ended: the output of the first stage, and the model."""

    pretrained: Inherits
    model_sha256: str
    manifest_sha256: str
    metrics: dict[str, Measured]
    registered: str | None = None
