"""Calls about partitions, as owners make them: leases, inbox, sweep, door, letters, outbox, …."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from orchestrator.core.limits import ANSWER_TTL_MS, EVENT_BYTES_MAX, REJECTED_SIGNALS_MAX
from orchestrator.core.values import canonical, loads_foreign
from orchestrator.store.calls import (
    Argument,
    Call,
    Flow,
    ask,
    ask_all,
    blocking,
    command,
    run_script,
    text,
)
from orchestrator.store.index_ports import run_of
from orchestrator.store.keys import Keys
from orchestrator.store.ports import (
    Answer,
    AttemptKey,
    DoorEntry,
    Due,
    InboxEntry,
    Kind,
    Letter,
    Message,
    RunKey,
    TimerKey,
)

Name = TypeVar("Name", AttemptKey, TimerKey)

#: What `read_step` shows of a step's row.
STEP_FIELDS = ("attempt", "state", "claim", "external", "details", "heartbeat_at_ms")


def now_ms() -> Flow[int]:
    """See `OwnerStore.now_ms`."""
    seconds, microseconds = yield from ask(command("now_ms", "TIME"))
    return int(seconds) * 1000 + int(microseconds) // 1000


def server_id() -> Flow[str]:
    """See `OwnerStore.server_id`."""
    info: dict[str, Any] = yield from ask(command("server_id", "INFO", "server"))
    return str(info["run_id"])


def report_orchestrator(keys: Keys, owner_id: str, ttl_ms: int) -> Flow[list[str]]:
    """See `OwnerStore.report_orchestrator`."""
    name = "report_orchestrator"
    call = run_script(name, name, [keys.orchestrators], [owner_id, ttl_ms])
    reply = yield from ask(call)
    return sorted(map(text, reply))


def retire_orchestrator(keys: Keys, owner_id: str) -> Flow[None]:
    """See `OwnerStore.retire_orchestrator`."""
    yield from ask(command("retire_orchestrator", "ZREM", keys.orchestrators, owner_id))


def list_orchestrators(keys: Keys) -> Flow[dict[str, int]]:
    """See `OwnerStore.list_orchestrators`."""
    call = command("list_orchestrators", "ZRANGE", keys.orchestrators, 0, -1, "WITHSCORES")
    flat = yield from ask(call)
    return {
        text(owner): int(float(until_ms))
        for owner, until_ms in zip(flat[::2], flat[1::2], strict=True)
    }


def grant_lease(keys: Keys, partition: int, owner_id: str, token: str, ttl_ms: int) -> Flow[bool]:
    """See `OwnerStore.grant_lease`."""
    assert token, "a lease needs a token"
    assert "/" not in token, "the lease's value is '<owner>/<token>'"
    names = [keys.lease(partition)]
    reply = yield from ask(
        run_script("grant_lease", "grant_lease", names, [owner_id, token, ttl_ms])
    )
    return bool(reply)


def renew_leases(keys: Keys, tokens: Mapping[int, str], ttl_ms: int) -> Flow[set[int]]:
    """See `OwnerStore.renew_leases`."""
    replies = yield from ask_all(
        [
            run_script("renew_leases", "renew_lease", [keys.lease(partition)], [token, ttl_ms])
            for partition, token in tokens.items()
        ]
    )
    return {partition for partition, held in zip(tokens, replies, strict=True) if not held}


def release_lease(keys: Keys, partition: int, token: str) -> Flow[None]:
    """See `OwnerStore.release_lease`."""
    names = [keys.lease(partition)]
    yield from ask(run_script("release_lease", "release_lease", names, [token]))


def take_inbox(
    keys: Keys, after: Mapping[int, str], count: int, block_ms: int
) -> Flow[dict[int, list[InboxEntry]]]:
    """See `OwnerStore.take_inbox`."""
    if not after:
        return {}
    streams = [keys.inbox(partition) for partition in after]
    parts = ("STREAMS", *streams, *after.values())
    if block_ms > 0:
        call = blocking("take_inbox", "XREAD", "COUNT", count, "BLOCK", block_ms, *parts)
    else:
        call = command("take_inbox", "XREAD", "COUNT", count, *parts)
    reply = yield from ask(call)
    partition_of = {
        name.encode(): partition for partition, name in zip(after, streams, strict=True)
    }
    found: dict[int, list[InboxEntry]] = {}
    unreadable: list[Call] = []
    for stream, entries in reply or ():
        partition = partition_of[stream]
        for entry_id, fields in entries:
            entry = _parse(entry_id, fields)
            if isinstance(entry, InboxEntry):
                found.setdefault(partition, []).append(entry)
            else:
                unreadable += _move_to_rejected(keys, stream, entry_id, fields, entry)
    yield from ask_all(unreadable)
    return found


def _parse(entry_id: bytes, fields: Mapping[bytes, bytes]) -> InboxEntry | str:
    """Return the entry, or why it is none."""
    try:
        data = fields[b"body"]
        if len(data) > EVENT_BYTES_MAX:
            return f"the body has {len(data)} bytes, at most {EVENT_BYTES_MAX} fit"
        body = loads_foreign(data)
        if not isinstance(body, dict):
            return "the body is not a JSON object"
        return InboxEntry(
            id=text(entry_id),
            kind=Kind(text(fields[b"kind"])),
            workflow_id=text(fields[b"workflow"]),
            run=int(fields[b"run"]),
            body=body,
        )
    except KeyError as error:
        return f"there is no field {error}"
    except ValueError as error:
        return f"unreadable: {error}"


def _move_to_rejected(
    keys: Keys, stream: bytes, entry_id: bytes, fields: Mapping[bytes, bytes], reason: str
) -> list[Call]:
    # Kept first, removed then: a crash between the two keeps it twice rather than not at all.
    return [
        _keep_rejected("take_inbox", keys, fields, reason),
        command("take_inbox", "XDEL", stream, entry_id),
    ]


def _keep_rejected(
    name: str, keys: Keys, fields: Mapping[Any, Any], reason: str, bytes_max: int = EVENT_BYTES_MAX
) -> Call:
    flat = [
        part[:bytes_max] if isinstance(part, bytes) else part
        for pair in fields.items()
        for part in pair
    ]
    limit = ("MAXLEN", "~", REJECTED_SIGNALS_MAX)
    return command(name, "XADD", keys.rejected, *limit, "*", *flat, "reason", reason)


def sweep(keys: Keys, partitions: Sequence[int], count: int) -> Flow[tuple[int, dict[int, Due]]]:
    """See `OwnerStore.sweep`."""
    calls = [
        run_script("sweep", "sweep_partition", [keys.timers(p), keys.claims(p)], [count])
        for p in partitions
    ]
    if not calls:
        instant = yield from now_ms()
        return instant, {}
    replies = yield from ask_all(calls)
    found = {}
    unreadable: list[Call] = []
    for partition, (_, timers, claims, later_ms) in zip(partitions, replies, strict=True):
        known_timers, others = _named(timers, TimerKey.parse)
        unreadable += _forget(keys, keys.timers(partition), others)
        known_claims, others = _named(claims, AttemptKey.parse)
        unreadable += _forget(keys, keys.claims(partition), others)
        found[partition] = Due(
            timers=known_timers,
            claims=known_claims,
            next_due_ms=int(float(later_ms)) if later_ms else None,
        )
    yield from ask_all(unreadable)
    return int(replies[-1][0]), found


def _named(
    members: Iterable[bytes], parse: Callable[[str], Name]
) -> tuple[list[Name], list[bytes]]:
    """Return what the members name, and those that are nobody's writing."""
    known: list[Name] = []
    others: list[bytes] = []
    for member in members:
        try:
            name = parse(text(member))
        except ValueError:
            others.append(member)
            continue
        # Written otherwise than we write it, no commit would ever remove it.
        if str(name).encode() == member:
            known.append(name)
        else:
            others.append(member)
    return known, others


def _forget(keys: Keys, place: str, members: Iterable[bytes]) -> list[Call]:
    # Under no lease: whoever owns the partition finds no more sense in it.
    calls: list[Call] = []
    for member in members:
        told = {"key": place, "member": member}
        calls.append(_keep_rejected("sweep", keys, told, "it names no timer and no claim", 1_000))
        calls.append(command("sweep", "ZREM", place, member))
    return calls


def discard(
    keys: Keys,
    partition: int,
    token: str,
    inbox_ids: Sequence[str],
    timers: Sequence[TimerKey] = (),
    claims: Sequence[AttemptKey] = (),
) -> Flow[None]:
    """See `OwnerStore.discard`."""
    places = (keys.lease, keys.inbox, keys.timers, keys.claims)
    names = [place(partition) for place in places]
    if inbox_ids or timers or claims:
        found: list[Argument] = [token, len(inbox_ids), len(timers), *inbox_ids]
        found += [str(name) for name in (*timers, *claims)]
        yield from ask(run_script("discard", "discard_entries", names, found))


def set_aside(keys: Keys, partition: int, token: str, inbox_id: str, reason: str) -> Flow[None]:
    """See `OwnerStore.set_aside`."""
    stream = keys.inbox(partition)
    found = yield from ask(command("set_aside", "XRANGE", stream, inbox_id, inbox_id))
    for _, fields in found:
        yield from ask(_keep_rejected("set_aside", keys, fields, reason))
    yield from discard(keys, partition, token, [inbox_id])


def reject(keys: Keys, fields: Mapping[str, str], reason: str) -> Flow[None]:
    """See `OwnerStore.reject`."""
    yield from ask(_keep_rejected("reject", keys, fields, reason))


def list_blocked(keys: Keys, partition: int) -> Flow[list[RunKey]]:
    """See `OwnerStore.list_blocked`."""
    members = yield from ask(command("list_blocked", "SMEMBERS", keys.blocked(partition)))
    runs = map(run_of, sorted(map(text, members)))
    return [RunKey(workflow_id=workflow_id, run=run) for workflow_id, run in runs]


def read_step(keys: Keys, key: RunKey, step: int) -> Flow[dict[str, str]]:
    """See `OwnerStore.read_step`."""
    wanted = [f"{step}.{name}" for name in STEP_FIELDS]
    steps = keys.steps(key.workflow_id, key.run)
    values = yield from ask(command("read_step", "HMGET", steps, *wanted))
    return {
        name: text(value)
        for name, value in zip(STEP_FIELDS, values, strict=True)
        if value is not None
    }


def answer(keys: Keys, answers: Sequence[Answer]) -> Flow[None]:
    """See `OwnerStore.answer`."""
    calls = []
    for given in answers:
        # A reply's own id says where it lies: its reader knows nothing else of it.
        names = [keys.answer(keys.of_workflow(given.reply_to), given.reply_to)]
        body = canonical(given.body)
        calls.append(run_script("answer", "give_answer", names, [body, ANSWER_TTL_MS]))
    yield from ask_all(calls)


def read_door(keys: Keys, count: int) -> Flow[list[DoorEntry]]:
    """See `OwnerStore.read_door`."""
    lines = yield from ask(command("read_door", "XRANGE", keys.door, "-", "+", "COUNT", count))
    # People type these: what is not UTF-8 is shown as such rather than stopping the door.
    return [
        DoorEntry(
            id=text(entry_id),
            fields={
                name.decode(errors="replace"): value.decode(errors="replace")
                for name, value in fields.items()
            },
        )
        for entry_id, fields in lines
    ]


def ack_door(keys: Keys, ids: Sequence[str]) -> Flow[None]:
    """See `OwnerStore.ack_door`."""
    if ids:
        yield from ask(command("ack_door", "XDEL", keys.door, *ids))


def read_letters(keys: Keys, partition: int, count: int) -> Flow[list[tuple[str, Letter]]]:
    """See `OwnerStore.read_letters`."""
    name = keys.letters(partition)
    lines = yield from ask(command("read_letters", "XRANGE", name, "-", "+", "COUNT", count))
    found: list[tuple[str, Letter]] = []
    unreadable: list[Call] = []
    for entry_id, fields in lines:
        # The same fields as an inbox entry, and one more.
        entry = _parse(entry_id, fields)
        if isinstance(entry, InboxEntry):
            request = text(fields.get(b"request", b""))
            letter = Letter(
                kind=entry.kind,
                workflow_id=entry.workflow_id,
                run=entry.run,
                request=request,
                body=entry.body,
            )
            found.append((entry.id, letter))
        else:
            unreadable += _move_to_rejected(keys, name.encode(), entry_id, fields, entry)
    yield from ask_all(unreadable)
    return found


def ack_letters(keys: Keys, partition: int, ids: Sequence[str]) -> Flow[None]:
    """See `OwnerStore.ack_letters`."""
    if ids:
        yield from ask(command("ack_letters", "XDEL", keys.letters(partition), *ids))


def read_outbox(keys: Keys, partition: int, count: int) -> Flow[list[tuple[str, Message]]]:
    """See `OwnerStore.read_outbox`."""
    call = command("read_outbox", "XRANGE", keys.outbox(partition), "-", "+", "COUNT", count)
    lines = yield from ask(call)
    return [
        (text(entry_id), Message(queue=text(fields[b"queue"]), body=fields[b"body"]))
        for entry_id, fields in lines
    ]


def ack_outbox(keys: Keys, partition: int, ids: Sequence[str]) -> Flow[None]:
    """See `OwnerStore.ack_outbox`."""
    if ids:
        yield from ask(command("ack_outbox", "XDEL", keys.outbox(partition), *ids))
