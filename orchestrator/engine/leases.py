"""Which partitions this orchestrator owns, and its fair share of them.

O1  A lease is asked for before anything of a partition is read, and checked by the store on every
    commit: what this module believes is never what makes a write safe.
O2  Partitions spread evenly over the orchestrators that report; one that has more than its share
    gives the rest back between two cycles, one that has less takes what is free.
"""

import logging
import secrets

from orchestrator.engine.settings import EngineSettings
from orchestrator.store.ports import OwnerStore

logger = logging.getLogger("orchestrator.engine")


class Leases:
    """The leases of one orchestrator.  One thread uses it."""

    def __init__(self, store: OwnerStore, owner_id: str, settings: EngineSettings) -> None:
        self._store = store
        self._owner_id = owner_id
        self._settings = settings
        self._tokens: dict[int, str] = {}
        self._renewed_at_ms = 0

    @property
    def tokens(self) -> dict[int, str]:
        """Token by partition, of the leases held."""
        return self._tokens

    def balance(self, now_ms: int) -> tuple[set[int], set[int]]:
        """Renew, give back and take leases; return the partitions gained and lost.

        Safe to repeat at any time.

        Raises:
            StoreUnavailable: No answer; what was held is still held until the store says otherwise.
        """
        lost = self.renew_due(now_ms)
        live = self._report()
        share = self._share(live)
        for partition in sorted(self._tokens)[share:]:
            lost.add(partition)
            self.release(partition)
        return self._take(share), lost

    def _report(self) -> list[str]:
        return self._store.report_orchestrator(
            self._owner_id, ttl_ms=self._settings.orchestrator_ttl_ms
        )

    def _share(self, live: list[str]) -> int:
        """Return how many partitions are this orchestrator's: they differ by one at most."""
        names = sorted({*live, self._owner_id})
        each, rest = divmod(self._store.partitions, len(names))
        return each + (names.index(self._owner_id) < rest)

    def renew_due(self, now_ms: int) -> set[int]:
        """Renew the leases if it is time; return the partitions lost.

        Reports as well: in a cycle that takes long this is all that is called.

        Raises:
            StoreUnavailable: No answer; what was held is still held until the store says otherwise.
        """
        # A store's clock may be set back, and another server's may be behind: then it is time.
        if 0 <= now_ms - self._renewed_at_ms < self._settings.lease_renew_interval_ms:
            return set()
        self._report()
        lost = self._store.renew_leases(self._tokens, ttl_ms=self._settings.lease_ttl_ms)
        self._renewed_at_ms = now_ms
        for partition in lost:
            logger.warning("partition %d: lease lost", partition)
            self._tokens.pop(partition, None)
        return lost

    def _take(self, share: int) -> set[int]:
        gained: set[int] = set()
        for partition in range(self._store.partitions):
            if len(self._tokens) >= share:
                break
            if partition in self._tokens:
                continue
            token = secrets.token_hex(8)
            if self._store.grant_lease(
                partition, self._owner_id, token, ttl_ms=self._settings.lease_ttl_ms
            ):
                self._tokens[partition] = token
                gained.add(partition)
        return gained

    def forget(self, partition: int) -> None:
        """Drop a lease that the store says is not ours."""
        self._tokens.pop(partition, None)

    def forget_all(self) -> None:
        """Drop all leases without giving them back: the store may have lost them."""
        self._tokens.clear()
        self._renewed_at_ms = 0

    def release(self, partition: int) -> None:
        """Give one lease back."""
        token = self._tokens.pop(partition, None)
        if token is not None:
            self._store.release_lease(partition, token)

    def release_all(self) -> None:
        """Give all leases back and stop counting for the shares: others take over at once."""
        for partition in list(self._tokens):
            self.release(partition)
        self._store.retire_orchestrator(self._owner_id)
