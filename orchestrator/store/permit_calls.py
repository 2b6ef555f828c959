"""Calls about permits: see `permit_ports.PermitStore`."""

from collections.abc import Sequence

from orchestrator.core.limits import RATE_REMEMBERED_MS
from orchestrator.store.calls import Argument, Flow, ask, ask_all, command, run_script, text
from orchestrator.store.keys import Keys
from orchestrator.store.permit_ports import Grant, Holder, PermitState


def request_permit(keys: Keys, key: str, holder: Holder, limit: int) -> Flow[list[Grant]]:
    """See `PermitStore.request_permit`."""
    return (yield from _change(keys, key, ["request", str(holder), limit]))


def release_permit(keys: Keys, key: str, holder: Holder) -> Flow[list[Grant]]:
    """See `PermitStore.release_permit`."""
    return (yield from _change(keys, key, ["release", str(holder), ""]))


def note_told(keys: Keys, key: str, grant: Grant) -> Flow[None]:
    """See `PermitStore.note_told`."""
    yield from _change(keys, key, ["told", str(grant.holder), grant.fence])


def take_slot(keys: Keys, key: str, holder: Holder, limit: int, per_ms: int) -> Flow[int]:
    """See `PermitStore.take_slot`."""
    arguments: list[Argument] = [str(holder), limit, per_ms, RATE_REMEMBERED_MS]
    reply = yield from ask(run_script("take_slot", "take_slot", [keys.rate(key)], arguments))
    return int(reply)


def read_permits(keys: Keys, key: str) -> Flow[PermitState]:
    """See `PermitStore.read_permits`."""
    held, waiting, slots = yield from ask_all(
        [
            command("read_permits", "HGETALL", keys.permits(key)),
            command("read_permits", "ZRANGE", keys.waiting(key), 0, -1),
            command("read_permits", "ZRANGE", keys.rate(key), 0, -1, "WITHSCORES"),
        ]
    )
    holders = []
    for name, value in held.items():
        if name != b"limit":
            fence, since_ms = text(value).split()[:2]
            holders.append(_grant(text(name), fence, since_ms))
    return PermitState(
        key=key,
        limit=int(held.get(b"limit", 0)),
        holders=sorted(holders, key=lambda grant: grant.fence),
        waiters=[Holder.parse(text(name)) for name in waiting],
        slots=[
            (int(at_ms), Holder.parse(text(name)))
            for name, at_ms in zip(slots[::2], slots[1::2], strict=True)
        ],
    )


def _change(keys: Keys, key: str, arguments: Sequence[Argument]) -> Flow[list[Grant]]:
    names = [keys.permits(key), keys.waiting(key), keys.fence(keys.of_workflow(key))]
    reply = yield from ask(run_script("change_permits", "change_permits", names, arguments))
    parts = list(map(text, reply))
    grants = [_grant(*parts[at : at + 3]) for at in range(0, len(parts), 3)]
    return sorted(grants, key=lambda grant: grant.fence)


def _grant(holder: str, fence: str, since_ms: str) -> Grant:
    return Grant(holder=Holder.parse(holder), fence=int(fence), since_ms=int(since_ms))
