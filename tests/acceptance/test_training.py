"""Promise: orders, damage, stops, kills and strange machines cost time, and never a bit.

The weights a run is held against were trained in one piece, in this process, under the same orders
at the same steps.
"""

import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import InvalidPayload, RunHandle
from orchestrator.core import events as e
from orchestrator.training import layout
from orchestrator.training.environment import fingerprint
from orchestrator.training.threads import pin_threads
from tasks.training_store import METRICS_VARIABLE
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.together import together
from tests.acceptance.training_stack import TrainingStack, child_pids, kill_one_of
from tests.acceptance.waiting import eventually
from tests.sagas.training_driver import SMALL, order, reference

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(150)]

#: Long enough to be met under way: an epoch of 180 steps.
LONG: dict[str, Any] = {**SMALL, "batch_size": 8}
#: What a plan can name, and a name that is there.
NOT_THERE: list[tuple[dict[str, Any], str]] = [
    ({"dataset": "cats"}, "digits"),
    ({"trainer": "perceptron"}, "mlp"),
    ({"hparams": {"speed": 1}}, "lr"),
]
#: Saves several times in such an epoch.
OFTEN = {"tau_min_s": 0.01, "tau_max_s": 0.05}


@pytest.fixture(scope="module")
def threads() -> Iterator[None]:
    """References are trained side by side in threads of this process, which has one setting."""
    with pin_threads():
        yield


@pytest.fixture(scope="module")
def stack(threads: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingStack]:
    with TrainingStack(tmp_path_factory.mktemp("training")) as stack:
        stack.orchestrator()
        stack.ready_worker("-c", "3")
        yield stack


def place_of(told: dict[str, Any]) -> tuple[int, int]:
    assert told["applied"], told
    return told["epoch"], told["step"]


def paused(stack: TrainingStack, id: str, **more: Any) -> RunHandle[Any]:
    """Return a run that was paused somewhere under way."""
    handle = stack.train(id, hparams=LONG, **more)
    stack.wait_for_epoch(handle, 1)
    handle.signal("pause", {"by": "ana"})
    stack.wait_for_published(handle, status="paused")
    return handle


def live_steps(path: Path) -> list[int]:
    """Return the steps in a file of live metrics."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


@together
def test_a_researcher_orders_from_python_the_command_line_and_redis(stack: Stack) -> None:
    assert isinstance(stack, TrainingStack)
    handle = stack.train("people", epochs=30, hparams=LONG)
    took_effect: list[dict[str, Any]] = []

    def paused_again() -> int:
        """Pause the run an epoch further on; return how many orders were acknowledged by then."""
        stack.wait_for_epoch(handle, took_effect[-1]["epoch"] + 1 if took_effect else 1)
        handle.signal("pause", {})
        stack.wait_for_published(handle, status="paused")
        return len(handle.state()["orders"])

    def answered(known: int) -> None:
        took_effect.append(stack.wait_for_order(handle, known + 1))
        handle.signal("resume", {})
        stack.wait_for_order(handle, known + 2)

    known = paused_again()
    handle.signal("decide", {"decision": "adjust", "hparams": {"lr": 0.002}, "by": "python"})
    answered(known)
    known = paused_again()
    text = '{"decision": "adjust", "hparams": {"dropout": 0.1}, "by": "cli"}'
    done = stack.command("signal", "people", "decide", text)
    assert done.returncode == 0, done.stderr
    answered(known)
    known = paused_again()
    text = '{"decision": "adjust", "hparams": {"lr": 0.005}, "by": "redis-cli"}'
    fields = {"workflow": "people", "signal": "decide", "payload": text}
    stack.redis.xadd(f"{stack.keys.prefix}:signals", fields)
    answered(known)
    first, second, third = took_effect
    assert [one["by"] for one in (first, second, third)] == ["python", "cli", "redis-cli"]
    steps: dict[str, Any] = {"batch_size": 8}
    assert stack.weights(handle) == reference(
        order(0, **steps),
        order(*place_of(first), lr=0.002, **steps),
        order(*place_of(second), lr=0.002, dropout=0.1, **steps),
        order(*place_of(third), lr=0.005, dropout=0.1, **steps),
        epochs=30,
    )


@together
def test_epochs_are_cut_in_the_middle(stack: Stack) -> None:
    assert isinstance(stack, TrainingStack)
    handle = stack.train("cut", hparams=LONG, saving=OFTEN)
    assert stack.weights(handle) == reference(order(0, batch_size=8))
    assert [c for c in stack.chunks(handle) if c["stopped_at"]["step"]], "in the middle of one"


@together
def test_damage_while_it_is_paused_is_found_told_and_healed(stack: Stack) -> None:
    assert isinstance(stack, TrainingStack)
    worker = stack.ready_worker("-c", "1", queue="damaged")
    handle = paused(stack, "damaged", queue="damaged")
    store = stack.checkpoints("damaged.1")
    newest = max(store.list_manifests()[0], key=lambda found: found.manifest.step)
    blob = stack.store / layout.blob("damaged.1", newest.manifest.blobs["model"].sha256)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1])
    # What it has in memory goes with it.
    worker.kill()
    stack.ready_worker("-c", "1", queue="damaged")
    handle.signal("resume", {})
    assert stack.weights(handle) == reference(order(0, batch_size=8))
    assert handle.state()["rejected"], "people are told"
    told = [chunk["rejected"] for chunk in stack.chunks(handle) if chunk["rejected"]]
    assert told[0][0]["outcome"] == "healed", "history too"


@together
def test_without_any_checkpoint_it_begins_at_the_seed_and_says_so(stack: Stack) -> None:
    assert isinstance(stack, TrainingStack)
    worker = stack.ready_worker("-c", "1", queue="bare")
    handle = paused(stack, "bare", queue="bare")
    known = len(handle.state()["checkpoints"])
    shutil.rmtree(stack.store / "bare.1")
    worker.kill()
    stack.ready_worker("-c", "1", queue="bare")
    handle.signal("resume", {})
    assert stack.weights(handle) == reference(order(0, batch_size=8))
    assert len(handle.state()["rejected"]) == known
    assert any(chunk["repeated_steps"] for chunk in stack.chunks(handle))


@together
def test_a_worker_that_is_stopped_saves_and_hands_over(stack: Stack) -> None:
    assert isinstance(stack, TrainingStack)
    live = stack.directory / "preempt.jsonl"
    first = stack.worker("-c", "1", queue="preempt", **{METRICS_VARIABLE: str(live)})
    first.wait_for_log(" ready.")
    large: dict[str, Any] = {"hidden": [384, 256], "batch_size": 8}
    saving = {"tau_min_s": 60.0}
    handle = stack.train("preempt", epochs=3, hparams=large, saving=saving, queue="preempt")
    stack.wait_for_epoch(handle, 1)
    # In the middle of the second epoch, as the live metrics show.
    eventually(lambda: [x for x in live_steps(live) if x > 190], "the second epoch is under way")
    assert first.stop() == 0
    other = stack.ready_worker("-c", "1", queue="preempt")
    assert other.is_running
    assert handle.status() == "running", "it was under way"
    assert stack.weights(handle) == reference(order(0, **large), epochs=3)
    chunks = stack.chunks(handle)
    kinds = [saved["kind"] for chunk in chunks for saved in chunk["saved"]]
    assert "preempt" in kinds, [(one["stopped_at"], one["complete"]) for one in chunks]
    assert sum(chunk["repeated_steps"] for chunk in chunks) == 0, "nothing was trained twice"
    assert not events_of(handle, e.StepAttemptFailed, kind="lost")


@together
def test_a_machine_that_rounds_otherwise_is_found_out(stack: Stack) -> None:
    assert isinstance(stack, TrainingStack)
    own = fingerprint().as_json()["facts"]
    assert isinstance(own, dict)
    strange = "Sandybridge" if "Haswell" in str(own) else "Haswell"
    first = stack.ready_worker("-c", "1", queue="strange")
    handle = paused(stack, "strange", epochs=8, queue="strange")
    first.stop()
    other = stack.worker("-c", "1", queue="strange", OPENBLAS_CORETYPE=strange)
    other.wait_for_log(" ready.")
    handle.signal("resume", {})
    stack.wait_for_order(handle, 2)
    stack.wait_for_published(handle, status="paused")
    assert "BLAS" in handle.state()["reason"]
    assert "environment=flag" in handle.state()["reason"]
    assert handle.state()["bit_identical"]
    other.stop()
    stack.ready_worker("-c", "1", queue="strange")
    handle.signal("resume", {})
    assert stack.weights(handle) == reference(order(0, batch_size=8), epochs=8)
    assert handle.state()["bit_identical"], "it was trained where it fits"


@together
def test_who_wants_so_trains_on_elsewhere_and_it_is_said(stack: Stack) -> None:
    assert isinstance(stack, TrainingStack)
    strange = "Sandybridge" if "Haswell" in str(fingerprint().as_json()) else "Haswell"
    first = stack.ready_worker("-c", "1", queue="flag")
    handle = paused(stack, "flag", queue="flag")
    first.stop()
    stack.worker("-c", "1", queue="flag", OPENBLAS_CORETYPE=strange).wait_for_log(" ready.")
    handle.signal("resume", {"environment": "flag"})
    handle.result(timeout=60)
    assert not handle.state()["bit_identical"]
    stack.check_history(handle)


@together
def test_orders_that_nobody_can_carry_out_are_refused_and_nothing_is_lost(
    stack: Stack,
) -> None:
    assert isinstance(stack, TrainingStack)
    with pytest.raises(InvalidPayload, match="epochs"):
        stack.train("refused", epochs=0)
    handle = paused(stack, "strict")
    with pytest.raises(InvalidPayload, match="decision"):
        handle.signal("decide", {"decision": "perhaps"})
    with pytest.raises(InvalidPayload, match="rollback"):
        handle.signal("roll_back", {"to": "0123456789"})
    handle.signal("rollback", {"to": "0123456789"})
    told = stack.wait_for_order(handle, 2)
    assert (told["applied"], "no checkpoint" in told["detail"]) == (False, True)
    handle.signal("resume", {})
    assert stack.weights(handle) == reference(order(0, batch_size=8))
    done = stack.command("signal", "strict", "pause", "{}")
    assert done.returncode != 0
    assert "completed" in done.stderr + done.stdout
    assert handle.status() == "completed"


@together
def test_a_plan_that_names_what_is_not_there_fails_with_the_names_that_are(
    stack: Stack,
) -> None:
    assert isinstance(stack, TrainingStack)
    for number, (part, known) in enumerate(NOT_THERE):
        handle = stack.train(f"bad-{number}", **part)
        assert stack.wait_for_end(handle) == "failed"
        assert known in str(handle.describe().failure)
        assert handle.state()["status"] == "failed"


def epoch_of(handle: RunHandle[Any]) -> int:
    """Return how far a training says it is; 0 before it says anything."""
    return int((handle.state() or {}).get("epoch", 0))


@together
def test_killed_at_random_again_and_again_it_ends_with_the_same_bits(stack: Stack) -> None:
    """Children, whole workers, the orchestrator; see test_training_kills for named points."""
    assert isinstance(stack, TrainingStack)
    chance = random.Random(20261125)
    worker = stack.ready_worker("-c", "1", queue="soak")
    handle = stack.train("soak", epochs=25, hparams=LONG, queue="soak")
    orchestrator = stack.children[0]
    kills = {"child": 0, "worker": 0, "orchestrator": 0}
    while not handle.describe().is_closed and sum(kills.values()) < 8:
        epoch = epoch_of(handle)
        # Somewhere within what comes next.
        eventually(
            lambda: handle.describe().is_closed or epoch_of(handle) > epoch,  # noqa: B023
            "it goes on",
            seconds=60,
        )
        lot = chance.random()
        if lot < 0.25 and kills["orchestrator"] < 2:
            orchestrator.kill()
            kills["orchestrator"] += 1
            orchestrator = stack.orchestrator()
        elif lot < 0.5:
            worker.kill()
            kills["worker"] += 1
            worker = stack.ready_worker("-c", "1", queue="soak")
        else:
            kills["child"] += kill_one_of(child_pids(worker), signal.SIGKILL, 0)
    assert stack.weights(handle) == reference(order(0, batch_size=8), epochs=25)
    assert min(kills.values()) >= 1, kills
    assert sum(kills.values()) >= 6, kills
    # What a kill costs at most: what is done between two saves, which is an epoch here.
    assert all(chunk["repeated_steps"] <= 180 for chunk in stack.chunks(handle))
