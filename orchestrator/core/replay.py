"""A run's history, applied to its code: the same inputs must give the same commands.

R1  Compared is everything but the instants and what `events` marks as untold.
R2  Commands are compared in their own order, not in their place between inputs: while a run is
    blocked its inputs are recorded alone, and their commands follow once it moves again.
R3  A disagreement is raised here, to the engine, never into user code.
R4  A run that was terminated while it was blocked ended without its code: nothing is compared of
    its end, and what the code would have ordered since is pending for ever.
R5  Activations are carried out one by one by whoever bounds them: a bound on one activation says
    nothing of how long a whole history may take.
R6  A marker of a patch that was deprecated may be missing in the code.
R7  What was copied from another run's history is replayed as that run: its code may have used its
    id and number.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from operator import attrgetter
from typing import Any, NoReturn, cast

from orchestrator.core.blobs import find_blob_ref
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.errors import ActivationFailed, NondeterminismError
from orchestrator.core.events import (
    COMMANDS,
    INPUTS,
    Command,
    Event,
    HistoryCopied,
    PatchMarked,
    RunBlocked,
    RunCompleted,
    RunStarted,
    RunTerminated,
    RunUnblocked,
    UpdateCompleted,
)
from orchestrator.core.execution import Execution
from orchestrator.core.flags import why_too_new
from orchestrator.core.patches import patches_in
from orchestrator.core.places import Place, in_words
from orchestrator.core.queries import waiting_at
from orchestrator.core.run_info import RunInfo
from orchestrator.core.side_effects import values_in
from orchestrator.core.updates import verdicts_in
from orchestrator.core.values import digest

#: Carries out one activation, and returns what it returns.
Activate = Callable[[Callable[[], list[Command]]], list[Command]]

_INPUTS = frozenset(INPUTS)
_COMMANDS = frozenset(COMMANDS)
#: Whether the run is blocked after a note.
_BLOCKS: dict[type[Event], bool] = {RunBlocked: True, RunUnblocked: False}


@dataclass(slots=True)
class Replayed:
    """An execution that stands where its history ends.

    `pending` was issued but is not recorded: only where the history ends blocked (R4).
    """

    execution: Execution
    pending: list[Command]


def replay(
    definition: WorkflowDefinition,
    workflow_id: str,
    run: int,
    events: Sequence[Event],
    *,
    activate: Activate = lambda apply: apply(),
) -> Replayed:
    """Return the execution that `events`, a whole history, leads to.

    References to blobs in results are to be resolved by the caller.  `activate` carries out each
    activation (R5); what it raises ends the replay.

    Raises:
        NondeterminismError: History and code disagree.
        ActivationFailed: The code cannot be activated.
        ValueError: The history does not begin with its start.
    """
    started = events[0] if events else None
    if not isinstance(started, RunStarted):
        raise ValueError(f"{workflow_id}: a history begins with RunStarted")
    too_new = why_too_new(started.flags)
    if too_new:
        raise ActivationFailed("newer_engine", too_new)
    makers = _makers(events, workflow_id, run)
    execution = Execution(definition, RunInfo.of(*makers[0], started), replaying=True)
    execution.updates.verdicts = verdicts_in(events)
    execution.patches = patches_in(events)
    execution.side_effect_values = values_in(events)
    try:
        return _replayed(execution, events, makers, activate)
    except BaseException:
        execution.close()
        raise


def _makers(events: Sequence[Event], workflow_id: str, run: int) -> list[tuple[str, int]]:
    """Return which runs made the history, part by part: more than one where it was copied (R7)."""
    copied = [(event.id, event.run) for event in events if type(event) is HistoryCopied]
    return [*copied, (workflow_id, run)]


def _replayed(
    execution: Execution,
    events: Sequence[Event],
    makers: Sequence[tuple[str, int]],
    activate: Activate,
) -> Replayed:
    issued: deque[tuple[Command, Place | None]] = deque()
    is_blocked = False
    made_by = iter(makers[1:])
    for index, event in enumerate(events):
        kind = type(event)
        if kind in _INPUTS:
            execution.seq = index + 1
            commands = activate(partial(execution.apply, cast("Any", event)))
            if commands:
                issued.extend(zip(commands, execution.places, strict=True))
        elif kind is RunTerminated and is_blocked:
            break
        elif kind in _COMMANDS:
            _compare(execution, index, event, issued)
        elif kind in _BLOCKS:
            is_blocked = _BLOCKS[kind]
        elif kind is HistoryCopied:
            execution.info = execution.info.after_copy(cast("Any", event), *next(made_by))
    if issued and not is_blocked:
        _disagree(execution, len(events), None, *issued[0])
    execution.replaying = False
    execution.updates.verdicts = {}
    execution.side_effect_values = {}
    return Replayed(execution, [command for command, _ in issued])


def _compare(
    execution: Execution,
    index: int,
    recorded: Event,
    issued: deque[tuple[Command, Place | None]],
) -> None:
    """Take the command that was issued for `recorded`, or disagree."""
    command, place = issued[0] if issued else (None, None)
    if _is_left_out(recorded, command):
        return
    if command is None or type(command) is not type(recorded) or not _is_same(recorded, command):
        _disagree(execution, index, recorded, command, place)
    issued.popleft()


def _is_left_out(recorded: Event, issued: Command | None) -> bool:
    """Return whether the code no longer asks for what was recorded, and may do so (R6)."""
    if not isinstance(recorded, PatchMarked) or not recorded.deprecated:
        return False
    return not (isinstance(issued, PatchMarked) and issued.patch == recorded.patch)


def _key(kind: type[Event]) -> Callable[[Event], object]:
    """Return what compares two events of one kind (R1)."""
    names = _compared(kind)
    return attrgetter(*names) if names else lambda _: None


def _compared(kind: type[Event]) -> list[str]:
    return [part.name for part in fields(kind) if part.compare and part.name != "at_ms"]


_KEYS = {kind: _key(kind) for kind in COMMANDS}


def _is_same(recorded: Event, issued: Event) -> bool:
    key = _KEYS[type(recorded)]
    if key(recorded) == key(issued):
        return True
    for kind in (RunCompleted, UpdateCompleted):
        if not (isinstance(recorded, kind) and isinstance(issued, kind)):
            continue
        ref = find_blob_ref(recorded.result)
        return ref is not None and ref.sha256 == digest(issued.result)
    return False


def _disagree(
    execution: Execution,
    index: int,
    recorded: Event | None,
    issued: Event | None,
    place: Place | None,
) -> NoReturn:
    main = execution.loop.main
    where = in_words(place) or (waiting_at(main) if main is not None else "")
    raise NondeterminismError(
        execution.info.workflow_id,
        index + 1,
        "its end" if recorded is None else in_full(recorded),
        "nothing more" if issued is None else in_full(issued) + _difference(recorded, issued),
        where,
    )


def in_full(event: Event) -> str:
    """Return the event in words: what replay compares of it; of payloads the digest only."""
    parts = []
    for name in _compared(type(event)):
        value = getattr(event, name)
        if name == "args_digest":
            parts.append(f"{name}={value[:12]}…")
        elif name == "result":
            parts.append(f"{name}=sha256:{digest(value)[:12]}…")
        elif value is not None:
            parts.append(f"{name}={value!r}")
    return f"{type(event).__name__}({', '.join(parts)})"


def _difference(recorded: Event | None, issued: Event) -> str:
    if type(recorded) is not type(issued):
        return ""
    differs = [
        name for name in _compared(type(issued)) if getattr(recorded, name) != getattr(issued, name)
    ]
    return f" [differs in {', '.join(differs)}]"
