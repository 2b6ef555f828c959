"""What lies in Redis when all is over, read by an outsider: raw commands and SHA-256, no engine.

I1  A history's entries are numbered 1-0, 2-0, … without a gap.
I2  Each has the head ``sha256(head before ‖ bytes)``; the first one follows the name of the run.
I3  The row of a run that has ended tells its last number and head, and the status that its last
    event stands for.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: How an event that ends a run shows in the row.
_ENDS = {
    "RunCompleted": "completed",
    "RunFailed": "failed",
    "RunCancelled": "cancelled",
    "RunTerminated": "terminated",
}
_LOG = re.compile(r"^orc:\{(\d+)\}:log:(.+):(\d+)$")
#: Streams, sorted sets and sets that are empty when nothing is left to be done.
_WAITING = re.compile(r"^orc:\{\d+\}:(inbox|timers|claims|open|blocked|outbox|steps:.+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One history as it lies: each event's JSON, and the head after it."""

    workflow_id: str
    run: int
    events: list[dict[str, Any]]
    heads: list[str]

    @property
    def status(self) -> str:
        """How its run ended, or "open"."""
        return _ENDS.get(self.events[-1]["type"], "open") if self.events else "open"

    def of_type(self, *names: str) -> list[dict[str, Any]]:
        """Return the events of these types."""
        return [event for event in self.events if event["type"] in names]


def read_histories(redis: Any, faults: list[str]) -> dict[str, History]:
    """Return each workflow's history; what is wrong with one is added to `faults`.

    More than one run of an id is wrong too: the last one is returned.
    """
    found: dict[str, History] = {}
    for raw in sorted(redis.scan_iter("orc:*:log:*", count=1000)):
        name = _LOG.match(raw.decode())
        assert name is not None, raw
        partition, workflow_id, run = int(name[1]), name[2], int(name[3])
        if workflow_id in found:
            faults.append(f"{workflow_id} has runs {found[workflow_id].run} and {run}")
        history = _walk(redis, raw, workflow_id, run, faults)
        found[workflow_id] = history
        row = _text(redis.hgetall(f"orc:{{{partition}}}:wf:{workflow_id}"))
        faults += _row_faults(history, row)
    return found


def _walk(redis: Any, key: bytes, workflow_id: str, run: int, faults: list[str]) -> History:
    head = hashlib.sha256(f"orc:1:{workflow_id}:{run}".encode()).hexdigest()
    events, heads = [], []
    for number, (entry, fields) in enumerate(redis.xrange(key), 1):
        if entry != b"%d-0" % number:
            faults.append(f"{workflow_id}: entry {entry.decode()} where {number}-0 is wanted")
        head = hashlib.sha256(bytes.fromhex(head) + fields[b"event"]).hexdigest()
        if fields[b"head"].decode() != head:
            faults.append(f"{workflow_id}: event {number} does not hash to its head")
        events.append(json.loads(fields[b"event"]))
        heads.append(head)
    return History(workflow_id=workflow_id, run=run, events=events, heads=heads)


def _row_faults(history: History, row: Mapping[str, str]) -> Iterator[str]:
    told = (row.get("run"), row.get("seq"), row.get("head"), row.get("status"))
    last = history.heads[-1] if history.heads else ""
    lies = (str(history.run), str(len(history.events)), last, history.status)
    if told != lies and history.status != "open":
        yield f"{history.workflow_id}: its row tells {told}, its history {lies}"


def leftovers(redis: Any) -> list[str]:
    """Return what still waits somewhere, though nothing is left to be done."""
    found = []
    sizes = {b"stream": redis.xlen, b"zset": redis.zcard, b"set": redis.scard, b"hash": redis.hlen}
    names = [*redis.scan_iter("orc:*", count=1000)]
    for raw in sorted(names):
        if not _WAITING.match(raw.decode()) and raw != b"orc:signals":
            continue
        size = sizes[redis.type(raw)](raw)
        if size:
            found.append(f"{raw.decode()} holds {size}")
    if queued := redis.llen("celery"):
        found.append(f"{queued} messages in the queue")
    return found


def rejected_signals(redis: Any) -> set[str]:
    """Return the ids of the signals that no run could take; a line of the door is ``door:<id>``."""
    found = set()
    for _, raw in redis.xrange("orc:signals:rejected"):
        fields = _text(raw)
        found.add(fields.get("signal_id") or f"door:{fields.get('door')}")
    return found


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}
