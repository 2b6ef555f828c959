"""What a run waits for, in words: for a test that waits for a run that waits for the test."""

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.client.summary import instant
from orchestrator.core import events as e
from orchestrator.core.definition import WorkflowDefinition
from orchestrator.core.ledger import Ledger, StepEntry
from orchestrator.core.queries import stack
from orchestrator.core.replay import replay
from orchestrator.core.states import StepState
from orchestrator.engine.ports import BlobStore
from orchestrator.engine.references import with_values
from orchestrator.store.ports import AttemptKey, RunKey


def what_it_waits_for(
    key: RunKey,
    definition: WorkflowDefinition | None,
    history: Sequence[e.Event],
    blobs: BlobStore,
    held: Mapping[AttemptKey, object],
) -> tuple[str, ...]:
    """Return one line for each thing that would let the run go on, and for where its code waits."""
    if not history:
        return ("an orchestrator: nothing of it has been worked on",)
    ledger = Ledger()
    for event in history:
        ledger.apply(event)
    if ledger.blocked is not None:
        return (f"mended code: it is blocked, {ledger.blocked.kind}: {ledger.blocked.message}",)
    lines = [_step(key, entry, held) for entry in ledger.steps.values()]
    lines += [f"timer {n}, due at {instant(at).isoformat()}" for n, at in ledger.timers.items()]
    lines += [f"child {child.scheduled.id!r}" for child in ledger.children.values()]
    lines += [
        f"permit {n} of {entry.requested.key!r}; see orc.permits()"
        for n, entry in ledger.permits.items()
        if not entry.is_granted
    ]
    if definition is not None:
        lines += _in_code(key, definition, [with_values(event, blobs) for event in history])
    return tuple(lines)


def _step(key: RunKey, entry: StepEntry, held: Mapping[AttemptKey, object]) -> str:
    number, task = entry.scheduled.step, entry.scheduled.task
    attempt = AttemptKey(
        workflow_id=key.workflow_id, run=key.run, step=number, attempt=entry.attempt
    )
    line = f"step {number} {task}, attempt {entry.attempt}"
    if attempt in held:
        return f"{line}: held by the test; release it, or let skip() pass its time-outs"
    if entry.state is StepState.PARKED:
        return f"{line}: parked; decide with handle.resolve({number}, …)"
    if entry.is_paused:
        return f"{line}: paused; let it go on with handle.step({number}).unpause()"
    return line


def _in_code(
    key: RunKey, definition: WorkflowDefinition, history: Sequence[e.Event]
) -> Iterator[str]:
    execution = replay(definition, key.workflow_id, key.run, history).execution
    try:
        for name in execution.mailbox.awaited():
            yield f"signal {name!r}: handle.signal({name!r}, …)"
        for line in stack(execution.loop).splitlines():
            yield f"in {line}"
    finally:
        execution.close()
