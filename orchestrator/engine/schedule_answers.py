"""What the engine answers to a schedule that asks for its next instants."""

from orchestrator.core import events as e
from orchestrator.engine import schedule_times


def times_computed(asked: e.ScheduleTimesRequested, at_ms: int) -> e.ScheduleTimesComputed:
    """Return the instants asked for; a spec that has none that can be computed is told as such."""
    spec, after_ms, missed = asked.spec, asked.after_ms, 0
    try:
        if asked.missed_until_ms > after_ms:
            missed = schedule_times.count_between(spec, after_ms, asked.missed_until_ms)
            after_ms = asked.missed_until_ms
        fires = schedule_times.fires(asked.schedule, spec, after_ms, asked.count)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        return e.ScheduleTimesComputed(at_ms=at_ms, request=asked.request, problem=str(error))
    return e.ScheduleTimesComputed(
        at_ms=at_ms,
        request=asked.request,
        times=[[fire.nominal_ms, fire.due_ms] for fire in fires],
        missed=missed,
    )
