"""A result of a replay, in words for people: of a mismatch both sides, one below the other."""

from orchestrator.replaying.results import ReplayResult, ReplayStatus

_WHAT_NOW = (
    "guard the change with a patch, keep the old code for runs of the old version, or undo it; "
    "the recorded history is right as it is"
)


def in_words(result: ReplayResult) -> str:
    """Return the result in a few lines; the first one says which history, and how it went."""
    run = f" ({result.workflow} {result.workflow_id} run {result.run})" if result.workflow else ""
    lines = [f"{result.source}{run}: {result.status.value}"]
    match result.status:
        case ReplayStatus.FITS:
            pass
        case ReplayStatus.MISMATCH:
            lines += _mismatch(result)
        case _:
            lines.append(f"  {result.message}")
            if result.where:
                lines.append(f"  at {result.where}")
            lines += [f"  | {line}" for line in result.traceback.rstrip().splitlines()]
    if result.blocked:
        lines.append(f"  rests at the end of its history: {result.blocked}")
    if not result and result.is_code_changed is not None:
        lines.append(f"  {_code(is_changed=result.is_code_changed)}")
    if result.status is ReplayStatus.MISMATCH:
        lines.append(f"  {_WHAT_NOW}")
    return "\n".join(lines)


def _mismatch(result: ReplayResult) -> list[str]:
    found = result.mismatch
    assert found is not None
    lines = [
        f"  event {found.seq} of {result.events}",
        f"  - history has   {found.recorded}",
        f"  + code asks for {found.issued}",
    ]
    if found.differs:
        lines.append(f"  ? differs in    {', '.join(found.differs)}")
    lines.append(f"  at {found.where or 'no source line'}")
    return lines


def _code(*, is_changed: bool) -> str:
    if is_changed:
        return "the workflow function has changed since the run was started"
    return "the workflow function has not changed: look at what it calls"
