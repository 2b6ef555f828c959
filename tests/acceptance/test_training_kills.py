"""Promise: a training that is killed anywhere, as often as you like, ends with the same bits.

Goal: every named point of the save protocol, and those within one write, at the first, a middle and
the last epoch, in a directory and in S3.  Method: one run per point and store, all side by side on
one worker; a run's child kills itself with -9 when it comes to the point (`training_app`).  The
weights they are held against were trained in one piece, in this process.
"""

from collections.abc import Iterator

import pytest

from orchestrator.core import events as e
from tests.acceptance.stack import events_of
from tests.acceptance.training_arms import arm
from tests.acceptance.training_stack import TrainingStack
from tests.sagas.training_driver import Weights, order, reference
from tests.training.s3_servers import CREDENTIALS, REGION, S3Server, ministack_server

pytestmark = pytest.mark.long

__all__ = ["ministack_server"]

PROTOCOL = [
    *(
        f"{when} {what}"
        for what in ("blob beside", "blob meta", "blob model", "blob optimizer", "manifest")
        for when in ("before", "after")
    ),
]
WITHIN = {"directory": ["written", "synced", "linked"], "s3": ["put"]}
#: A point of the protocol is passed once by a save.  The second is that of the first epoch; with
#: each death one is made again.
EPOCHS = [2, 5, 9]
#: A save writes five objects: these are in the saves of the first, the third and the last epoch.
WRITES = [8, 20, 33]
POINTS = [
    (store, point, WRITES if point in WITHIN[store] else EPOCHS)
    for store in ("directory", "s3")
    for point in (*PROTOCOL, *WITHIN[store])
]
RUNS = {f"{store}-{point.replace(' ', '-')}": (point, times) for store, point, times in POINTS}


@pytest.fixture(scope="module")
def uninterrupted() -> Weights:
    return reference(order(0))


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, ministack_server: S3Server
) -> Iterator[TrainingStack]:
    """All runs are under way."""
    bucket = ministack_server.bucket()
    address = f"s3://{bucket}/trainings?endpoint={ministack_server.url}&region={REGION}"
    objects = ministack_server.objects(bucket, prefix="trainings")
    assert CREDENTIALS["aws_access_key_id"] == "test", "as TrainingStack tells its workers"
    directory = tmp_path_factory.mktemp("training")
    with TrainingStack(directory, s3=address, s3_objects=objects) as stack:
        for run, (point, times) in RUNS.items():
            arm(stack.place, run, point, times)
        stack.orchestrator()
        stack.worker("-c", "6")
        for run in RUNS:
            stack.train(run)
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("run", RUNS)
def test_killed_at_a_point_of_saving_in_the_first_a_middle_and_the_last_epoch(
    stack: TrainingStack, uninterrupted: Weights, run: str
) -> None:
    handle = stack.orc.run(run)
    assert stack.weights(handle) == uninterrupted
    assert stack.deaths(run) == len(RUNS[run][1])
    lost = events_of(handle, e.StepAttemptFailed, kind="lost")
    # A claim that its worker cannot renew for six seconds is lost as well: where two dozen runs and
    # their kills share a machine that stalls, there may be more of these than deaths.
    assert len(lost) >= stack.deaths(run), "history tells of each"
    assert handle.state()["failures"] == len(lost)
    assert all(not chunk["rejected"] for chunk in stack.chunks(handle)), "no save was half there"
