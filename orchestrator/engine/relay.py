"""The outbox relay: messages for a broker that is not the store's own Redis.

A message is in the outbox from the commit that orders it until the broker has it.  One that is
published twice, after a crash in between, runs once: the claim refuses the copy.
"""

import logging
import threading
from collections.abc import Callable

from orchestrator.core.errors import StoreUnavailable
from orchestrator.engine.ports import Dispatcher
from orchestrator.store.ports import OwnerStore

logger = logging.getLogger("orchestrator.engine")

_BATCH_MAX = 200
_POLL_S = 0.05
_BACK_OFF_S = 1.0


class OutboxRelay:
    """Publishes the outboxes of the partitions held, in a thread of its own.

    Args:
        partitions: Returns the partitions held now.
    """

    def __init__(
        self, store: OwnerStore, dispatcher: Dispatcher, partitions: Callable[[], list[int]]
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._partitions = partitions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-relay", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End after the batch at hand; the rest stays in the outbox."""
        self._stop.set()
        self._thread.join()

    def relay_once(self) -> int:
        """Publish one batch of each partition held; return the number of messages.

        Raises:
            StoreUnavailable: Store or broker do not answer; what was not acknowledged stays.
        """
        count = 0
        for partition in self._partitions():
            entries = self._store.read_outbox(partition, count=_BATCH_MAX)
            if entries:
                self._dispatcher.publish([message for _, message in entries])
                self._store.ack_outbox(partition, [entry_id for entry_id, _ in entries])
                count += len(entries)
        return count

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                wait_s = 0.0 if self.relay_once() else _POLL_S
            except StoreUnavailable as error:
                logger.warning("outbox: %s", error)
                wait_s = _BACK_OFF_S
            self._stop.wait(wait_s)
