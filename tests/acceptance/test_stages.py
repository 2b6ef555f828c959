"""Promise: with workers and orchestrators killed on the way, each stage is done once.

And bit for bit: what comes of it is what the same plan came to in one thread, undisturbed.
"""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.core import events as e
from orchestrator.core.errors import RunNotFound
from sagas.app import orc
from sagas.stages_state import StagesReport
from tasks.training_store import STORE_VARIABLE
from tests.acceptance.child import Child
from tests.acceptance.stack import events_of
from tests.acceptance.training_arms import PLACE
from tests.acceptance.training_stack import TrainingStack
from tests.acceptance.waiting import eventually
from tests.sagas.training_driver import SMALL, Lab

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(120)]

EPOCHS = 8
PLAN: dict[str, Any] = {
    "pretraining": {
        "trainer": "autoencoder",
        "epochs": EPOCHS,
        "hparams": {"hidden": [16], "batch_size": 128},
        "saving": {"every_epochs": 1},
    },
    "fine_tuning": {"epochs": 60, "hparams": SMALL, "saving": {"every_epochs": 1}},
    "exam": {"at_least": {"accuracy": 1.01}},
}
RETRY: Any = {"by": "ana", "at_least": {"accuracy": 0.1}}
FIRST, SECOND, THIRD = "staged.1.pretrain-1", "staged.1.fine-tune-1", "staged.1.exam-1"


def undisturbed(directory: Path) -> StagesReport:
    """Return what the plan comes to in one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STORE_VARIABLE, str(directory))
        # The app of these tests asks there where to die: nowhere.
        patch.setenv(PLACE, str(directory))
        lab = Lab(directory)
        lab.world.deploy(orc.registry["training-stages"], orc.registry["training-exam"])
        lab.world.start("training-stages", PLAN, id="staged")
        lab.settle()
        lab.world.signal("retry", RETRY, id="staged")
        lab.settle()
        assert lab.world.status("staged") == "completed", lab.world.row("staged")
        found = StagesReport.model_validate(lab.world.result("staged"))
        lab.world.close()
    return found


def test_stages_survive_kills_and_a_failure_in_the_third_runs_the_first_once(
    tmp_path: Path,
) -> None:
    for place in ("undisturbed", "stack"):
        (tmp_path / place).mkdir()
    expected = undisturbed(tmp_path / "undisturbed")
    with TrainingStack(tmp_path / "stack") as stack:
        worker, orchestrator = stack.ready_worker("-c", "1"), stack.orchestrator()
        whole = stack.start("training-stages", PLAN, id="staged")
        first, second, third = (stack.orc.run(name) for name in (FIRST, SECOND, THIRD))
        eventually(lambda: epoch_of(first) >= 2, "the first stage is under way")
        kill_at_work(stack, worker, FIRST)
        stack.ready_worker("-c", "1")
        eventually(lambda: epoch_of(second) >= 2, "the second stage is under way")
        orchestrator.kill()
        stack.orchestrator()
        stack.wait_for_published(whole, status="awaiting_help")
        assert stack.wait_for_end(third) == "failed"
        effects = files_of(stack, FIRST)
        steps = steps_of(first)
        answer = stack.command(
            "signal", "staged", "retry", '{"by": "ana", "at_least": {"accuracy": 0.1}}'
        )
        assert answer.returncode == 0, answer.stderr
        assert stack.wait_for_end(whole) == "completed"
        report: StagesReport = whole.result(timeout=1)
        assert report == expected
        for handle in (whole, first, second, third):
            stack.check_history(handle)
        # The first stage: one run, each epoch one checkpoint, and nothing since.
        assert files_of(stack, FIRST) == effects
        assert steps_of(first) == steps
        assert first.describe().run == second.describe().run == 1
        ordered = [event.id for event in events_of(whole, e.ChildScheduled)]  # type: ignore[attr-defined]
        assert ordered == [FIRST, SECOND, THIRD, "staged.1.exam-2"]
        lost = events_of(first, e.StepAttemptFailed) + events_of(second, e.StepAttemptFailed)
        assert lost, "a kill met a step"


def kill_at_work(stack: TrainingStack, worker: Child, run: str) -> None:
    """Kill a worker while it holds a step of `run`: stop it, look, and let it go on if not."""
    claims = stack.keys.claims(stack.keys.of_workflow(run))

    def holds_one() -> bool:
        worker.pause()
        if any(name.startswith(run.encode()) for name in stack.redis.zrange(claims, 0, -1)):
            return True
        worker.resume()
        return False

    eventually(holds_one, f"the worker holds a step of {run}")
    worker.kill()


def epoch_of(handle: Any) -> int:
    """Return how far a stage is; 0 where it has not begun."""
    try:
        return int((handle.state() or {}).get("epoch", 0))
    except RunNotFound:
        return 0


def steps_of(handle: Any) -> int:
    return len(events_of(handle, e.StepCompleted))


def files_of(stack: TrainingStack, run: str) -> dict[str, int]:
    """Return every file that a run left in the store, and when it was written."""
    place = stack.store / f"{run}.1"
    return {str(path): path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
