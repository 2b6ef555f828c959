"""The app object: workflows beside a Celery app's tasks, and what serves them.

A1  Importing and decorating reaches nothing: no configuration is read and no connection opened
    before something is started, asked or run.
A2  One Celery app has one orchestrator; `Orchestrator.of` finds it again.
"""

import functools
import os
from collections import ChainMap
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, cast, overload

from celery import Celery
from redis import Redis

from orchestrator.blobs import DirectoryBlobs
from orchestrator.client import draining, exporting, listing
from orchestrator.client.address import broker_url, is_same_place, store_url_of_broker
from orchestrator.client.aio import AsyncRuns
from orchestrator.client.batch import Batch, BatchOptions
from orchestrator.client.connection import Connection, Store
from orchestrator.client.exporting import Exported
from orchestrator.client.handle import RunHandle
from orchestrator.client.ids import checked_workflow_id
from orchestrator.client.listing import LIST_LIMIT, RunPage, Where
from orchestrator.client.messages import Target
from orchestrator.client.on_loop import ClientStoreOnLoop
from orchestrator.client.port import run_in_place
from orchestrator.client.registration import (
    WorkflowOptions,
    WorkflowSettings,
    define,
    register,
)
from orchestrator.client.reindexing import Reindexed, reindex
from orchestrator.client.schedules import (
    ScheduleDescription,
    ScheduleHandle,
    list_schedules,
    schedule_definition,
)
from orchestrator.client.summary import RunSummary
from orchestrator.client.token_handle import TokenHandle
from orchestrator.client.workflow import Workflow
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ConfigurationError, UnknownWorkflow
from orchestrator.core.interceptors import Interceptor, checked_interceptors
from orchestrator.core.limits import BATCH_RPS_DEFAULT
from orchestrator.core.rates import checked_key
from orchestrator.core.schedule import SCHEDULE_TYPE
from orchestrator.engine.ports import ErasableBlobs
from orchestrator.payloads import PydanticCodec
from orchestrator.sealing import housekeeping
from orchestrator.sealing.codec import KeyedCodec, PayloadCodec
from orchestrator.sealing.seal import Seal
from orchestrator.store.connect import blocking_twin, connect, connect_async
from orchestrator.store.permit_ports import PermitState
from orchestrator.store.redis import RedisStore
from orchestrator.worker import install
from orchestrator.worker.protocol import StepProtocol

if TYPE_CHECKING:
    from orchestrator.engine.observing import Observer
    from orchestrator.engine.process import Engine
    from orchestrator.engine.settings import EngineSettings

P = ParamSpec("P")
R = TypeVar("R")

#: Where large results lie unless told otherwise; workers and orchestrators must share it.
BLOBS_VARIABLE = "ORCHESTRATOR_BLOBS"
BLOBS_DEFAULT = ".orchestrator/blobs"

_ATTRIBUTE = "orchestrator"


class Orchestrator:
    """Durable workflows for a Celery app.

    Args:
        app: The Celery app; its tasks are the steps, and need no change.
        store: Where the histories lie: an address (``redis://…``), or a store object for tests.
            None for the broker's own Redis and database, where a step's message is sent in the
            same act as its event; anywhere else messages take the way through an outbox.
        prefix: Of every key: namespaces may share a server.
        partitions: How many; chosen once per namespace and recorded there.  None adopts what is
            recorded, or the default.
        blobs: Directory for large results, shared by workers and orchestrators; None for the
            environment's ``ORCHESTRATOR_BLOBS``, or ``.orchestrator/blobs``.
        payload_codec: Seals every payload before it leaves the process, as `EncryptionCodec` does;
            the same one in clients, workers and orchestrators.
        interceptors: What stands around the calls of clients, workflows and steps, outermost first;
            see `core.interceptors`.

    Raises:
        ConfigurationError: The app has an orchestrator already.
        UsageError: One of `interceptors` is none.
    """

    def __init__(  # noqa: PLR0913 - the composition of an app
        self,
        app: Celery,
        *,
        store: str | Store | None = None,
        prefix: str = "orc",
        partitions: int | None = None,
        blobs: str | Path | None = None,
        payload_codec: PayloadCodec | None = None,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        if getattr(app, _ATTRIBUTE, None) is not None:
            raise ConfigurationError(
                f"Celery app {app.main!r}", "an orchestrator", "use Orchestrator.of(app)"
            )
        self.app = app
        self.interceptors = checked_interceptors(interceptors)
        self.codec = PydanticCodec()
        self._seal = None if payload_codec is None else Seal(payload_codec)
        directory = DirectoryBlobs(
            blobs if blobs is not None else os.environ.get(BLOBS_VARIABLE, BLOBS_DEFAULT)
        )
        self.blobs: ErasableBlobs = directory if self._seal is None else self._seal.blobs(directory)
        self._given = store
        self._clients: tuple[Redis, ...] = ()
        self._prefix = prefix
        self._partitions = partitions
        self._definitions: dict[str, WorkflowDefinition] = {}
        self._workflows: dict[tuple[str, str], Workflow[..., Any]] = {}
        self._connection = Connection(
            self._open_store,
            # What is sealed is opened with keys from the store: not on somebody's event loop.
            self._open_async_store if isinstance(store, str | None) and not payload_codec else None,
            codec=self.codec,
            registry=self._definitions,
            blobs=self.blobs,
            interceptors=self.interceptors,
        )
        self.aio = AsyncRuns(self._connection)
        setattr(app, _ATTRIBUTE, self)
        install(app, self._step_protocol)

    @classmethod
    def of(cls, app: Celery) -> "Orchestrator":
        """Return the orchestrator of `app`.

        Raises:
            ConfigurationError: It has none.
        """
        found = getattr(app, _ATTRIBUTE, None)
        if not isinstance(found, cls):
            raise ConfigurationError(
                f"Celery app {app.main!r}",
                "no orchestrator",
                "the module named with -A has to make one: orc = Orchestrator(app)",
            )
        return found

    @property
    def registry(self) -> Mapping[str, WorkflowDefinition]:
        """The workflows of this app, by name."""
        return MappingProxyType(self._definitions)

    @property
    def driven(self) -> Mapping[str, WorkflowDefinition]:
        """What an engine of this app drives, by name: its workflows, and schedules."""
        return ChainMap({SCHEDULE_TYPE: schedule_definition(self.codec)}, self._definitions)

    @property
    def store(self) -> Store:
        """The store, connected at the first use."""
        return self._connection.store

    @property
    def store_url(self) -> str:
        """Address of the store, as given or as the broker's.

        Raises:
            ConfigurationError: The broker is no Redis, and no store was named; or the store is an
                object, which has no address.
        """
        if self._given is not None and not isinstance(self._given, str):
            raise ConfigurationError("store address", "a store object", "an address is wanted")
        return self._given or store_url_of_broker(broker_url(self.app.conf))

    @property
    def sends_directly(self) -> bool:
        """Whether messages are pushed in the commit itself: store and broker are one place."""
        if self._given is not None and not isinstance(self._given, str):
            return False
        options = self.app.conf.broker_transport_options or {}
        return is_same_place(broker_url(self.app.conf), self.store_url, options)

    # --- workflows -------------------------------------------------------------------------------

    @overload
    def workflow(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...

    @overload
    def workflow(
        self, /, **told: Unpack[WorkflowSettings]
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...

    def workflow(
        self,
        function: Callable[..., Coroutine[Any, Any, Any]] | None = None,
        /,
        **told: Unpack[WorkflowSettings],
    ) -> Any:
        """Register an ``async def`` as a workflow; bare, or with options.

        Args:
            function: At the top of a module.  Its annotated parameters are the input, its
                annotated result the output; both are validated.
            told: See `WorkflowSettings`.

        Raises:
            ConfigurationError: It cannot be a workflow, or its name and version are taken.
        """
        options = WorkflowOptions(**told, interceptors=self.interceptors)
        if function is None:
            return functools.partial(self._registered, options)
        return self._registered(options, function)

    def _registered(
        self, options: WorkflowOptions, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Workflow[P, R]:
        definition, encode_input = define(function, options, self.codec)
        if definition.name == SCHEDULE_TYPE:
            raise ConfigurationError(
                f"workflow {SCHEDULE_TYPE!r}", "the name of schedules", "name it otherwise"
            )
        register(self._definitions, definition)
        workflow = Workflow(function, definition, encode_input, self._connection.sessions)
        self._workflows[definition.name, definition.version] = workflow
        return workflow

    def get_workflow(self, name: str, version: str | None = None) -> Workflow[..., Any]:
        """Return the workflow of that name, in its default version unless another one is named.

        Raises:
            UnknownWorkflow: This app has none.
        """
        known = self._definitions.get(name)
        if known is not None and version is None:
            version = known.version
        found = self._workflows.get((name, version or ""))
        if found is None:
            asked = name if known is None else f"{name} version {version}"
            raise UnknownWorkflow(asked, tuple(sorted({name for name, _ in self._workflows})))
        return found

    # --- runs ------------------------------------------------------------------------------------

    def run(self, id: str, run: int | None = None) -> RunHandle[Any]:
        """Return a handle on a run; None is the latest one of the id.  Reaches nothing."""
        target = Target(workflow_id=checked_workflow_id(id), run=run or 0)
        return RunHandle(self._connection.sessions, target)

    def step(self, token: str) -> TokenHandle:
        """Return a handle on the attempt that a token names; see `step.complete_later`."""
        return TokenHandle(self._connection.sessions.blocking, token)

    def list(
        self,
        filter: str = "",
        *,
        limit: int = LIST_LIMIT,
        page_token: str = "",
        **where: Unpack[Where],
    ) -> RunPage:
        """Return up to `limit` runs that the filter and the keywords take, newest first.

        Args:
            filter: As ``customer = 'ana' AND total > 100``; see `client.filter_text`.
            limit: Of this page.
            page_token: Of the page before, for the page that follows it.
            where: See `Where`.

        Raises:
            InvalidFilter, UsageError: It says nothing; names the place.
        """
        session = self._connection.sessions.blocking()
        wanted = listing.filter_of(filter, where)
        return run_in_place(listing.list_page(session, wanted, limit=limit, page_token=page_token))

    def iterate(self, filter: str = "", **where: Unpack[Where]) -> Iterator[RunSummary]:
        """Yield every run that filter and keywords take, page by page; see `list`."""
        wanted = listing.filter_of(filter, where)
        return listing.iterate_in_place(self._connection.sessions.blocking, wanted)

    def count(self, filter: str = "", **where: Unpack[Where]) -> int:
        """Return how many runs filter and keywords take; see `list`."""
        session = self._connection.sessions.blocking()
        return run_in_place(listing.count(session, listing.filter_of(filter, where)))

    def count_by(self, name: str, filter: str = "", **where: Unpack[Where]) -> dict[str, int]:
        """Return how many of these runs have each "status", "type", or value of an attribute."""
        session = self._connection.sessions.blocking()
        return run_in_place(listing.count_by(session, listing.filter_of(filter, where), name))

    def batch(
        self,
        filter: str,
        *,
        id: str | None = None,
        rps: float = BATCH_RPS_DEFAULT,
        **where: Unpack[Where],
    ) -> Batch:
        """Return a batch over the runs that filter and keywords take; see `Batch`.

        Args:
            filter: See `list`.
            id: The same id again goes on with the same batch; without one, an id is made up.
            rps: Requests a second.
            where: See `Where`.

        Raises:
            InvalidFilter, UsageError: It says nothing; names the place.
        """
        options = BatchOptions(rps=rps) if id is None else BatchOptions(id=id, rps=rps)
        wanted = listing.filter_of(filter, where)
        return Batch(self._connection.sessions.blocking, wanted, options)

    def reindex(self, *, progress: Callable[[int], None] = lambda done: None) -> Reindexed:
        """Make the indexes that listings use anew, from the histories; while everything runs."""
        return reindex(self.store, progress=progress)

    def export_open(self, folder: str | Path, *, type: str | None = None) -> Exported:
        """Write the history of every open run into `folder`; see `exporting.export_open`."""
        return run_in_place(
            exporting.export_open(self._connection.sessions.blocking(), folder, type)
        )

    def drain(self, *, type: str | None = None, patches: Sequence[str] = ()) -> draining.Drain:
        """Return which versions and patches open runs need; see `client.draining`."""
        work = draining.drain(self._connection.sessions.blocking(), type, patches)
        return run_in_place(work)

    def schedule(self, id: str) -> ScheduleHandle:
        """Return a handle on a schedule, to make it or to tell it something.  Reaches nothing."""
        return ScheduleHandle(self._connection.sessions, checked_workflow_id(id))

    def schedules(self, *, limit: int = LIST_LIMIT) -> Sequence[ScheduleDescription]:
        """Return up to `limit` schedules, newest first."""
        return run_in_place(list_schedules(self._connection.sessions.blocking(), limit))

    def engine(
        self, settings: "EngineSettings | None" = None, observer: "Observer | None" = None
    ) -> "Engine":
        """Return a new orchestrator process' engine; its `run` blocks until it is stopped.

        `observer` measures it; see `orchestrator.metrics`.
        """
        # Not at the top: a client or a worker has no use for the engine.
        from orchestrator.dispatch import CeleryDispatcher
        from orchestrator.engine.process import Engine
        from orchestrator.engine.settings import EngineSettings
        from orchestrator.local import ThreadedLocalRunner

        store, seal = self.store, self._seal
        if seal is not None:
            seal.check()
        return Engine(
            store=store,
            registry=self.driven,
            dispatcher=CeleryDispatcher(self.app, seal=seal.text if seal else None),
            blobs=self.blobs,
            local=ThreadedLocalRunner(
                self.app, self.codec, self.blobs, interceptors=self.interceptors
            ),
            settings=settings or EngineSettings(),
            needs_relay=not self.sends_directly,
            seal=seal.event if seal else None,
            observer=observer,
        )

    def permits(self, key: str) -> PermitState:
        """Return who holds permits of a key, who waits for one, and the slots of its rate.

        Raises:
            UsageError: No such key can be.
            StoreUnavailable: No answer.
        """
        return self.store.read_permits(checked_key(key))

    # --- keys of payloads ------------------------------------------------------------------------

    def shred(self, id: str, run: int | None = None) -> housekeeping.Shredded:
        """Make the payloads of an ended run unreadable for good; see `sealing.housekeeping`.

        Raises:
            ConfigurationError: The app encrypts nothing.
            RunNotFound, UsageError, StoreUnavailable: See there.
        """
        keys = self._keys()
        return housekeeping.shred(self.store, self.blobs, keys, checked_workflow_id(id), run or 0)

    def rotate_keys(self) -> tuple[int, int]:
        """Wrap all data keys under the current master key; see `sealing.housekeeping`.

        Raises:
            ConfigurationError: The app encrypts nothing.
            PayloadSealed, StoreUnavailable: See there.
        """
        return housekeeping.rotate_keys(self.store, self._keys())

    def _keys(self) -> KeyedCodec:
        if self._seal is None:
            raise ConfigurationError(
                "payload codec", "none", "Orchestrator(app, payload_codec=EncryptionCodec(…))"
            )
        return self._seal.keys

    # --- connections -----------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The way to the store that all clients of this app share."""
        return self._connection

    def close(self) -> None:
        """Close this process' connections to the store; the next call makes new ones."""
        for client in self._clients:
            client.connection_pool.disconnect()

    def _open_store(self) -> Store:
        store = self._open_plain_store()
        return store if self._seal is None else cast("Store", self._seal.store(store))

    def _open_plain_store(self) -> Store:
        if self._given is not None and not isinstance(self._given, str):
            return self._given
        client = connect(self.store_url)
        self._clients = (client, blocking_twin(client))
        return RedisStore(
            client,
            prefix=self._prefix,
            partitions=self._partitions,
            direct_queues=self.sends_directly,
            blocking=self._clients[1],
        )

    def _open_async_store(self) -> ClientStoreOnLoop:
        return ClientStoreOnLoop(
            connect_async(self.store_url), prefix=self._prefix, partitions=self._partitions
        )

    def _step_protocol(self) -> StepProtocol:
        unseal = self._seal.opened_text if self._seal else str
        return StepProtocol(
            self.store, self.blobs, self.codec, unseal=unseal, interceptors=self.interceptors
        )
