"""The server as it was: what a restart from an older log, or a failover to a late replica, leaves.

Reaches into the memory store, which has no such thing: real servers need no help to forget.
"""

import copy
from collections import deque
from dataclasses import dataclass
from typing import Any

from orchestrator.store.memory_partition import Partition
from tests.simulation.server import Server
from tests.simulation.watch import Mark, Watch


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the server had at an instant, and what the checker knew then."""

    parts: list[Partition]
    queues: dict[str, list[bytes]]
    door: dict[str, Any]
    orchestrators: dict[str, int]
    permits: tuple[Any, ...]
    mark: Mark


def taken(server: Server, watch: Watch) -> Snapshot:
    """Return the server as it is."""
    return Snapshot(
        [_copied(part) for part in server._parts],
        {name: list(queue) for name, queue in server.queues.items()},
        dict(server._door),
        dict(server._orchestrators),
        _permits_of(server),
        watch.mark(),
    )


def restored(server: Server, watch: Watch, snapshot: Snapshot) -> None:
    """Let the server come back as it was; it is another one now, as `server_id` tells."""
    server._parts[:] = [_copied(part) for part in snapshot.parts]
    server.queues.clear()
    server.queues.update({name: deque(queue) for name, queue in snapshot.queues.items()})
    server._door = dict(snapshot.door)
    server._orchestrators = dict(snapshot.orchestrators)
    server._permit_keys, server._slots, server._fence = copy.deepcopy(snapshot.permits)
    server._answers.clear()
    server.epoch += 1
    watch.lose_tail(snapshot.mark)


def _permits_of(server: Server) -> tuple[Any, ...]:
    return copy.deepcopy((server._permit_keys, server._slots, server._fence))


def _copied(part: Partition) -> Partition:
    return Partition(
        inbox=dict(part.inbox),
        logs={key: list(log) for key, log in part.logs.items()},
        rows={key: dict(row) for key, row in part.rows.items()},
        steps={
            key: {step: dict(row) for step, row in steps.items()}
            for key, steps in part.steps.items()
        },
        timers=dict(part.timers),
        claims=dict(part.claims),
        lease=copy.copy(part.lease),
        open=dict(part.open),
        closed=dict(part.closed),
        blocked=set(part.blocked),
        past={key: dict(row) for key, row in part.past.items()},
        indexes={name: set(places) for name, places in part.indexes.items()},
        outbox=dict(part.outbox),
        letters=dict(part.letters),
        # The ids of a real server are instants: they go on.
        _numbers=part._numbers,
    )
