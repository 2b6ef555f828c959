"""Promise: training waits for a copy, not for the store, and hears of every save that failed."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.errors import ObjectStoreUnavailable
from orchestrator.training.objects import Creation
from orchestrator.training.objects_memory import MemoryObjects
from orchestrator.training.saver import Saver
from orchestrator.training.state import State
from orchestrator.training.tensors import Data
from tests.training.checkpoints_kit import RUN, after_step, beginning, described, digests, reference


class Slow(MemoryObjects):
    """Stores nothing before it is let go, and then possibly does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let_go = threading.Event(), threading.Event()
        self.broken = False

    def create(self, key: str, data: Data, sha256: str) -> Creation:
        """Wait."""
        self.asked.set()
        assert self.let_go.wait(30)
        if self.broken:
            raise ObjectStoreUnavailable("create", key, "gone")
        return super().create(key, data, sha256)


@pytest.fixture
def slow() -> Slow:
    """A store that waits."""
    return Slow()


def test_what_is_changed_after_the_beginning_is_not_saved(slow: Slow) -> None:
    saver = Saver(CheckpointStore(slow, RUN))
    state = beginning()
    wanted = state.digest()
    blocked = saver.begin(state, described(0, None))
    assert slow.asked.wait(30)
    assert saver.busy, "it waits for the store, and we do not"
    state.groups["model"]["w"][:] = 0
    slow.let_go.set()
    found = saver.finish()
    assert found is not None
    saved, waited = found
    assert saved.state_sha256 == wanted
    assert blocked.snapshot_ms > 0
    assert waited.total_ms == waited.waited_ms
    assert saver.finish() is None


class Watched(dict[str, Any]):
    """Notes which threads look into it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.seen: set[int] = set()

    def items(self) -> Any:
        """Note the thread."""
        self.seen.add(threading.get_ident())
        return super().items()


def test_only_the_thread_that_trains_looks_at_the_state() -> None:
    state = beginning()
    groups = Watched(state.groups)
    saver = Saver(CheckpointStore(run=RUN))
    saver.begin(State(groups=groups, meta=state.meta), described(0, None))
    assert saver.finish() is not None
    assert groups.seen == {threading.get_ident()}


def test_what_fails_in_the_background_is_raised_by_the_next_call(slow: Slow) -> None:
    saver = Saver(CheckpointStore(slow, RUN))
    slow.broken = True
    slow.let_go.set()
    saver.begin(beginning(), described(0, None))
    with pytest.raises(ObjectStoreUnavailable, match="gone"):
        saver.finish()
    slow.broken = False
    saver.begin(beginning(), described(0, None))
    assert saver.finish() is not None


def test_a_second_save_waits_for_the_first_to_be_taken(slow: Slow) -> None:
    saver = Saver(CheckpointStore(slow, RUN))
    saver.begin(beginning(), described(0, None))
    with pytest.raises(AssertionError, match="finish the save in flight"):
        saver.begin(beginning(), described(1, None))
    slow.let_go.set()
    assert saver.finish() is not None


def test_saved_in_the_background_is_what_is_saved_in_front() -> None:
    saver = Saver(CheckpointStore(run=RUN))
    state, parent, saved = beginning(), None, []
    for step in range(3):
        state = after_step(state, step)
        saver.begin(state, described(step, parent))
        found = saver.finish()
        assert found is not None
        saved.append((found[0].manifest_sha256, found[0].state_sha256))
        parent = found[0].manifest_sha256
    assert saved == digests(reference(3))
