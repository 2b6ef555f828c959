"""Permits in memory: the twin of change_permits.lua and take_slot.lua; see `PermitStore`."""

import threading
from dataclasses import dataclass, field

from orchestrator.core.limits import RATE_REMEMBERED_MS
from orchestrator.store.clocks import Clock
from orchestrator.store.permit_ports import Grant, Holder, PermitState


@dataclass(slots=True)
class _Key:
    """One key: who holds, by grant and whether they were told; who waits, first come first."""

    limit: int = 0
    held: dict[Holder, Grant] = field(default_factory=dict)
    untold: set[Holder] = field(default_factory=set)
    waiting: list[Holder] = field(default_factory=list)


class MemoryPermits:
    """The part of a store in memory that keeps permits."""

    clock: Clock

    def __init__(self) -> None:
        self._permit_keys: dict[str, _Key] = {}
        self._slots: dict[str, dict[Holder, int]] = {}
        self._fence = 0
        self._permits_lock = threading.Lock()

    def request_permit(self, key: str, holder: Holder, *, limit: int) -> list[Grant]:
        """See `PermitStore.request_permit`."""
        with self._permits_lock:
            found = self._permit_keys.setdefault(key, _Key())
            if holder not in found.held and holder not in found.waiting:
                found.waiting.append(holder)
                found.limit = limit
            return self._granted(key)

    def release_permit(self, key: str, holder: Holder) -> list[Grant]:
        """See `PermitStore.release_permit`."""
        with self._permits_lock:
            found = self._permit_keys.setdefault(key, _Key())
            found.held.pop(holder, None)
            found.untold.discard(holder)
            if holder in found.waiting:
                found.waiting.remove(holder)
            return self._granted(key)

    def note_told(self, key: str, grant: Grant) -> None:
        """See `PermitStore.note_told`."""
        with self._permits_lock:
            found = self._permit_keys.get(key, _Key())
            held = found.held.get(grant.holder)
            if held is not None and held.fence == grant.fence:
                found.untold.discard(grant.holder)

    def take_slot(self, key: str, holder: Holder, *, limit: int, per_ms: int) -> int:
        """See `PermitStore.take_slot`."""
        with self._permits_lock:
            slots, now_ms = self._slots.get(key, {}), self.clock.now_ms
            if holder in slots:
                return slots[holder]
            kept_ms = max(per_ms, RATE_REMEMBERED_MS)
            slots = {one: at_ms for one, at_ms in slots.items() if at_ms > now_ms - kept_ms}
            instants = list(slots.values())
            at_ms = max([now_ms, *instants[-1:]])
            if len(instants) >= limit:
                at_ms = max(at_ms, instants[-limit] + per_ms)
            slots[holder] = at_ms
            self._slots[key] = slots
            return at_ms

    def read_permits(self, key: str) -> PermitState:
        """See `PermitStore.read_permits`."""
        with self._permits_lock:
            found = self._permit_keys.get(key, _Key())
            slots = self._slots.get(key, {})
            return PermitState(
                key=key,
                limit=found.limit,
                holders=list(found.held.values()),
                waiters=list(found.waiting),
                slots=[(at_ms, holder) for holder, at_ms in slots.items()],
            )

    def _granted(self, key: str) -> list[Grant]:
        found = self._permit_keys[key]
        while found.waiting and len(found.held) < found.limit:
            holder = found.waiting.pop(0)
            self._fence += 1
            now_ms = self.clock.now_ms
            found.held[holder] = Grant(holder=holder, fence=self._fence, since_ms=now_ms)
            found.untold.add(holder)
        if not found.held and not found.waiting:
            del self._permit_keys[key]
        return [grant for holder, grant in found.held.items() if holder in found.untold]
