"""Calls about runs, as clients and owners make them: start, post, read, wait, list."""

import json
import time
from collections.abc import Mapping

from orchestrator.core.limits import JOINED_REQUESTS_MAX
from orchestrator.core.values import Json, canonical
from orchestrator.store.calls import (
    Argument,
    Flow,
    ask,
    ask_all,
    blocking,
    command,
    run_script,
    text,
    texts,
)
from orchestrator.store.connect import BLOCK_MS_MAX
from orchestrator.store.keys import Keys
from orchestrator.store.ports import (
    Kind,
    Posted,
    PostedAnswer,
    RunKey,
    Start,
    StartAnswer,
    StoredEvent,
)


def start(
    keys: Keys,
    workflow_id: str,
    request_id: str,
    body: Mapping[str, Json],
    message: tuple[Kind, Mapping[str, Json]] | None,
) -> Flow[Start]:
    """See `ClientStore.start`."""
    partition = keys.of_workflow(workflow_id)
    names = [keys.row(workflow_id), keys.open(partition), keys.inbox(partition)]
    arguments: list[Argument] = [
        workflow_id,
        request_id,
        str(body["workflow"]),
        canonical(dict(body)),
    ]
    if message is not None:
        kind, message_body = message
        arguments += [kind.value, canonical(dict(message_body)), JOINED_REQUESTS_MAX]
    reply = yield from ask(run_script("start", "start_run", names, arguments))
    answer, run, status = map(text, reply)
    return Start(answer=StartAnswer(answer), run=int(run), status=status)


def post(
    keys: Keys, workflow_id: str, kind: Kind, body: Mapping[str, Json], run: int
) -> Flow[Posted]:
    """See `ClientStore.post`."""
    partition = keys.of_workflow(workflow_id)
    names = [keys.row(workflow_id), keys.open(partition), keys.inbox(partition)]
    to_closed = int(kind is Kind.QUERY)
    arguments: list[Argument] = [workflow_id, kind.value, run, canonical(dict(body)), to_closed]
    reply = yield from ask(run_script("post", "post_message", names, arguments))
    answer, found_run, status = map(text, reply)
    return Posted(answer=PostedAnswer(answer), run=int(found_run), status=status)


def find_row(keys: Keys, workflow_id: str) -> Flow[dict[str, str] | None]:
    """See `OwnerStore.find_row`."""
    fields = yield from ask(command("find_row", "HGETALL", keys.row(workflow_id)))
    return texts(fields) or None


def read_history(
    keys: Keys, key: RunKey, after_seq: int, count: int | None
) -> Flow[list[StoredEvent]]:
    """See `OwnerStore.read_history`."""
    if count is not None and count <= 0:
        return []
    log = keys.log(key.workflow_id, key.run)
    limit = () if count is None else ("COUNT", count)
    call = command("read_history", "XRANGE", log, f"{after_seq + 1}-0", "+", *limit)
    entries = yield from ask(call)
    return [
        StoredEvent(
            seq=int(entry_id.partition(b"-")[0]),
            data=fields[b"event"],
            head=fields[b"head"].decode(),
        )
        for entry_id, fields in entries
    ]


def wait_for_answer(keys: Keys, reply_to: str, wait_ms: int) -> Flow[dict[str, Json] | None]:
    """See `ClientStore.wait_for_answer`.

    The answer stays where it is until it expires, so that asking again finds it again: moving an
    entry from a list to itself is the read that waits and removes nothing.
    """
    name = keys.answer(keys.of_workflow(reply_to), reply_to)
    found = yield from ask(command("wait_for_answer", "LINDEX", name, 0))
    deadline = time.monotonic() + wait_ms / 1000
    while found is None and (left_ms := _left_ms(deadline)) > 0:
        seconds = left_ms / 1000
        call = blocking("wait_for_answer", "BLMOVE", name, name, "LEFT", "RIGHT", seconds)
        found = yield from ask(call)
    answer: dict[str, Json] | None = None if found is None else json.loads(found)
    return answer


def wait_for_event(keys: Keys, key: RunKey, after_seq: int, wait_ms: int) -> Flow[bool]:
    """See `ClientStore.wait_for_event`."""
    log = keys.log(key.workflow_id, key.run)
    start_id = f"{after_seq}-0"
    call = command("wait_for_event", "XREAD", "COUNT", 1, "STREAMS", log, start_id)
    found = yield from ask(call)
    deadline = time.monotonic() + wait_ms / 1000
    while not found and (left_ms := _left_ms(deadline)) > 0:
        parts = ("COUNT", 1, "BLOCK", left_ms, "STREAMS", log, start_id)
        found = yield from ask(blocking("wait_for_event", "XREAD", *parts))
    return bool(found)


def _left_ms(deadline: float) -> int:
    """Return how long the next blocking read may wait; 0 once the deadline is over."""
    return max(0, min(BLOCK_MS_MAX, round((deadline - time.monotonic()) * 1000)))


def list_runs(
    keys: Keys, *, is_open: bool, is_closed: bool, count: int
) -> Flow[list[dict[str, str]]]:
    """See `ClientStore.list_runs`.  Each id is listed once, with its latest run."""
    found: list[tuple[int, str]] = []
    for partition in range(keys.partitions):
        if is_open:
            open_ids = yield from _newest(keys.open(partition), 0, count)
            found += open_ids
        if is_closed:
            closed_ids = yield from _newest_closed(keys, partition, count)
            found += closed_ids
    found.sort(reverse=True)
    ids = [workflow_id for _, workflow_id in found[:count]]
    calls = [command("list_runs", "HGETALL", keys.row(workflow_id)) for workflow_id in ids]
    rows = yield from ask_all(calls)
    return [
        {**texts(row), "workflow_id": workflow_id}
        for workflow_id, row in zip(ids, rows, strict=True)
        if row
    ]


def _newest(name: str, offset: int, count: int) -> Flow[list[tuple[int, str]]]:
    """Return members of a sorted set with their instants, newest first."""
    last = offset + count - 1
    call = command("list_runs", "ZREVRANGE", name, offset, last, "WITHSCORES")
    flat: list[bytes] = yield from ask(call)
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [(int(float(score)), text(member)) for member, score in pairs]


def _newest_closed(keys: Keys, partition: int, count: int) -> Flow[list[tuple[int, str]]]:
    """Return ids whose latest run is closed; runs that a later one replaced are passed over."""
    found: list[tuple[int, str]] = []
    offset = 0
    while len(found) < count:
        page = yield from _newest(keys.closed(partition), offset, count)
        if not page:
            break
        offset += len(page)
        runs = [(at, *member.rpartition(".")[::2]) for at, member in page]
        calls = [command("list_runs", "HGET", keys.row(name), "run") for _, name, _ in runs]
        latest = yield from ask_all(calls)
        found += [
            (at, name)
            for (at, name, run), last in zip(runs, latest, strict=True)
            if last is not None and text(last) == run
        ]
    return found[:count]
