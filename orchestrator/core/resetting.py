"""Runs that go on from an event of a history: what is kept of it, and when it cannot be.

*Reset* ends a run, or takes one that has ended, and lets the next run of its id go on from an
earlier event; *fork* lets a run of another id do so, and leaves the first one alone.

RT1  What is kept is a prefix of whole activations.  Where the named event is an input, that input
     is given again, and today's code decides what follows; where it is one of several commands of
     an activation, the input before it is.
RT2  The new run's history begins with the prefix, event by event.  Its own part begins behind
     `HistoryCopied`; until then it is told that it is the run which made that history.
RT3  A step of the prefix keeps its idempotency key, also when it is sent again, or undone.
RT4  Unless whoever asks says that he sees to it himself, nothing that a saga would have to undo is
     dropped, or kept as done once it was undone, or left to two runs to undo.
RT5  What the prefix waits for elsewhere (a child, a permit, another run) answers the run that
     asked: such a prefix is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn

from orchestrator.core import events as e
from orchestrator.core.errors import ResetRefused
from orchestrator.core.failure import Failure
from orchestrator.core.last_ends import LastEnds
from orchestrator.core.ledger import Ledger
from orchestrator.core.limits import COPIED_BYTES_MAX
from orchestrator.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a run goes on from, as its start says it.

    Args:
        id: Workflow id of the run whose history it is.
        run: Its number.
        event: Which event was named.
        head: The chain's head after that event.
        signals: Whether signals that came later are received again.
        request_id: Of whoever asked.
        reason: Why, for people.
        by: Who, for people.
        changed: What is to be other than recorded: "args", "kwargs", "payload".
    """

    id: str
    run: int
    event: int
    head: str
    signals: bool
    request_id: str = ""
    reason: str = ""
    by: str = ""
    changed: dict[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """Return it as a JSON object; `from_json` reads it."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Origin":
        """Return what `as_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A history in two parts.

    Args:
        kept: The prefix (RT1); [] where the run begins anew.
        again: The input that is given again, or None.
        dropped: What followed the prefix, with `again`.
    """

    kept: Sequence[e.Event]
    again: e.Input | None
    dropped: Sequence[e.Event]

    @property
    def last(self) -> int:
        """Number of the last event that is kept; 0 for none."""
        return len(self.kept)

    def made_by(self, origin: Origin) -> tuple[str, int]:
        """Return workflow id and number of the run that made the last event which is kept.

        Not the origin's where that one had copied it from another run.
        """
        copied = (event for event in self.dropped if isinstance(event, e.HistoryCopied))
        return next(((one.id, one.run) for one in copied), (origin.id, origin.run))

    def later_signals(self) -> list[e.SignalReceived]:
        """Return the signals behind the cut, in their order; without the one given again."""
        later = self.dropped[1:] if self.again is not None else self.dropped
        return [event for event in later if isinstance(event, e.SignalReceived)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostStep:
    """A step behind the cut, which the run that goes on knows nothing of."""

    step: int
    task: str
    event: int  #: that ordered it
    is_effect: bool  #: whether a saga would have to undo it


def cut_at(events: Sequence[e.Event], event: int) -> Cut:
    """Return the history cut at its event number `event` (RT1).

    Raises:
        ResetRefused: There is no such event.
    """
    if not 1 <= event <= len(events):
        raise ResetRefused(f"there is no event {event}: the history has {len(events)}")
    last = event
    if isinstance(events[event - 1], e.INPUTS) or (
        event < len(events) and isinstance(events[event], e.COMMANDS)
    ):
        last = next(n for n in range(event, 0, -1) if isinstance(events[n - 1], e.INPUTS)) - 1
    again: Any = events[last] if last < event else None
    return Cut(kept=events[:last], again=again, dropped=events[last:])


def event_before(events: Sequence[e.Event], task: str) -> int:
    """Return the number of the input whose activation ordered the first step of this name.

    Raises:
        ResetRefused: None was ordered.
    """
    for number, event in enumerate(events, start=1):
        if isinstance(event, e.StepScheduled) and event.task == task:
            return next(n for n in range(number, 0, -1) if isinstance(events[n - 1], e.INPUTS))
    named = dict.fromkeys(each.task for each in events if isinstance(each, e.StepScheduled))
    raise ResetRefused(f"it has ordered no step {task!r}; its steps: {', '.join(named) or 'none'}")


def failure_of(ending: e.RunReset) -> Failure:
    """Return why the run that was reset has no result."""
    why = f": {ending.reason}" if ending.reason else ""
    return Failure(type="Terminated", message=f"reset to event {ending.event}{why}")


def start_of(started: e.RunStarted) -> dict[str, Json]:
    """Return what the START of a run says that begins as this one did; with its seed."""
    said: dict[str, Json] = {
        "workflow": started.workflow,
        "args": started.args,
        "kwargs": started.kwargs,
        "seed": started.seed,
        "search_attributes": started.search_attributes,
        "memo": started.memo,
        "summary": started.summary,
        "details": started.details,
        "headers": started.headers,
        "scheduled": started.scheduled,
        "retry": started.retry,
        "run_timeout_ms": started.run_timeout_ms,
    }
    begins: dict[str, Json] = {name: value for name, value in said.items() if value}
    begins |= LastEnds.of(started).as_body()
    if started.is_pinned:
        begins["version"] = started.version
    if started.execution_deadline_at_ms:
        begins["execution_timeout_ms"] = started.execution_deadline_at_ms - started.at_ms
    return begins


def lost_steps(cut: Cut) -> list[LostStep]:
    """Return the steps behind the cut, in the order in which they were ordered.

    One that was undone since, or certainly never ran, is no effect.
    """
    harmless = _undone(cut.dropped) | {
        event.step
        for event in cut.dropped
        if isinstance(event, e.StepFailed) and not event.may_have_run
    }
    return [
        LostStep(
            step=event.step,
            task=event.task,
            event=number,
            is_effect=event.undo is not None and event.step not in harmless,
        )
        for number, event in enumerate(cut.dropped, start=cut.last + 1)
        if isinstance(event, e.StepScheduled) and event.compensates is None
    ]


def check(cut: Cut, *, is_fork: bool, despite_effects: bool) -> None:
    """Say whether a run can go on from there.

    Args:
        cut: See `cut_at`.
        is_fork: Whether the run that made the history goes on as well.
        despite_effects: Whoever asks sees to what RT4 is about.

    Raises:
        ResetRefused: It cannot.
    """
    _check_prefix(cut)
    if despite_effects:
        return
    undone = [*_tasks(cut.kept, _undone(cut.dropped))]
    if undone:
        _refuse(
            f"{_in_words(undone)}, which is kept, was undone since, or is being undone",
            "name an event before it was ordered",
        )
    lost = [(one.step, one.task) for one in lost_steps(cut) if one.is_effect]
    if lost and not is_fork:
        _refuse(
            f"behind event {cut.last} there is {_in_words(lost)}, which nobody would undo any more",
            "name a later event, cancel the run first, so that it undoes what it did",
        )
    shared = [*_tasks(cut.kept, _obligations(cut.kept))]
    if shared and is_fork:
        _refuse(
            f"the part that is kept has {_in_words(shared)}, which either run would undo if it "
            "failed",
            "name an earlier event",
        )


def _refuse(why: str, instead: str) -> NoReturn:
    raise ResetRefused(f"{why}; {instead}, or say that you see to it yourself (despite_effects)")


#: The field of an input that has what it brings, of those that bring something.
_BRINGS: dict[type[e.Event], str] = {
    e.SignalReceived: "payload",
    e.StepCompleted: "result",
    e.ChildCompleted: "result",
    e.ExternalCompleted: "result",
}


def changed(cut: Cut, said: Mapping[str, Json]) -> Cut:
    """Return the cut with what is to be other than recorded; see `Origin.changed`.

    Raises:
        ResetRefused: A payload, and the named event is none that brings one.
    """
    started: Any = {name: said[name] for name in ("args", "kwargs") if name in said}
    if isinstance(cut.again, e.RunStarted):
        cut = replace(cut, again=replace(cut.again, **started))
    elif started:
        cut = replace(cut, kept=[replace(cut.kept[0], **started), *cut.kept[1:]])
    if "payload" in said:
        name = None if cut.again is None else _BRINGS.get(type(cut.again))
        if name is None or cut.again is None:
            kinds = ", ".join(kind.__name__ for kind in _BRINGS)
            raise ResetRefused(f"another payload is for an event that brings one: {kinds}")
        brought: Any = {name: said["payload"]}
        cut = replace(cut, again=replace(cut.again, **brought))
    return cut


def _check_prefix(cut: Cut) -> None:
    ledger = Ledger()
    for event in (*cut.kept, *(() if cut.again is None else (cut.again,))):
        ledger.apply(event)
    if ledger.is_closed:
        raise ResetRefused("that event is its end; name an earlier one")
    waits = {
        "a child": [*ledger.children],
        "a permit": [*ledger.permits],
        "an answer of another run": [*ledger.externals],
    }
    for what, numbers in waits.items():
        if numbers:
            raise ResetRefused(
                f"at event {cut.last + (cut.again is not None)} it has {what} outstanding, which "
                "answers the run that asked; name an event before it was asked for, or after it "
                "has ended"
            )
    if ledger.compensating:
        raise ResetRefused("at that event it undoes a saga; name one before or behind that")
    size = sum(len(e.encode(event)) for event in cut.kept)
    if size > COPIED_BYTES_MAX:
        raise ResetRefused(
            f"{cut.last} events before it have {size} bytes, at most {COPIED_BYTES_MAX} can be "
            "copied; name an earlier event"
        )


def _undone(events: Sequence[e.Event]) -> set[int]:
    """Return the steps that these events undo, or have begun to."""
    return {
        event.compensates
        for event in events
        if isinstance(event, e.StepScheduled) and event.compensates is not None
    }


def _obligations(kept: Sequence[e.Event]) -> set[int]:
    """Return the steps that a run with this history would undo if it failed."""
    ledger = Ledger()
    for event in kept:
        ledger.apply(event)
    return set().union(*ledger.undoable.values())


def _tasks(events: Sequence[e.Event], steps: set[int]) -> Iterator[tuple[int, str]]:
    """Yield number and task of those of `steps` that were ordered here, in order."""
    for event in events:
        if isinstance(event, e.StepScheduled) and event.step in steps:
            yield event.step, event.task


def _in_words(steps: Sequence[tuple[int, str]]) -> str:
    shown = ", ".join(f"step {step} {task}" for step, task in steps[:3])
    return f"{shown} and {len(steps) - 3} more" if len(steps) > 3 else shown
