"""Promise: of the steps that wait in a queue, a worker takes those of the first priority first.

Redis has priorities by lists, of which 0 is the first: see `orchestrator.dispatch`.
"""

import json
from collections.abc import Iterator

import pytest

from tests.acceptance.stack import Stack
from tests.acceptance.waiting import eventually

pytestmark = pytest.mark.slow

#: As they are ordered: what is to come first comes last.
RANKS = [9, 6, 9, 3, 0, 6, 0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("priorities")
    with Stack(directory, app="tests.acceptance.ranked_app") as stack:
        stack.orchestrator()
        yield stack


def waiting(stack: Stack) -> int:
    """Return how many attempts wait; the message of one that waits for long is sent again."""
    lists = ["ranked", *(f"ranked\x06\x16{step}" for step in (3, 6, 9))]
    messages = [message for name in lists for message in stack.redis.lrange(name, 0, -1)]
    return len({json.loads(message)["headers"]["id"] for message in messages})


def test_steps_that_wait_are_taken_by_priority_and_then_by_age(stack: Stack) -> None:
    names = [f"r{place}-{rank}" for place, rank in enumerate(RANKS)]
    for place, (name, rank) in enumerate(zip(names, RANKS, strict=True), start=1):
        words = ("start", "ranked", "--id", name, "--input", f'"{name}"', "--input", str(rank))
        done = stack.command(*words)
        assert done.returncode == 0, done.stderr

        def is_there(count: int = place) -> bool:
            return waiting(stack) == count

        eventually(is_there, f"{name} waits in the queue")
    stack.ready_worker("-c", "1", queue="ranked")
    for name in names:
        stack.wait_for_end(stack.orc.run(name))
    order = (stack.directory / "order.txt").read_text().split()
    assert order == sorted(names, key=lambda name: (int(name[-1]), names.index(name)))
