"""Promise: the two thousandth step of a run costs what the fiftieth does.

Elsewhere the whole log is read before each new event, and a run of 500 steps never ends.  Counted
by the server, commands inside of scripts included, and not by time: an owner and a worker of this
process take turns at one run on a real server.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator import workflow
from orchestrator.core.limits import CLAIM_TTL_MS
from orchestrator.embedded import EmbeddedServer
from orchestrator.store.connect import connect
from orchestrator.store.ports import AttemptKey, ClaimAnswer
from orchestrator.store.redis import RedisStore
from tests.engine.world import QUEUE, Node, World

STEPS = 2_000
WINDOW = 50
#: Numbers grow by a digit or two, and a sweep falls into one window and not into the other.
TOLERANCE = 0.05
#: What the measuring itself asks.
OWN_COMMANDS = {"info", "config|resetstat"}


async def long_run(count: int) -> int:
    total = 0
    for number in range(count):
        total += await workflow.step("one_more", number)
    return total


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server did for some steps."""

    calls: dict[str, int]
    bytes_in: int
    bytes_out: int


class Stage:
    """An owner and a worker of one run, on a real server."""

    def __init__(self, url: str) -> None:
        self.redis: Any = connect(url)
        self.store = RedisStore(self.redis, direct_queues=True, partitions=1).open()
        self.world = World(long_run)
        self.world.tasks["one_more"] = lambda number: number
        self.node = Node(self.world, "owner", self.store)
        self.bodies = 0

    def step(self) -> None:
        """Let the owner send a step, and the worker carry it out."""
        while (raw := self.redis.rpop(QUEUE)) is None:
            self.node.owner.cycle(block_ms=0)
        message = json.loads(raw)
        key = AttemptKey.parse(message["key"])
        claim = self.store.claim(key, "worker/1", ttl_ms=CLAIM_TTL_MS)
        assert claim.answer is ClaimAnswer.GRANTED
        self.store.post_outcome(key, "worker/1", self.world.run_body(message))
        self.bodies += 1

    def cost(self, steps: int) -> Cost:
        """Return what the next so many steps cost the server."""
        self.redis.config_resetstat()
        for _ in range(steps):
            self.step()
        stats = self.redis.info("stats")
        commands = self.redis.info("commandstats")
        calls = {
            name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in commands.items()
        }
        return Cost(
            {name: count for name, count in calls.items() if name not in OWN_COMMANDS},
            int(stats["total_net_input_bytes"]),
            int(stats["total_net_output_bytes"]),
        )

    def close(self) -> None:
        """Leave memory."""
        self.world.close()
        self.node.close()
        self.redis.close()


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Cost]]:
    """What fifty steps cost, by how many there were before them."""
    with EmbeddedServer(tmp_path_factory.mktemp("cost")) as server:
        stage = Stage(server.url)
        body = {"workflow": "long_run", "args": [STEPS], "kwargs": {}}
        stage.store.start("long", request_id="r1", body=body)  # type: ignore[arg-type]
        stage.node.owner.balance(stage.store.now_ms())
        # Whoever takes a partition over looks once for letters that were left there.
        stage.node.owner.cycle(block_ms=0)
        costs: dict[int, Cost] = {}
        while stage.bodies < STEPS:
            before = stage.bodies
            costs[before] = stage.cost(WINDOW)
            stage.node.owner.balance(stage.store.now_ms())
        while stage.store.find_row("long")["status"] != "completed":  # type: ignore[index]
            stage.node.owner.cycle(block_ms=0)
        yield costs
        stage.close()


def test_a_step_costs_the_same_in_a_long_run_as_in_a_short_one(windows: dict[int, Cost]) -> None:
    early = windows[50]
    for before in (200 - WINDOW, 500 - WINDOW, STEPS - WINDOW):
        found = windows[before]
        for name in ("bytes_in", "bytes_out"):
            ratio = getattr(found, name) / getattr(early, name)
            assert ratio < 1 + TOLERANCE, f"{name} after {before} steps: {ratio:.2f} times as many"
        ratio = sum(found.calls.values()) / sum(early.calls.values())
        assert ratio < 1 + TOLERANCE, f"commands after {before} steps: {ratio:.2f} times as many"


def test_nothing_is_read_again_while_a_run_goes_on(windows: dict[int, Cost]) -> None:
    for before, cost in windows.items():
        assert cost.calls["rpop"] >= WINDOW
        histories = [name for name in cost.calls if name in ("xrange", "xrevrange", "hgetall")]
        assert not histories, f"after {before} steps: {histories}"
