"""Promise: collecting deletes what a plan gives up, and nothing a run needs, wherever it dies.

Goal of the simulation: no order of saving, branching, waiting, damage, collecting and dying while
collecting loses a checkpoint that is kept, or any part of one.  Method: hypothesis draws the order;
after every action each checkpoint that a plan kept, and each that was saved since, is loaded.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.training import layout
from orchestrator.training.checkpoints import CheckpointStore, Saved
from orchestrator.training.collecting import Collected, collect, make_plan
from orchestrator.training.errors import BadCheckpoint
from orchestrator.training.objects_memory import MemoryObjects
from orchestrator.training.retention import BestN, EveryK, LatestN, Pinned, Plan
from tests.training.checkpoints_kit import (
    RUN,
    Clock,
    Line,
    Place,
    after_step,
    all_keys,
    anywhere,
    beginning,
    described,
    digests,
    memory,
    train,
)
from tests.training.s3_servers import ministack_server, moto_server

__all__ = ["anywhere", "ministack_server", "moto_server"]


class Died(BaseException):
    """The process is gone."""


class Mortal(MemoryObjects):
    """Dies before or after the deletion that it is told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.deletions_left: int | None = None

    def delete(self, key: str, *, expected: str) -> None:
        """Delete, or die in front of it."""
        if self.deletions_left is not None and not key.startswith("_probe"):
            if self.deletions_left == 0:
                raise Died
            self.deletions_left -= 1
        super().delete(key, expected=expected)


def old_line(steps: int) -> tuple[Line, Clock]:
    """Return a branch, all of it older than two days."""
    objects, clock = memory()
    line = train(CheckpointStore(objects, RUN), steps)
    clock.pass_hours(50)
    return line, clock


def collected(store: CheckpointStore, *policies: Any, preview: bool = False) -> Collected:
    """Return what a collection did."""
    return collect(store, make_plan(store, policies, referenced={}), preview=preview)


def test_what_is_given_up_goes_and_what_is_kept_loads() -> None:
    line, _ = old_line(6)
    found = collected(line.store, LatestN(2))
    assert found.manifests == tuple(one.key for one in line.saved[:4])
    for gone in line.saved[:4]:
        with pytest.raises(BadCheckpoint, match="nothing is stored there"):
            line.store.load(gone.manifest_sha256, gone.key)
    for kept in line.saved[4:]:
        line.store.load(kept.manifest_sha256, kept.key)
    # The frozen group is one blob for all six; of each other group four are gone.
    assert len(found.blobs) == 12
    assert found.blob_bytes > 0


def test_a_preview_says_the_same_and_touches_nothing() -> None:
    line, _ = old_line(6)
    before = list(all_keys(line.store.objects))
    preview = collected(line.store, LatestN(2), preview=True)
    assert list(all_keys(line.store.objects)) == before
    done = collected(line.store, LatestN(2))
    assert preview.preview
    assert (preview.manifests, preview.blobs, preview.blob_bytes, preview.keep) == (
        done.manifests,
        done.blobs,
        done.blob_bytes,
        done.keep,
    )


def test_bytes_stay_a_day_after_nobody_names_them() -> None:
    objects, clock = memory()
    store = CheckpointStore(objects, RUN)
    train(store, 6)
    clock.pass_hours(2)
    first = collected(store, LatestN(2))
    assert (len(first.manifests), first.blobs) == (4, ())
    clock.pass_hours(23)
    assert len(collected(store, LatestN(2)).blobs) == 12


def test_evidence_outlives_the_weights() -> None:
    objects, clock = memory()
    store = CheckpointStore(objects, RUN)
    ledger, orphan = store.put_blob(b"which samples"), store.put_blob(b"of a save that died")
    first = store.save(beginning(), described(0, None, data={"ledger": ledger}))
    state = beginning()
    parent = first.manifest_sha256
    for step in (1, 2, 3):
        state = after_step(state, step)
        parent = store.save(state, described(step, parent)).manifest_sha256
    clock.pass_hours(50)
    collected(store, LatestN(1))
    clock.pass_hours(50)
    collected(store, LatestN(1))
    assert store.read_blob(ledger) == b"which samples"
    manifest = store.manifest_for_lineage(first.manifest_sha256, first.key)
    assert manifest.data == {"ledger": ledger}
    assert [one.manifest.step for one in store.list_archived()[0]] == [0, 1]
    with pytest.raises(BadCheckpoint, match="missing"):
        store.read_blob(orphan)
    with pytest.raises(BadCheckpoint):
        store.manifest_for_lineage("f" * 64, first.key)


def test_old_bytes_that_a_save_relies_on_are_young_again() -> None:
    line, _ = old_line(3)
    objects = line.store.objects
    # All is old, and no manifest names it.
    for saved in line.saved:
        objects.delete(saved.key, expected=objects.stat(saved.key).version)

    def collected_meanwhile(point: str) -> None:
        if point == "before manifest":
            collect(line.store, Plan(keep={}, delete=()), preview=False)

    store = CheckpointStore(objects, RUN, hook=collected_meanwhile)
    saved = store.save(after_step(beginning(), 0), described(0, None))
    assert saved.key == line.saved[0].key
    assert line.store.load(saved.manifest_sha256, saved.key).state.digest() == saved.state_sha256


def test_where_a_manifest_is_unreadable_no_bytes_are_deleted() -> None:
    line, _ = old_line(6)
    objects = line.store.objects
    key = line.saved[1].key
    objects.replace(key, b"damaged", sha256="", expected=objects.stat(key).version)
    blobs = list(objects.list(layout.blobs(RUN)))
    # The damage made it young; nothing of it can be read either way.
    found = collected(line.store, LatestN(2))
    assert len(found.manifests) == 3
    assert (found.blobs, len(list(objects.list(layout.blobs(RUN))))) == ((), len(blobs))
    assert any("unreadable, so no bytes" in words for words in found.skipped)


def test_a_checkpoint_saved_again_since_the_plan_stays() -> None:
    line, _ = old_line(6)
    made = make_plan(line.store, [LatestN(2)], referenced={})
    objects = line.store.objects
    key = line.saved[0].key
    data = objects.read(key)
    objects.replace(key, data, sha256="", expected=objects.stat(key).version)
    found = collect(line.store, made, preview=False)
    assert key not in found.manifests
    assert found.skipped == (f"{key}: saved again since the plan was made",)
    line.store.load(line.saved[0].manifest_sha256, key)


def test_a_collected_checkpoint_can_be_saved_again() -> None:
    line, clock = old_line(6)
    collected(line.store, LatestN(2))
    again = train(line.store, 6)
    assert digests(again) == digests(line)
    clock.pass_hours(50)
    collected(line.store, LatestN(2))
    assert len(line.store.list_archived()[0]) == 4


def test_collecting_in_every_store(anywhere: Place) -> None:
    objects = anywhere.open()
    objects.probe()
    line = train(CheckpointStore(objects, RUN), 4)
    # What was just saved is too young to go in a store whose time cannot be set.
    found = collected(line.store, LatestN(1))
    assert (found.manifests, found.blobs) == ((), ())
    assert set(found.keep) == {one.manifest_sha256 for one in line.saved}
    for saved in line.saved:
        line.store.load(saved.manifest_sha256, saved.key)


class Collecting(RuleBasedStateMachine):
    """A run that is trained, branched, damaged, and collected by mortals."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.objects = Mortal(self.clock)
        self.store = CheckpointStore(self.objects, RUN)
        #: By branch, oldest first: what was saved, and its state's successor's parent.
        self.saved: dict[str, list[tuple[int, Saved]]] = {}
        self.needed: dict[str, Saved] = {}
        self.ledgers: list[str] = []

    @initialize()
    def begin(self) -> None:
        """Save the first state."""
        self.save_at("main", 0, None)

    def save_at(self, branch: str, step: int, parent: str | None) -> None:
        """Save one checkpoint; it is needed until a plan gives it up."""
        ledger = self.store.put_blob(f"{branch} {step}".encode())
        state = after_step(beginning(), step)
        about = described(step, parent, branch=branch, data={"ledger": ledger})
        saved = self.store.save(state, about)
        self.saved.setdefault(branch, []).append((step, saved))
        self.needed[saved.manifest_sha256] = saved
        self.ledgers.append(ledger)

    @rule(branch=st.integers(0, 2), steps=st.integers(1, 3))
    def train(self, branch: int, steps: int) -> None:
        """Go on with a branch."""
        name = sorted(self.saved)[branch % len(self.saved)]
        for _ in range(steps):
            step, saved = self.saved[name][-1]
            self.save_at(name, step + 1, saved.manifest_sha256)

    @rule(data=st.data())
    def branch(self, data: st.DataObject) -> None:
        """Begin another branch at a checkpoint that is there."""
        if len(self.saved) > 2:
            return
        there = [(s, one) for of in self.saved.values() for s, one in of if self.is_there(one)]
        step, saved = data.draw(st.sampled_from(there))
        self.save_at(f"main@{len(self.saved) + 1}", step + 1, saved.manifest_sha256)

    @rule(hours=st.sampled_from([0.5, 2, 11, 13, 25]))
    def wait(self, hours: float) -> None:
        """Let time pass."""
        self.clock.pass_hours(hours)

    @rule(
        policy=st.sampled_from([LatestN(1), LatestN(3), EveryK(4), BestN("loss")]),
        deletions=st.none() | st.integers(0, 12),
        data=st.data(),
    )
    def collect(self, policy: Any, deletions: int | None, data: st.DataObject) -> None:
        """Plan and collect, possibly dying on the way."""
        some = st.sets(st.sampled_from(sorted(self.needed)), max_size=2)
        referenced: Mapping[str, str] = dict.fromkeys(data.draw(some), "a task")
        pinned = Pinned(frozenset(data.draw(some)))
        made = make_plan(self.store, [policy, pinned], referenced=referenced)
        for one in made.delete:
            assert one.manifest_sha256 not in referenced
            self.needed.pop(one.manifest_sha256, None)
        self.objects.deletions_left = deletions
        try:
            collect(self.store, made, preview=False)
        except Died:
            pass
        finally:
            self.objects.deletions_left = None

    def is_there(self, saved: Saved) -> bool:
        """Return whether a checkpoint can be continued."""
        return saved.manifest_sha256 in self.needed

    @invariant()
    def what_is_needed_is_whole(self) -> None:
        """Load all that no plan gave up; and what can be found must be whole, given up or not."""
        for saved in self.needed.values():
            self.store.load(saved.manifest_sha256, saved.key)
        found, rejected = self.store.list_manifests()
        assert rejected == []
        for one in found:
            self.store.load(one.manifest_sha256, one.key)

    @invariant()
    def lineage_is_whole(self) -> None:
        """Read every manifest and ledger there ever was."""
        for of in self.saved.values():
            for _, saved in of:
                self.store.manifest_for_lineage(saved.manifest_sha256, saved.key)
        for ledger in self.ledgers:
            self.store.read_blob(ledger)


class CollectingForLong(Collecting):
    """The same, tried more often."""


Collecting.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
CollectingForLong.TestCase.settings = settings(Collecting.TestCase.settings, max_examples=60)
TestCollecting = Collecting.TestCase
TestCollectingForLong = pytest.mark.long(CollectingForLong.TestCase)
