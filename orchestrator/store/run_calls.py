"""Calls about runs, as clients and owners make them: start, post, read, wait."""

import json
import time
from collections.abc import Mapping

from orchestrator.core.limits import JOINED_REQUESTS_MAX, STARTS_REMEMBERED_MAX
from orchestrator.core.values import Json, canonical
from orchestrator.store.calls import (
    Argument,
    Flow,
    ask,
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
from orchestrator.store.rows import barred_by, fields_of_start, indexes_in


def start(
    keys: Keys,
    workflow_id: str,
    request_id: str,
    body: Mapping[str, Json],
    message: tuple[Kind, Mapping[str, Json]] | None,
) -> Flow[Start]:
    """See `ClientStore.start`."""
    partition = keys.of_workflow(workflow_id)
    names = [
        keys.row(workflow_id),
        keys.open(partition),
        keys.inbox(partition),
        keys.past(workflow_id, ""),
        keys.index(partition, ""),
    ]
    fields = fields_of_start(body)
    arguments: list[Argument] = [
        workflow_id,
        request_id,
        str(body["workflow"]),
        canonical(dict(body)),
        indexes_in(fields.get("attributes", "{}")),
        *(("", "") if message is None else (message[0].value, canonical(dict(message[1])))),
        JOINED_REQUESTS_MAX,
        STARTS_REMEMBERED_MAX,
        " ".join(barred_by(body)),
        *(part for pair in fields.items() for part in pair),
    ]
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
