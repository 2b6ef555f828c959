"""Promise: a run that goes on as new under a storm of signals loses none and mixes none up (P2).

docs/adr/0014-runs-that-go-on.md has the figures of a longer one, of `python -m benchmarks signals`.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator import RunHandle
from tests.acceptance import numbers_app
from tests.acceptance.child import Child
from tests.acceptance.stack import Stack, client_of
from tests.acceptance.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

SENDERS = 4
EACH = 800
PER_RUN = 100
#: Seconds between two signals of a sender: 800 a second of all of them.
PAUSE_S = 0.005


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("storm")
    with Stack(directory, app=numbers_app.__name__) as stack:
        yield stack


def send(url: str, sender: str, id: str) -> None:
    """Send numbers from 1 on, as a program of its own would; each has an id."""
    client = client_of(url)
    try:
        handle = client.run(id)
        began = time.monotonic()
        for number in range(1, EACH + 1):
            time.sleep(max(0.0, began + number * PAUSE_S - time.monotonic()))
            handle.signal("number", [sender, number], id=f"{sender}-{number}")
    finally:
        client.close()


def owner_of(stack: Stack, handle: RunHandle[object], crew: list[Child]) -> Child:
    """Return the orchestrator that drives the run."""
    lease = stack.redis.get(stack.keys.lease(stack.keys.of_workflow(handle.id)))
    (owner,) = [child for child in crew if f"-{child.pid}-".encode() in lease]
    return owner


@pytest.mark.long
def test_storm_over_a_chain_whose_orchestrator_is_killed_loses_nothing(stack: Stack) -> None:
    crew = [stack.orchestrator(), stack.orchestrator()]
    stack.wait_for_owners(*crew)
    handle = stack.start("numbers", {}, PER_RUN, id="numbers")
    with ThreadPoolExecutor(SENDERS) as threads:
        senders = [
            threads.submit(send, stack.server.url, f"s{index}", handle.id)
            for index in range(SENDERS)
        ]
        latest = stack.orc.run(handle.id)
        eventually(lambda: latest.describe().run >= 5, "the chain has gone on a few times")
        owner_of(stack, handle, crew).kill()
        for sender in senders:
            sender.result(timeout=60)
    handle.signal("number", ["", 0])
    taken, runs = handle.result(timeout=60)
    assert taken == {f"s{index}": list(range(1, EACH + 1)) for index in range(SENDERS)}
    assert runs == SENDERS * EACH // PER_RUN + 1
    for run in (1, runs // 2, runs):
        stack.check_history(stack.orc.run(handle.id, run))
    inboxes = [stack.keys.inbox(stack.keys.of_workflow(handle.id))]
    assert [stack.redis.xlen(inbox) for inbox in inboxes] == [0]
