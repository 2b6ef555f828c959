"""Promise: killed anywhere in a save, training goes on to the same bits, and no manifest is bad."""

import random

import pytest

from orchestrator.training import layout
from orchestrator.training.checkpoints import CheckpointStore, Saved
from tests.training.checkpoints_child import save_long, save_long_until_killed, train_until_killed
from tests.training.checkpoints_kit import (
    RUN,
    Line,
    Place,
    anywhere,
    digests,
    place,
    reference,
    train,
)
from tests.training.s3_servers import ministack_server, moto_server

__all__ = ["anywhere", "ministack_server", "moto_server"]

STEPS = 5
PROTOCOL = [
    *(
        f"{when} blob {name}"
        for name in ("frozen", "meta", "model", "optimizer")
        for when in ("before", "after")
    ),
    *("before manifest", "after manifest"),
]
#: Within one write, by kind of store; a save of the stand-in makes four or five.
WITHIN = {
    "directory": ["written", "synced", "linked"],
    "moto": ["put"],
    "ministack": ["put"],
}
#: Of the first, a middle and the last save.
TIMES = (1, 3, 5)


@pytest.fixture(scope="module")
def uninterrupted() -> Line:
    """What is saved when nothing goes wrong."""
    return reference(STEPS)


def recovered(place: Place) -> tuple[Saved, ...]:
    """Return what is found in a store whose log is lost, all of which must be whole."""
    store = CheckpointStore(place.open(), RUN)
    found, rejected = store.list_manifests()
    assert rejected == []
    for one in found:
        store.load(one.manifest_sha256, one.key)
    return tuple(
        Saved(
            manifest_sha256=one.manifest_sha256,
            key=one.key,
            state_sha256=one.manifest.state_sha256,
            state_bytes=0,
            bytes=0,
        )
        for one in found
    )


def check_goes_on(place: Place, uninterrupted: Line, *, with_log: bool) -> None:
    """Go on after a kill, with what is found or from the seed; compare every bit."""
    committed = recovered(place)
    store = CheckpointStore(place.open(), RUN)
    line = train(store, STEPS, committed if with_log else ())
    assert digests(line) == digests(uninterrupted)
    assert all(one.mended == () for one in line.saved)
    assert digests(Line(store, recovered(place))) == digests(uninterrupted)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("point", PROTOCOL)
def test_killed_between_two_writes(
    anywhere: Place, uninterrupted: Line, point: str, time: int
) -> None:
    assert train_until_killed(anywhere, STEPS, point, time)
    check_goes_on(anywhere, uninterrupted, with_log=time % 2 == 1)


@pytest.mark.parametrize("time", [1, 2, 4, 5, 9, 14, 20])
def test_killed_within_a_write(anywhere: Place, uninterrupted: Line, time: int) -> None:
    for point in WITHIN[anywhere.kind]:
        # What an earlier kill left behind shifts the count, and is part of what is tried.
        train_until_killed(anywhere, STEPS, point, time)
        recovered(anywhere)
    check_goes_on(anywhere, uninterrupted, with_log=True)


def test_killed_while_mending(anywhere: Place, uninterrupted: Line) -> None:
    line = train(CheckpointStore(anywhere.open(), RUN), STEPS)
    blob = line.store.manifest(*line.candidates[0]).blobs["model"].sha256
    for point in ("before blob model", *WITHIN[anywhere.kind], "replaced"):
        for key in (line.saved[-1].key, layout.blob(RUN, blob)):
            anywhere.damage(key, lambda data: data[: len(data) // 2])
        train_until_killed(anywhere, STEPS, point, 1, committed=line.saved)
        again = train(CheckpointStore(anywhere.open(), RUN), STEPS, line.saved)
        assert digests(again) == digests(uninterrupted)
        again.store.load(*again.candidates[0])


def test_killed_again_and_again_at_random(anywhere: Place, uninterrupted: Line) -> None:
    chance = random.Random(20261125)
    points = [*PROTOCOL, *WITHIN[anywhere.kind]]
    kills = 0
    while len(committed := recovered(anywhere)) < STEPS:
        point, time = chance.choice(points), chance.randint(1, 4)
        kills += train_until_killed(anywhere, STEPS, point, time, committed=committed)
        assert kills < 200
    assert kills >= 2
    assert digests(Line(CheckpointStore(run=RUN), recovered(anywhere))) == digests(uninterrupted)


@pytest.mark.parametrize(
    ("point", "time"), [("upload", 1), ("part", 1), ("part", 3), ("completed", 1)]
)
@pytest.mark.parametrize("kind", ["moto", "ministack"])
def test_killed_while_bytes_go_up_in_parts(
    kind: str, point: str, time: int, request: pytest.FixtureRequest
) -> None:
    where = place(kind, request)
    assert save_long_until_killed(where, point, time)
    assert recovered(where) == ()
    saved = save_long(where)
    assert [one.manifest_sha256 for one in recovered(where)] == [saved.manifest_sha256]
