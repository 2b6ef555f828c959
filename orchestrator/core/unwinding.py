"""Ending user code that is suspended: it is told so, and whatever it answers is not heard.

Left to the garbage collector a coroutine would run its ``finally`` blocks at an instant, and on a
thread, that nobody chose.
"""

from types import AsyncGeneratorType
from typing import Any

from orchestrator.core.errors import RunEvicted

#: How often a coroutine that awaits again while it is unwound is told again.
_TRIES_MAX = 100


def unwind(coro: Any) -> bool:
    """End a coroutine.  One that awaits again is told again; return False if it never gives up."""
    for _ in range(_TRIES_MAX):
        try:
            coro.throw(RunEvicted())
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever it ends with, nobody is to know
            return True
    _abandon(coro)
    return False


def _abandon(coro: Any) -> None:
    """Leave a coroutine suspended for ever.

    Python tells a coroutine to end once more when it is collected.  One that catches everything
    would then go round in circles, as no loop is there to suspend it: the process would hang.  So
    this one is never collected, not even when the interpreter ends: it keeps one reference to
    itself that nobody gives back.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coro))


def unwind_generator(generator: AsyncGeneratorType[Any, Any]) -> None:
    """Unwind an asynchronous generator that nobody iterates over any more."""
    try:
        generator.aclose().send(None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - StopIteration when it ended; else see `unwind`
        return
