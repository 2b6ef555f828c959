"""What the store tells of a run beside its history: claims of its steps, and who drives it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.app import Orchestrator
from orchestrator.cli.scanning import Scan
from orchestrator.client.summary import RunSummary
from orchestrator.core.errors import ConfigurationError, StoreUnavailable
from orchestrator.core.ledger import StepEntry
from orchestrator.dispatch import CeleryDispatcher
from orchestrator.store.ports import RunKey

#: Steps whose claims are looked up; each costs a round trip.
CLAIMS_READ_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known beside a history.

    Args:
        key: The run.
        rows: Of its outstanding steps, by number; see `OwnerStore.read_step`.
        queues: Where their attempts go, by number; "" where no route is known here.
        alive: How many orchestrators have reported lately; None where that could not be read.
        silent_ms: How long ago the last report expired, where none is alive and one is on record.
        unread: Why something could not be read, or "".
    """

    key: RunKey
    rows: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    queues: Mapping[int, str] = field(default_factory=dict)
    alive: int | None = None
    silent_ms: int | None = None
    unread: str = ""


def look_around(orchestrator: Orchestrator, run: RunSummary, scan: Scan) -> Surroundings:
    """Return what lies around an open run; of one that has ended nothing is looked up.

    What may not be read is said in `unread`: the history is worth showing without it.
    """
    if run.is_closed:
        return Surroundings(key=run.key)
    steps = sorted(scan.ledger.steps.items())
    dispatcher = CeleryDispatcher(orchestrator.app)
    queues = {number: _queue_of(dispatcher, entry) for number, entry in steps}
    store = orchestrator.store
    try:
        now_ms, reports = store.now_ms(), store.list_orchestrators()
        rows = {number: store.read_step(run.key, number) for number, _ in steps[:CLAIMS_READ_MAX]}
    except StoreUnavailable as error:
        return Surroundings(key=run.key, queues=queues, unread=str(error))
    alive = sum(until_ms > now_ms for until_ms in reports.values())
    return Surroundings(
        key=run.key,
        rows=rows,
        queues=queues,
        alive=alive,
        silent_ms=_silent_ms(reports.values(), now_ms),
    )


def _silent_ms(reports: Iterable[int], now_ms: int) -> int | None:
    last_ms = max(reports, default=now_ms + 1)
    return None if last_ms > now_ms else now_ms - last_ms


def _queue_of(dispatcher: CeleryDispatcher, entry: StepEntry) -> str:
    try:
        return dispatcher.queue_of(entry.scheduled.task, entry.options.queue)
    except ConfigurationError:
        # Routed by an app that knows more than this one; the name of the queue is a comfort.
        return entry.options.queue or ""
