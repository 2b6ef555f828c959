"""The orchestrator's loop: leases, cycles, the door; and what happens when the store goes away.

X1  No answer means unknown: what is in memory is dropped and read again.
X2  A store that comes back under another identity (restarted, failed over) may have lost its tail:
    leases are taken anew and every run is replayed.
X3  After an outage no claim is taken for expired until its worker had time to renew it.
"""

import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from orchestrator.core import guard
from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.limits import BALANCE_INTERVAL_MS, GATHER_IN_FLIGHT_MIN, GATHER_MS
from orchestrator.core.versions import every_version
from orchestrator.engine.door import pass_on
from orchestrator.engine.leases import Leases
from orchestrator.engine.local_steps import LocalSteps
from orchestrator.engine.observing import Observer
from orchestrator.engine.owner import Owner
from orchestrator.engine.ports import BlobStore, Dispatcher, LocalRunner, Registry
from orchestrator.engine.relay import OutboxRelay
from orchestrator.engine.settings import EngineSettings
from orchestrator.engine.turn import Tools
from orchestrator.engine.watchdog import Watchdog
from orchestrator.store.permit_ports import PermitStore
from orchestrator.store.ports import ClientStore, OwnerStore, RunKey, WorkerStore

logger = logging.getLogger("orchestrator.engine")

#: The partition whose owner also looks after the door.
_DOOR_PARTITION = 0
_BACK_OFF_S = 0.2
_BACK_OFF_S_MAX = 2.0


class EngineStore(OwnerStore, WorkerStore, ClientStore, PermitStore, Protocol):
    """The store as the engine needs it: for its partitions, its local steps and the door."""


def engine_version() -> str:
    """Return the installed version; "0" where the package runs uninstalled."""
    try:
        return version("celery-orchestrator")
    except PackageNotFoundError:
        return "0"


class _StoreClock:
    """The store's clock, estimated between two looks at it: for what is due, not for history."""

    def __init__(self, store: OwnerStore) -> None:
        self._store = store
        self._ahead_ms: int | None = None

    def __call__(self) -> int:
        """Return the store's time, as good as this process's clock keeps it."""
        return self.set() if self._ahead_ms is None else self._own_ms() + self._ahead_ms

    def set(self) -> int:
        """Ask the store."""
        now_ms = self._store.now_ms()
        self._ahead_ms = now_ms - self._own_ms()
        return now_ms

    @staticmethod
    def _own_ms() -> int:
        return time.monotonic_ns() // 1_000_000


class Engine:
    """One orchestrator.

    Args:
        store: Shared with all other orchestrators of the namespace.
        registry: Workflow definitions by name.
        needs_relay: Whether messages go through the outbox, as the broker is elsewhere.
        owner_id: Unique among live orchestrators; made up unless given.
        seal: See `Tools`; None for events that are stored as they are.
        observer: Who measures; None for nobody.
    """

    def __init__(  # noqa: PLR0913 - the composition of an orchestrator
        self,
        *,
        store: EngineStore,
        registry: Registry,
        dispatcher: Dispatcher,
        blobs: BlobStore,
        local: LocalRunner,
        needs_relay: bool = False,
        settings: EngineSettings | None = None,
        owner_id: str | None = None,
        seal: Callable[[RunKey, bytes], bytes] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._settings = settings or EngineSettings()
        self.owner_id = owner_id or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._watchdog = Watchdog(self._settings.activation_ms_max)
        self._local = LocalSteps(store, local)
        self._leases = Leases(store, self.owner_id, self._settings)
        tools = Tools(
            registry=registry,
            dispatcher=dispatcher,
            blobs=blobs,
            rng=random.Random(secrets.randbits(128)),  # noqa: S311 - seeds of runs, jitter
            owner_id=self.owner_id,
            engine_version=engine_version(),
            watch=self._watchdog,
            now_ms=store.now_ms,
            read_step=store.read_step,
            read_history=store.read_history,
            **({} if seal is None else {"seal": seal}),
            observer=observer or Observer(),
        )
        self._clock = _StoreClock(store)
        self._owner = Owner(
            store, self._leases, tools, self._local, self._settings, clock=self._clock
        )
        self._relay = (
            OutboxRelay(store, dispatcher, lambda: list(self._leases.tokens))
            if needs_relay
            else None
        )
        self._registry = registry
        self._server_id = ""
        self._known_server_id = ""
        self._grace_until_ms = 0
        self._balance_at_ms = 0

    def run(self, stop: threading.Event) -> None:
        """Own partitions and drive their runs until `stop` is set; then hand over and return.

        Outages of the store are waited out.
        """
        guard.install()
        for definition in every_version(self._registry):
            guard.adopt(definition.function.__globals__)
        logger.info("orchestrator %s: %d workflow types", self.owner_id, len(self._registry))
        if self._relay:
            self._relay.start()
        back_off_s = _BACK_OFF_S
        while not stop.is_set():
            try:
                self._turn(stop)
            except StoreUnavailable as error:
                logger.warning("%s; trying again", error)
            except Exception:
                # The boundary of the process: whatever somebody wrote where we read, the next
                # orchestrator would read it too.
                logger.exception("orchestrator %s: this turn failed; trying again", self.owner_id)
                self._give_back()  # Whatever it is, another one may not have it.
            else:
                back_off_s = _BACK_OFF_S
                continue
            self._owner.doubt()
            self._server_id = ""
            stop.wait(back_off_s)
            back_off_s = min(_BACK_OFF_S_MAX, back_off_s * 2)
        self._hand_over()

    def _turn(self, stop: threading.Event) -> None:
        if not self._server_id:
            self._recognise()
        now_ms = self._clock()
        if now_ms >= self._balance_at_ms:
            # A connection that broke while nobody used it is made anew in silence, and a call that
            # failed may have concerned one run only: so a restart is looked for (X2).
            if self._store.server_id() != self._server_id:
                self._recognise()
            now_ms = self._clock.set()
            self._balance_at_ms = now_ms + BALANCE_INTERVAL_MS
            self._owner.balance(now_ms)
            if _DOOR_PARTITION in self._leases.tokens:
                pass_on(self._store)
        self._owner.keep()
        if self._owner.in_flight >= GATHER_IN_FLIGHT_MIN:
            stop.wait(GATHER_MS / 1000)
        longest_ms = min(self._settings.inbox_block_ms, max(1, self._balance_at_ms - now_ms))
        if not self._leases.tokens:
            stop.wait(longest_ms / 1000)  # Others own everything; look again when it is time.
            return
        block_ms = self._owner.wait_ms(now_ms, longest_ms)
        self._owner.cycle(
            block_ms=block_ms, grace_until_ms=self._grace_until_ms, is_stopping=stop.is_set
        )

    def _recognise(self) -> None:
        """Find out after a start or an outage whether it is the server we knew (X2, X3)."""
        server_id = self._store.server_id()
        if self._known_server_id and server_id != self._known_server_id:
            logger.warning("the server is another one, or was restarted: every run is replayed")
            self._owner.drop_everything()
        if self._known_server_id:
            self._grace_until_ms = self._clock.set() + self._settings.claim_ttl_ms
        self._server_id = self._known_server_id = server_id
        self._balance_at_ms = 0

    def _give_back(self) -> None:
        try:
            self._leases.release_all()
            logger.info("orchestrator %s: handed over", self.owner_id)
        except StoreUnavailable as error:
            logger.warning("%s: the leases expire by themselves", error)

    def _hand_over(self) -> None:
        self._give_back()
        if self._relay:
            self._relay.close()
        self._local.close()
        self._owner.drop_everything()
        self._watchdog.close()
