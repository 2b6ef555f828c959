"""`workflow.side_effect`: what a small function outside of the workflow returned, kept for replay.

SE1 The function runs inside the activation, once for each recorded value; replay returns the value
    and does not run it.  It runs again if the activation is not recorded: by a crash before the
    commit, or as the run was blocked.
SE2 Values are found by their number, in the order of asking.  Code that asks for one that a decided
    activation does not have is stopped there, and the function is not run.
SE3 What the function raises, and what has no JSON form, is a bug: nothing is recorded, and the run
    is blocked until fitting code is there.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from orchestrator.core import endings
from orchestrator.core.context import current
from orchestrator.core.errors import ActivationFailed, ActivationInterrupted, UsageError
from orchestrator.core.events import Event, SideEffectRecorded
from orchestrator.core.execution import Execution
from orchestrator.core.limits import INLINE_BYTES_MAX
from orchestrator.core.places import in_words, place_of_caller
from orchestrator.core.values import Json, canonical


def side_effect(function: Callable[[], Any], type: Any = None) -> Any:
    """Return what `function` returned when the run came here first; see SE1.

    For what is quick, harmless and not to be repeated on replay, as reading a setting.  What takes
    time, may fail or changes something is a step.  `function` is called without the guard that
    keeps workflow code from the outside world.

    Args:
        function: A plain function without parameters.
        type: What the value is; plain JSON unless given.

    Raises:
        ForbiddenInWorkflow: Asked in a query's handler, or in a condition.
    """
    execution = current("side_effect()")
    if execution.loop.read_only:
        reader = execution.loop.read_only
        execution.refuse(f"side_effect() in a {reader}", "ask in the workflow, and keep the value")
    if execution.loop.is_shut:
        return None  # Unwound code records nothing, and its values go nowhere.
    number = execution.side_effects + 1
    value = _value(execution, number, function)
    execution.issue(SideEffectRecorded(at_ms=execution.now_ms, side_effect=number, value=value))
    execution.side_effects = number
    return execution.definition.codec.decode(type, value)


def values_in(events: Sequence[Event]) -> dict[int, Json]:
    """Return the values that `events`, a whole history, has, by their numbers."""
    return {
        event.side_effect: event.value for event in events if isinstance(event, SideEffectRecorded)
    }


def _value(execution: Execution, number: int, function: Callable[[], Any]) -> Json:
    recorded = execution.side_effect_values
    if number in recorded:
        return recorded.pop(number)
    if execution.patches.activation <= execution.patches.decided:
        _stop(
            execution,
            ActivationFailed(
                "nondeterminism",
                f"side effect {number} is asked for where the history has none",
                in_words(place_of_caller()),
                recorded="no such side effect",
                issued=f"SideEffectRecorded(side_effect={number})",
            ),
        )
    try:
        with execution.loop.outside():
            found = function()
        if inspect.isawaitable(found):
            if inspect.iscoroutine(found):
                found.close()
            raise UsageError("side_effect() wants a plain function; what is awaited is a step")
        value = execution.definition.codec.encode(found)
    except ActivationInterrupted:
        raise
    except BaseException as error:  # noqa: BLE001 - user code's; the run is blocked for it
        _stop(execution, endings.bug(error))
    size = len(canonical(value))
    if size > INLINE_BYTES_MAX:
        text = f"the value of side_effect() has {size} bytes, {INLINE_BYTES_MAX} may be; use a step"
        _stop(execution, ActivationFailed("limit", text, in_words(place_of_caller())))
    return value


def _stop(execution: Execution, failed: ActivationFailed) -> NoReturn:
    execution.stop(failed)
    # Not an Exception: code that has no value must not be able to go on.
    raise ActivationInterrupted
