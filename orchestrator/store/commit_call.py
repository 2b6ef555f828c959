"""The call that carries a commit: its keys and arguments, as commit_run.lua reads them."""

from collections.abc import Iterable, Sequence

from orchestrator.core.limits import CLAIM_TTL_MS, JOINED_REQUESTS_MAX
from orchestrator.core.values import Json, canonical
from orchestrator.store.bodies import CANCELLED_UNCLAIMED
from orchestrator.store.calls import Argument, Call, run_script
from orchestrator.store.keys import Keys
from orchestrator.store.ports import AttemptKey, Commit, NextRun
from orchestrator.store.rows import fields_of_start, indexes_in

_BLOCKED = {True: "1", False: "0", None: ""}


def commit_call(keys: Keys, token: str, commit: Commit, *, direct_queues: bool) -> Call:
    """Return the call; `direct_queues` where the broker is this very database."""
    queues = sorted({message.queue for message in commit.messages}) if direct_queues else []
    names = _names(keys, commit)
    index_of = {queue: len(names) + place for place, queue in enumerate(queues, start=1)}
    arguments: list[Argument] = [
        token,
        commit.key.workflow_id,
        commit.key.run,
        commit.expected_seq,
        # Before the first event the row has no head, whatever the caller computed for it.
        commit.expected_head if commit.expected_seq else "",
        _BLOCKED[commit.blocked],
        "" if commit.closed_at_ms is None else commit.closed_at_ms,
        CLAIM_TTL_MS,
        commit.fields.get("status", ""),
        indexes_in(commit.fields["attributes"]) if "attributes" in commit.fields else "",
        *_list(_attempts(commit.given_up)),
        *_list(_attempts(commit.unposted)),
        *_list(_attempts(commit.unclaimed)),
        *_list((event.data, event.head) for event in commit.events),
        *_list((entry_id,) for entry_id in commit.inbox_ids),
        *_list(commit.fields.items()),
        *_list((str(timer),) for timer in commit.timers_removed),
        *_list((due_ms, str(timer)) for timer, due_ms in commit.timers_set.items()),
        *_list(_attempts(commit.steps_settled)),
        *_list(
            (sent.step, sent.attempt, sent.start_to_close_ms, sent.heartbeat_ms, sent.local)
            for sent in commit.steps_sent
        ),
        *_list((step,) for step in commit.steps_resting),
        *_list((step, _cancelled_rest(step)) for step in commit.steps_cancelled),
        *_list((index_of.get(m.queue, 0), m.queue, m.body) for m in commit.messages),
        *_list(
            (one.kind.value, one.workflow_id, one.run, one.request, canonical(dict(one.body)))
            for one in commit.letters
        ),
        *_list(_next_run(one) for one in ([commit.next_run] if commit.next_run else [])),
    ]
    return run_script("commit", "commit_run", [*names, *queues], arguments)


def _names(keys: Keys, commit: Commit) -> list[str]:
    workflow_id, run = commit.key.workflow_id, commit.key.run
    partition = keys.of_workflow(workflow_id)
    return [
        keys.lease(partition),
        keys.row(workflow_id),
        keys.log(workflow_id, run),
        keys.inbox(partition),
        keys.steps(workflow_id, run),
        keys.timers(partition),
        keys.claims(partition),
        keys.open(partition),
        keys.closed(partition),
        keys.blocked(partition),
        keys.outbox(partition),
        keys.letters(partition),
        keys.index(partition, ""),
        keys.past(workflow_id, ""),
    ]


def _next_run(one: NextRun) -> tuple[Argument, ...]:
    fields = fields_of_start(one.body)
    return (
        one.workflow,
        one.request,
        one.first_run,
        canonical(dict(one.body)),
        indexes_in(fields.get("attributes", "{}")),
        canonical([part for pair in fields.items() for part in pair]),
        JOINED_REQUESTS_MAX,
    )


def _list(rows: Iterable[tuple[Argument, ...]]) -> list[Argument]:
    """Return the number of rows, and then the rows."""
    count = 0
    flat: list[Argument] = []
    for row in rows:
        count += 1
        flat.extend(row)
    return [count, *flat]


def _attempts(attempts: Sequence[AttemptKey]) -> list[tuple[int, int]]:
    return [(attempt.step, attempt.attempt) for attempt in attempts]


def _cancelled_rest(step: int) -> bytes:
    """Return `bodies.cancelled_body` without its beginning: the script knows the attempt."""
    failure: Json = dict(CANCELLED_UNCLAIMED)
    body = canonical({"kind": "cancelled", "failure": failure, "ran": False, "step": step})
    return body.removeprefix(b"{")
