"""Promise: what is saved can be loaded, saving again changes nothing, other bits are found out."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.training import floats, layout
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.errors import (
    BadCheckpoint,
    NonDeterminismError,
    ObjectStoreUnavailable,
    TrainerMisbehaved,
)
from orchestrator.training.manifest import Description, decode, encode, manifest_of
from orchestrator.training.objects_memory import MemoryObjects
from orchestrator.training.publishing import key_of
from orchestrator.training.state import State
from tests.training.checkpoints_kit import (
    RUN,
    Place,
    all_keys,
    anywhere,
    beginning,
    described,
    digests,
    memory,
    reference,
    train,
)
from tests.training.s3_servers import ministack_server, moto_server

__all__ = ["anywhere", "ministack_server", "moto_server"]


def nudged(state: State, by: float) -> State:
    """Return a state in which one weight is another."""
    model = {name: array.copy(order="K") for name, array in state.groups["model"].items()}
    model["w"][0, 0] += np.float32(by)
    return State(groups={**state.groups, "model": model}, meta=state.meta)


def test_what_was_saved_is_loaded_with_all_it_said(anywhere: Place) -> None:
    store = CheckpointStore(anywhere.open(), RUN)
    state, about = beginning(), described(3, None, metrics={"loss": float("inf")})
    saved = store.save(state, about)
    loaded = CheckpointStore(anywhere.open(), RUN).load(saved.manifest_sha256, saved.key)
    assert loaded.state.digest() == state.digest() == saved.state_sha256
    assert loaded.manifest == manifest_of(RUN, about, loaded.manifest.blobs)
    assert loaded.manifest.state_sha256 == saved.state_sha256
    assert saved.bytes == saved.state_bytes


def test_the_same_bits_are_saved_in_every_store(anywhere: Place) -> None:
    line = train(CheckpointStore(anywhere.open(), RUN), 3)
    assert digests(line) == digests(reference(3))


def test_a_group_that_did_not_change_is_not_written_again() -> None:
    line = reference(2)
    frozen = [line.store.load(*found).manifest.blobs["frozen"].sha256 for found in line.candidates]
    assert frozen[0] == frozen[1]
    assert line.saved[1].bytes < line.saved[1].state_bytes - 320


def test_saving_again_writes_nothing(anywhere: Place) -> None:
    store = CheckpointStore(anywhere.open(), RUN)
    line = train(store, 2)
    before = list(all_keys(store.objects))
    again = train(store, 2)
    assert digests(again) == digests(line)
    assert [saved.bytes for saved in again.saved] == [0, 0]
    assert list(all_keys(store.objects)) == before


def test_eight_who_save_one_step_at_once_leave_one_manifest(anywhere: Place) -> None:
    together = threading.Barrier(8)
    parent = reference(1).saved[0].manifest_sha256

    def save(_: int) -> str:
        store = CheckpointStore(anywhere.open(), RUN)
        together.wait()
        return store.save(beginning(), described(1, parent)).manifest_sha256

    with ThreadPoolExecutor(8) as pool:
        manifests = set(pool.map(save, range(8)))
    found, rejected = CheckpointStore(anywhere.open(), RUN).list_manifests()
    assert {one.manifest_sha256 for one in found} == manifests
    assert (len(found), rejected) == (1, [])


def test_a_difference_of_a_ten_millionth_is_found_out(anywhere: Place) -> None:
    store = CheckpointStore(anywhere.open(), RUN)
    saved = store.save(beginning(), described(1, None))
    with pytest.raises(NonDeterminismError, match="differs in state 'model': look for chance"):
        store.save(nudged(beginning(), 1e-7), described(1, None))
    assert store.load(saved.manifest_sha256, saved.key).state.digest() == beginning().digest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": {"loss": -0.0}}, "metrics 'loss'"),
        ({"data": {"merkle": "1" * 64}}, "data 'merkle'"),
        ({"rng": {"streams": {"env": "2"}}}, "rng 'streams'"),
    ],
)
def test_what_is_observed_has_to_repeat_too(change: dict[str, Any], said: str) -> None:
    store = CheckpointStore(run=RUN)
    about = described(
        1, None, metrics={"loss": 0.0}, data={"merkle": "0" * 64}, rng={"streams": {"env": "1"}}
    )
    store.save(beginning(), about)
    store.save(beginning(), about)
    with pytest.raises(NonDeterminismError, match=said):
        store.save(beginning(), replace(about, **change))


def test_a_loss_that_is_no_number_is_the_same_loss_again() -> None:
    store = CheckpointStore(run=RUN)
    about = described(1, None, metrics={"loss": float("nan")})
    assert store.save(beginning(), about).key == store.save(beginning(), about).key


@pytest.mark.parametrize(
    "change",
    [
        {"parent": "f" * 64},
        {"kind": "preempt"},
        {"hparams": {"lr": 0.2}},
        {"env": {"class": "other"}},
        {"cursor": {"seed": 8}},
        {"metrics": {"loss": 0.5, "held_out_loss": 1.0}},
    ],
)
def test_other_work_at_the_same_step_is_not_in_the_way(change: dict[str, Any]) -> None:
    # A worker that died after its manifest leaves one that no log knows; orders may change then.
    store = CheckpointStore(run=RUN)
    orphan = store.save(nudged(beginning(), 1), described(1, None))
    saved = store.save(beginning(), replace(described(1, None), **change))
    assert saved.key != orphan.key
    for one in (orphan, saved):
        assert store.load(one.manifest_sha256, one.key).manifest_sha256 == one.manifest_sha256


def test_a_checkpoint_of_another_run_or_digest_is_not_loaded() -> None:
    objects = MemoryObjects()
    mine, other = CheckpointStore(objects, "mine"), CheckpointStore(objects, "other")
    saved, foreign = [s.save(beginning(), described(1, None)) for s in (mine, other)]
    with pytest.raises(BadCheckpoint, match="of run 'other', not 'mine'"):
        mine.load(foreign.manifest_sha256, foreign.key)
    with pytest.raises(BadCheckpoint, match=r"its manifest is .*…, not ffffffffffff…"):
        mine.load("f" * 64, saved.key)
    with pytest.raises(BadCheckpoint, match="nothing is stored there"):
        mine.load(saved.manifest_sha256, layout.manifest("mine", "main", 9, "0" * 64))
    with pytest.raises(BadCheckpoint, match="nothing is stored there"):
        mine.load(saved.manifest_sha256, "no key at all")


def test_without_a_log_all_that_was_saved_whole_is_found(anywhere: Place) -> None:
    store = CheckpointStore(anywhere.open(), RUN)
    line = train(store, 3)
    side = store.save(beginning(), described(1, line.saved[0].manifest_sha256, branch="main@2"))
    anywhere.damage(line.saved[1].key, lambda data: data[:40])
    found, rejected = store.list_manifests()
    assert [(one.manifest.branch, one.manifest.step) for one in found] == [
        ("main", 0),
        ("main", 2),
        ("main@2", 1),
    ]
    assert found[2].manifest_sha256 == side.manifest_sha256
    assert [(one.key, one.step) for one in rejected] == [(line.saved[1].key, 1)]


def test_a_store_that_does_not_answer_is_no_bad_checkpoint() -> None:
    class Silent(MemoryObjects):
        """Answers no read."""

        def read(self, key: str) -> bytes:
            raise ObjectStoreUnavailable("read", key, "timed out")

    line = reference(2)
    store = CheckpointStore(Silent(), RUN)
    with pytest.raises(ObjectStoreUnavailable):
        store.newest_good(line.candidates)


def test_bytes_beside_a_checkpoint_are_read_back_or_refused() -> None:
    store = CheckpointStore(run=RUN)
    sha256 = store.put_blob(b"ledger")
    assert store.put_blob(b"ledger") == sha256
    assert store.read_blob(sha256) == b"ledger"
    with pytest.raises(BadCheckpoint, match="missing"):
        store.read_blob("0" * 64)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (described(-1, None), "'step'"),
        (described(1, "no digest"), "'parent'"),
        (described(1, None, kind=""), "'kind'"),
        (described(1, None, hparams={"x": object()}), "not JSON serializable"),
        (described(1, None, data={"x": "y" * (1 << 20)}), "bytes"),
    ],
)
def test_a_description_that_cannot_be_is_refused(about: Description, said: str) -> None:
    with pytest.raises(TrainerMisbehaved, match=said):
        CheckpointStore(run=RUN).save(beginning(), about)


def altered(change: dict[str, Any], drop: str = "") -> bytes:
    """Return a manifest with something changed, and a digest of its own that fits."""
    import hashlib

    line = reference(1)
    envelope = floats.decode(line.store.objects.read(line.saved[0].key))
    assert isinstance(envelope, dict)
    inner = envelope["manifest"]
    assert isinstance(inner, dict)
    inner = {name: value for name, value in {**inner, **change}.items() if name != drop}
    digest = hashlib.sha256(floats.encode(inner)).hexdigest()
    return floats.encode({"sha256": digest, "manifest": inner})


BLOB = {"sha256": "0" * 64, "bytes": 1, "format": "json"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting"),
        (b"{}", "no envelope"),
        (b'{"manifest":{},"sha256":"x"}', "its own digest"),
        (b'{"manifest":[],"sha256":"x"}', "no object"),
        (b" " * ((1 << 20) + 1), "at most"),
        (altered({"schema": 2}), "schema 2, this version reads 1"),
        (altered({"extra": 1}), "extra"),
        (altered({}, drop="env"), "env"),
        (altered({"step": True}), "'step'"),
        (altered({"run": ""}), "'run'"),
        (altered({"data": []}), "'data'"),
        (altered({"blobs": {}}), "no blob 'meta'"),
        (altered({"blobs": {"meta": {**BLOB, "format": "pickle"}}}), "a blob is"),
        (altered({"blobs": {"meta": {**BLOB, "more": 1}}}), "a blob is"),
        (altered({"blobs": {"meta": {**BLOB, "sha256": "A" * 64}}}), "a blob is"),
    ],
)
def test_only_what_is_a_manifest_is_read_as_one(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode(data)


def test_a_manifest_is_stored_data_and_stays() -> None:
    line = reference(1)
    manifest = line.store.manifest(line.saved[0].manifest_sha256, line.saved[0].key)
    about = described(1, "0" * 64, data={"merkle": "1" * 64, "ledger": "2" * 64}, env={"n": 1})
    fixed = manifest_of("run", about, {"meta": replace(manifest.blobs["meta"], sha256="3" * 64)})
    data, digest = encode(fixed)
    assert decode(data) == (fixed, digest)
    assert json.loads(data)["manifest"]["hparams"] == {"lr": {"~f": "0x1.999999999999ap-4"}}
    assert digest == GOLDEN
    assert key_of(fixed) == GOLDEN_KEY
    assert fixed.references == {"2" * 64, "3" * 64}
    assert fixed.evidence == {"2" * 64}


GOLDEN = "2a8b06ed27b12c3bff6e0c47d118866a0764284443b071f21acfd130012fd0ce"
GOLDEN_KEY = "run/ckpt/main/000000000001-1fc60d11120e8c1b.json"


def test_memory_is_told_apart_by_key_only() -> None:
    objects, _ = memory()
    for run in ("a", "a/b", "a%2Fb"):
        CheckpointStore(objects, run).save(beginning(), described(1, None))
    assert [len(CheckpointStore(objects, run).list_manifests()[0]) for run in ("a", "a/b")] == [
        1,
        1,
    ]
