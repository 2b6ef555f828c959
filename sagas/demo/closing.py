"""The end of the tour: the books, one history as it lies, and where to go from here."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from orchestrator.app import Orchestrator
from orchestrator.client.summary import HistoryEvent
from orchestrator.core.events import (
    CompensationStarted,
    Event,
    RunFailed,
    SignalReceived,
    StepAttemptFailed,
    StepFailed,
    TimerStarted,
)
from orchestrator.store.keys import Keys
from sagas.app import app
from sagas.demo import claims
from sagas.demo.tour import Handle, Tour
from sagas.order import OrderState

#: Histories that are verified, the newest ones.
HISTORIES_MAX = 10_000


def check_books(tour: Tour) -> None:
    """Check what has to hold for all orders together."""
    say = tour.narrator
    say.heading("The books")
    say.check_by(claims.books_balance, {handle.id: _status_of(handle) for handle in tour.handles})
    orchestrator = Orchestrator.of(app)
    runs = orchestrator.list(limit=HISTORIES_MAX)
    say.check_by(claims.chains_hold, orchestrator, runs)
    say.check_by(claims.replay_agrees, tour.handles)


def show_history(tour: Tour, name: str) -> None:
    """Print the history of one order."""
    handle = next(each for each in tour.handles if each.id == tour.id_of(name))
    tour.narrator.heading(f"The history of {handle.id}")
    tour.narrator.show(_table_of(handle.history()))


def show_ways_on(tour: Tour, *, stays: bool) -> None:
    """Say where the histories are, and what to try next."""
    say = tour.narrator
    say.heading("Where the histories are")
    say.tell(f"in {tour.stage.server.directory}, the append-only file of a Valkey")
    say.tell(f"logs of workers and orchestrators, also of the killed: {tour.stage.log_directory}")
    if stays:
        say.heading("Look around, from another terminal; Ctrl-C here ends it all")
        for command in _commands(tour):
            say.command(command)
        return
    say.heading("What to try next")
    say.tell("take the tour again and look around: everything stays up until Ctrl-C")
    say.command(_typed("orchestrator demo --keep"))
    say.tell("the same application for yourself, and in another terminal an order of your own")
    say.command(_typed("orchestrator dev -A sagas"))
    say.command(_typed("python -m sagas order --total 9000 --approve you"))
    if tour.trainings:
        say.command(_typed("python -m sagas training --epochs 60 --review-every 20"))
    say.tell("the workflows that you have just seen are sagas/order.py and sagas/training.py")
    say.tell("README.md tells the rest, docs/training.md all about trainings")


def _commands(tour: Tour) -> list[str]:
    stage, handle = tour.stage, tour.handles[-1]
    lineages = [f"celery -A sagas workflow lineage {each.id}" for each in tour.trainings[:1]]
    partitions = Orchestrator.of(app).store.partitions
    exports = " ".join(f"{name}={shlex.quote(to)}" for name, to in stage.environment.items())
    key = shlex.quote(Keys(prefix="orc", partitions=partitions).log(handle.id, handle.run))
    return [
        f"export {exports}",
        f"redis-cli -p {stage.server.port} XRANGE {key} - +",
        _typed(f"celery -A sagas workflow show {handle.id}"),
        _typed("celery -A sagas workflow list"),
        *map(_typed, lineages),
        _typed("python -m sagas order --total 9000 --approve you"),
        _typed("python -m tasks.audit"),
    ]


def _typed(command: str) -> str:
    """Return `command` as another shell takes it: with its folder, unless that is on the PATH."""
    program, _, rest = command.partition(" ")
    here = Path(sys.executable).parent
    if shutil.which(program) == str(here / program):
        return command
    folder = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    return f"{folder / program} {rest}"


def _status_of(handle: Handle) -> str:
    state: OrderState | None = handle.state(OrderState)
    return "nothing published" if state is None else state.status.value


def _table_of(history: Sequence[HistoryEvent]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("SECONDS", justify="right", no_wrap=True)
    table.add_column("EVENT", no_wrap=True)
    table.add_column("WHAT", overflow="fold")
    table.add_column("CHAIN", no_wrap=True)
    names = claims.task_names(history)
    for each in history:
        seconds = (each.event.at_ms - history[0].event.at_ms) / 1000
        row = (str(each.seq), f"{seconds:.3f}", each.type, _gist(each.event, names), each.head[:6])
        table.add_row(*(Text(cell) for cell in row))
    return table


def _gist(event: Event, names: Mapping[int, str]) -> str:
    match event:
        case StepAttemptFailed() | StepFailed():
            return f"{names[event.step]}: {event.kind}, {event.failure.type}"
        case SignalReceived():
            return event.signal
        case TimerStarted():
            return f"{event.duration_ms / 1000:g} s"
        case CompensationStarted():
            return ", ".join(f"undo {names[step]}" for step in event.steps)
        case RunFailed():
            return event.failure.type
        case _:
            return names.get(getattr(event, "step", 0), "")
