"""Promise: damage is found, named and survived: training goes on from the newest good checkpoint.

Afterwards every checkpoint is whole again, with the bits it had, and what was damaged is kept.
"""

from collections.abc import Callable

import pytest

from orchestrator.training import floats, layout
from orchestrator.training.checkpoints import CheckpointStore
from orchestrator.training.errors import BadCheckpoint
from tests.training.checkpoints_kit import (
    RUN,
    Line,
    Place,
    anywhere,
    beginning,
    described,
    digests,
    reference,
    train,
)
from tests.training.s3_servers import ministack_server, moto_server

__all__ = ["anywhere", "ministack_server", "moto_server"]

STEPS = 5
Change = Callable[[bytes], bytes | None]


@pytest.fixture(scope="module")
def uninterrupted() -> Line:
    """What is saved when nothing goes wrong."""
    return reference(STEPS + 1)


@pytest.fixture
def line(anywhere: Place) -> Line:
    """A branch of five checkpoints, to be damaged."""
    return train(CheckpointStore(anywhere.open(), RUN), STEPS)


def flipped(at: int) -> Change:
    """Return a change of one bit."""
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def halved(data: bytes) -> bytes:
    """Return the first half."""
    return data[: len(data) // 2]


def emptied(data: bytes) -> bytes:
    """Return nothing."""
    return b""


def removed(data: bytes) -> None:
    """Leave nothing, not even the key."""


def lengthened(data: bytes) -> bytes:
    """Return more than there was."""
    return data + b"\0"


def blob_of(line: Line, index: int, group: str = "model") -> str:
    """Return the key of a blob of a checkpoint."""
    saved = line.saved[index]
    manifest = line.store.manifest(saved.manifest_sha256, saved.key)
    return layout.blob(RUN, manifest.blobs[group].sha256)


def goes_on(place: Place, line: Line, uninterrupted: Line, *, said: list[str]) -> None:
    """Go on with damage in the newest; `said` is of each what is wrong, newest first."""
    store = CheckpointStore(place.open(), RUN)
    loaded, rejected = store.newest_good(line.candidates)
    assert [one.step for one in rejected] == [STEPS - 1 - i for i in range(len(said))]
    for one, words in zip(rejected, said, strict=True):
        assert words in one.reason
    good = STEPS - len(said)
    assert (loaded.manifest.step if loaded else -1) == good - 1
    again = train(store, STEPS + 1, line.saved)
    assert digests(again) == digests(uninterrupted)
    for saved in again.saved:
        store.load(saved.manifest_sha256, saved.key)
    assert store.list_manifests()[1] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flipped(-1), "are not what was written"),
        (flipped(3), "are not what was written"),
        (flipped(20), "are not what was written"),
        (halved, "are not what was written"),
        (emptied, "its 0 bytes are not"),
        (lengthened, "are not what was written"),
        (removed, "missing"),
    ],
)
def test_a_damaged_part(
    anywhere: Place, line: Line, uninterrupted: Line, change: Change, said: str
) -> None:
    key = blob_of(line, -1)
    anywhere.damage(key, change)
    goes_on(anywhere, line, uninterrupted, said=[f"part 'model' ({key}): "])
    kept = [one.key for one in line.store.objects.list(layout.quarantine(RUN, key))]
    assert len(kept) == (0 if change is removed else 1), "what was damaged is kept"


def test_a_swapped_part(anywhere: Place, line: Line, uninterrupted: Line) -> None:
    other = line.store.objects.read(blob_of(line, -2))
    anywhere.damage(blob_of(line, -1), lambda data: other)
    goes_on(anywhere, line, uninterrupted, said=["are not what was written"])


def test_a_part_that_all_share(anywhere: Place, line: Line, uninterrupted: Line) -> None:
    # The frozen group is one blob: with it all are gone, and training starts from the seed.
    anywhere.damage(blob_of(line, -1, "frozen"), flipped(-1))
    goes_on(anywhere, line, uninterrupted, said=["part 'frozen'"] * STEPS)


def restated(data: bytes) -> bytes:
    """Return a manifest that says something else under the old digest."""
    envelope = floats.decode(data)
    assert isinstance(envelope, dict)
    inner = envelope["manifest"]
    assert isinstance(inner, dict)
    return floats.encode({**envelope, "manifest": {**inner, "hparams": {"lr": 0.2}}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (halved, "its manifest is damaged: Unterminated"),
        (emptied, "its manifest is damaged: Expecting"),
        (flipped(100), "its manifest is"),
        (lengthened, "its manifest is damaged: Extra data"),
        (restated, "not what its own digest says"),
        (removed, "nothing is stored there"),
    ],
)
def test_a_damaged_manifest(
    anywhere: Place, line: Line, uninterrupted: Line, change: Change, said: str
) -> None:
    anywhere.damage(line.saved[-1].key, change)
    goes_on(anywhere, line, uninterrupted, said=[said])


def test_a_manifest_of_another_run(anywhere: Place, line: Line, uninterrupted: Line) -> None:
    other = CheckpointStore(run="other")
    saved = other.save(beginning(), described(STEPS - 1, None))
    foreign = other.objects.read(saved.key)
    anywhere.damage(line.saved[-1].key, lambda data: foreign)
    goes_on(anywhere, line, uninterrupted, said=["its manifest is of run 'other', not"])


def test_a_manifest_of_another_step(anywhere: Place, line: Line, uninterrupted: Line) -> None:
    other = line.store.objects.read(line.saved[1].key)
    anywhere.damage(line.saved[-1].key, lambda data: other)
    goes_on(anywhere, line, uninterrupted, said=["its manifest belongs under"])


@pytest.mark.parametrize("bad", [3, STEPS])
def test_the_newest_three_and_all(
    anywhere: Place, line: Line, uninterrupted: Line, bad: int
) -> None:
    changes: list[Change] = [halved, removed, flipped(-1)]
    for index in range(bad):
        change = changes[index % 3]
        anywhere.damage(line.saved[STEPS - 1 - index].key, change)
    words = ["damaged", "nothing is stored", "its manifest is damaged"]
    goes_on(anywhere, line, uninterrupted, said=[words[i % 3] for i in range(bad)])


def test_what_is_mended_is_said(anywhere: Place, line: Line) -> None:
    keys = [blob_of(line, -1), line.saved[-1].key]
    for key in keys:
        anywhere.damage(key, halved)
    again = train(line.store, STEPS, line.saved)
    assert again.saved[-1].mended == tuple(sorted(keys))
    assert again.saved[-2].mended == ()


def test_that_a_key_is_taken_is_never_taken_for_good(anywhere: Place, line: Line) -> None:
    # Saved over a damaged blob without a look at it, a checkpoint would stay damaged for ever.
    anywhere.damage(blob_of(line, -1), flipped(-1))
    with pytest.raises(BadCheckpoint):
        line.store.load(*line.candidates[0])
    train(line.store, STEPS, line.saved[:-1])
    line.store.load(*line.candidates[0])
