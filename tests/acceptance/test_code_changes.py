"""Promise: code that does not fit stops its run, loses nothing, and shows both sides (P3).

Once the code is put right the run goes on, with what arrived meanwhile.
"""

from collections.abc import Iterator

import pytest

from orchestrator import RunHandle
from orchestrator.core import events as e
from tests.acceptance.app import CHANGED
from tests.acceptance.stack import Stack, events_of
from tests.acceptance.waiting import eventually


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("code")) as stack:
        stack.worker("-c", "1")
        yield stack


def test_blocked_run_shows_why_and_goes_on_with_fitting_code(stack: Stack) -> None:
    fitting = stack.orchestrator()
    handle: RunHandle[int] = stack.start("changing", id="changing")
    clocked = stack.start("clocked", id="clocked")
    stack.wait_for_event(handle, e.StepCompleted, step=1)
    blocked = stack.wait_for_event(clocked, e.RunBlocked, kind="forbidden")
    assert len(blocked) == 1
    assert fitting.stop() == 0

    changed = stack.orchestrator(**{CHANGED: "yes"})
    handle.signal("go")
    stack.wait_for_event(handle, e.RunBlocked, kind="nondeterminism")
    eventually(lambda: handle.status() == "blocked", "the run rests")
    shown = " ".join(stack.command("show", "changing").stdout.split())
    for text in ("status blocked", "history has StepScheduled", "code asks for StepScheduled"):
        assert text in shown
    assert "tests/acceptance/app.py:" in shown
    shown = " ".join(stack.command("show", "clocked").stdout.split())
    assert "blocked forbidden: time.time()" in shown
    assert "use workflow.now() or workflow.time()" in shown
    assert changed.stop() == 0

    mended = stack.orchestrator()
    assert handle.result(timeout=30) == 2
    stack.check_history(handle)
    assert len(events_of(handle, e.SignalReceived)) == 1, "it came while the run was blocked"
    assert len(events_of(handle, e.RunUnblocked)) == 1
    assert [len(stack.effects(f"changing.{name}")) for name in ("changing", "last")] == [1, 1]
    assert stack.effects("changing.renamed") == []
    assert clocked.status() == "blocked"
    assert mended.stop() == 0


@pytest.mark.long
def test_patched_code_takes_over_an_open_loop_and_a_kill_decides_nothing_anew(
    stack: Stack,
) -> None:
    before = stack.orchestrator(**{CHANGED: "before"})
    handle: RunHandle[list[bool]] = stack.start("patching", id="patching")
    for _ in range(2):
        handle.signal("go")
    eventually(lambda: len(events_of(handle, e.SignalReceived)) == 2, "both came")
    assert events_of(handle, e.PatchMarked) == []
    assert before.stop() == 0

    patched = stack.orchestrator()
    handle.signal("go")
    stack.wait_for_event(handle, e.StepCompleted, step=1)
    patched.kill()

    stack.orchestrator()
    handle.signal("go")
    assert handle.result(timeout=60) == [False, False, True, True]
    stack.check_history(handle)
    assert len(events_of(handle, e.PatchMarked, patch="audit", activation=4)) == 1
    assert [len(stack.effects(f"audit.{turn}")) for turn in range(4)] == [0, 0, 1, 1]
    assert events_of(handle, e.RunBlocked) == []
