"""A training in stages: pretrain an autoencoder, fine-tune a classifier from it, examine the model.

ST1  Each stage is a run of its own.  Its end is an event of this one's history: whatever fails
     later, a stage that is done is not done again.
ST2  A stage that fails waits for a person, who may have it tried again, under another id, or from
     an earlier stage on; what comes before that stands in the log.
ST3  The output of a stage is one checkpoint, named by its digest; the run that made it keeps it,
     whatever its plan says of keeping.

Run     python -m sagas stages
Signal  celery -A sagas workflow signal stages-1 retry '{"hparams": {"lr": 0.0005}}'
Test    tests/sagas/test_stages.py, tests/acceptance/test_stages.py
"""

import asyncio
from datetime import timedelta
from typing import Any

from orchestrator import ApplicationError, ChildWorkflowError, workflow
from orchestrator.training.records import cursor_from_json
from orchestrator.training.work import ChunkWork, ref_from_json
from sagas.app import orc
from sagas.stages_state import (
    NOTES_MAX,
    SIGNALS,
    Exam,
    ExamReport,
    GiveUp,
    RetryStage,
    StagesPlan,
    StagesReport,
    StagesState,
    StageState,
    StageStatus,
    Status,
)
from sagas.training import train
from sagas.training_state import TrainingReport
from sagas.training_trouble import STEP_TIMEOUT
from tasks.training import evaluate, register, unregister
from tasks.training_models import Evaluation, Inherits, TrainingPlan

PRETRAIN, FINE_TUNE, EXAM = range(3)


@orc.workflow(name="training-exam")
async def examine(exam: Exam, plan: TrainingPlan, trained: TrainingReport) -> ExamReport:
    """Return what the model is worth, and register it where it is worth enough.

    Raises:
        ApplicationError: Type ExamFailed; it is not, with what was found and wanted.
    """
    work = work_of(plan, trained)
    found: Evaluation = await workflow.step(
        evaluate, work.as_json(), queue=plan.queue, start_to_close=STEP_TIMEOUT
    )
    short = [
        f"{name} is {found.metrics.get(name)}, wanted at least {wanted}"
        for name, wanted in sorted(exam.at_least.items())
        # A metric that is not there, or is NaN, does not reach anything.
        if not float(found.metrics.get(name, "nan")) >= wanted
    ]
    if short:
        raise ApplicationError("; ".join(short), type="ExamFailed")
    registered = None
    if exam.model is not None:
        async with workflow.saga() as saga:
            done = await saga.step(register, exam.model, trained.storage, found, undo=unregister)
            registered = done.key
    return ExamReport(model_sha256=found.model_sha256, metrics=found.metrics, registered=registered)


@orc.workflow(name="training-stages", signals=SIGNALS)
async def train_in_stages(plan: StagesPlan) -> StagesReport:
    """Return the model that came of it.

    Raises:
        ApplicationError: Type StageFailed; nobody had it tried again, or somebody gave it up.
    """
    stages = Stages(plan)
    state = stages.state
    try:
        while (number := stages.next) is not None:
            try:
                await stages.carry_out(number)
            except ChildWorkflowError as error:
                await stages.ask(number, error)
    except asyncio.CancelledError:
        state.status = Status.CANCELLED
        raise
    except ApplicationError:
        state.status = Status.FAILED
        raise
    state.status = Status.COMPLETED
    return stages.report()


class Stages:
    """The stages of one run: what is asked of each, and what came of those that are done."""

    def __init__(self, plan: StagesPlan) -> None:
        self.plan = plan
        names = ("pretrain", "fine-tune", "exam")
        stages = [StageState.model_validate({"name": name}) for name in names]
        self.state = workflow.publish(StagesState(stages=stages))
        self._pretrained = plan.pretrained
        self._trained: TrainingReport | None = None
        self._examined: ExamReport | None = None
        self._orders: list[RetryStage | GiveUp] = []
        if plan.pretrained is not None:
            first = self.state.stages[PRETRAIN]
            first.status, first.output = StageStatus.GIVEN, plan.pretrained.manifest_sha256
        for name, kind in SIGNALS.items():
            workflow.on_signal(name, kind)(self._take)

    @property
    def next(self) -> int | None:
        """Number of the first stage that is not done; None when all are."""
        over = (StageStatus.DONE, StageStatus.GIVEN)
        left = (n for n, stage in enumerate(self.state.stages) if stage.status not in over)
        return next(left, None)

    async def carry_out(self, number: int) -> None:
        """Have a stage done by a run of its own, and take its output.

        Raises:
            ChildWorkflowError: It failed, or somebody cancelled or terminated it.
        """
        info, stage = workflow.info(), self.state.stages[number]
        stage.attempts += 1
        stage.workflow_id = f"{info.workflow_id}.{info.run}.{stage.name}-{stage.attempts}"
        stage.status, stage.reason = StageStatus.RUNNING, ""
        child = workflow.child.options(id=stage.workflow_id, parent_close_policy="request_cancel")
        try:
            if number == EXAM:
                assert self._trained is not None
                plan = self.plan.fine_tuning
                self._examined = await child(examine, self.plan.exam, plan, self._trained)
                stage.metrics = self._examined.metrics
            else:
                self._keep(number, await child(train, self._training(number)))
        except ChildWorkflowError as error:
            stage.status = StageStatus.FAILED
            stage.reason = f"{error.status}: {error.failure.message}"
            raise
        except asyncio.CancelledError:
            stage.status = StageStatus.CANCELLED
            raise
        stage.status = StageStatus.DONE

    async def ask(self, number: int, error: ChildWorkflowError) -> None:
        """Wait until somebody says what to do about a stage that failed, and prepare that (ST2).

        Raises:
            ApplicationError: It is not tried again.
        """
        stage = self.state.stages[number]
        self.state.status = Status.AWAITING_HELP
        patience = timedelta(seconds=self.plan.patience_s)
        try:
            await workflow.wait_condition(lambda: bool(self._orders), timeout=patience)
        except TimeoutError:
            why = f"nobody said what to do within {patience}"
        else:
            order = self._orders.pop(0)
            if isinstance(order, RetryStage):
                self._prepare(number, order)
                self.state.status = Status.RUNNING
                return
            why = f"given up by {order.by}: {order.reason}".removesuffix(": ")
        message = f"stage {stage.name} {stage.reason}; {why}"
        raise ApplicationError(message, type="StageFailed") from error

    def report(self) -> StagesReport:
        """Return how it ended, once all stages are done."""
        assert self._pretrained is not None
        assert self._trained is not None
        assert self._examined is not None
        return StagesReport(
            pretrained=self._pretrained,
            model_sha256=self._examined.model_sha256,
            manifest_sha256=ref_from_json(self._trained.checkpoint).manifest_sha256,
            metrics=self._examined.metrics,
            registered=self._examined.registered,
        )

    def _training(self, number: int) -> TrainingPlan:
        if number == PRETRAIN:
            return self.plan.pretraining
        return self.plan.fine_tuning.model_copy(update={"inherits": self._pretrained})

    def _keep(self, number: int, report: TrainingReport) -> None:
        ref, stage = ref_from_json(report.checkpoint), self.state.stages[number]
        stage.output, stage.metrics = ref.manifest_sha256, report.metrics
        if number == FINE_TUNE:
            self._trained = report
        else:
            self._pretrained = Inherits(
                storage=report.storage, key=ref.key, manifest_sha256=ref.manifest_sha256
            )

    def _take(self, order: Any) -> None:
        """Take an order that fits what is now; of another only a note is left."""
        refusal = ""
        if self.state.status is not Status.AWAITING_HELP or self._orders:
            refusal = "no stage waits for it"
        elif isinstance(order, RetryStage):
            refusal = self._why_not(order)
        if not refusal:
            self._orders.append(order)
        name = "retry" if isinstance(order, RetryStage) else "give_up"
        note = f"{name} by {order.by}: {refusal or 'done'}"
        self.state.notes = [*self.state.notes, note][-NOTES_MAX:]

    def _why_not(self, order: RetryStage) -> str:
        failed, wanted = self.next, self._number_of(order)
        assert failed is not None
        if wanted > failed:
            return f"{order.stage} comes after {self.state.stages[failed].name}, which failed"
        if wanted == PRETRAIN and self.plan.pretrained is not None:
            return "the output of pretrain was given to this run"
        if wanted == EXAM and order.hparams:
            return "the exam has no hyperparameters; name the stage that they are for"
        return ""

    def _number_of(self, order: RetryStage) -> int:
        names = [stage.name for stage in self.state.stages]
        if order.stage is not None:
            return names.index(order.stage)
        failed = self.next
        assert failed is not None
        return failed

    def _prepare(self, failed: int, order: RetryStage) -> None:
        number = self._number_of(order)
        for stage in self.state.stages[number : failed + 1]:
            stage.status, stage.output, stage.metrics = StageStatus.WAITING, "", {}
        plan = self.plan
        changes: dict[str, Any] = {}
        if order.hparams:
            name = "pretraining" if number == PRETRAIN else "fine_tuning"
            before: TrainingPlan = getattr(plan, name)
            changes[name] = before.model_copy(update={"hparams": before.hparams | order.hparams})
        if order.at_least:
            at_least = plan.exam.at_least | order.at_least
            changes["exam"] = plan.exam.model_copy(update={"at_least": at_least})
        self.plan = plan.model_copy(update=changes)


def work_of(plan: TrainingPlan, trained: TrainingReport) -> ChunkWork:
    """Return the work that begins, and ends, at what was trained."""
    ref = ref_from_json(trained.checkpoint)
    at = cursor_from_json(trained.checkpoint["cursor"])  # type: ignore[arg-type]
    return ChunkWork(
        run=trained.storage,
        branch=trained.branch,
        trainer=plan.trainer,
        dataset=plan.dataset,
        split_seed=plan.split_seed,
        seed=trained.seed,
        hparams=trained.hparams,
        start=at,
        stop=at,
        candidates=(ref,),
        environment=plan.environment,
    )
