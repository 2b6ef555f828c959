"""Ending user code that is suspended: it is told so, and whatever it answers is not heard.

Left to the garbage collector a coroutine would run its ``finally`` blocks at an instant, and on a
thread, that nobody chose.
"""

from types import AsyncGeneratorType
from typing import Any

from orchestrator.core.errors import RunEvicted

#: How often a coroutine that awaits again while it is unwound is told again.
_TRIES_MAX = 100


def unwind(coro: Any) -> None:
    """Unwind a coroutine.  One that awaits again while it is unwound is told again."""
    for _ in range(_TRIES_MAX):
        try:
            coro.throw(RunEvicted())
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever it ends with, nobody is to know
            break
    try:
        coro.close()
    except RuntimeError:
        # It ignores even that: abandoned, suspended for ever.
        return
    except Exception:  # noqa: BLE001 - as above
        return


def unwind_generator(generator: AsyncGeneratorType[Any, Any]) -> None:
    """Unwind an asynchronous generator that nobody iterates over any more."""
    try:
        generator.aclose().send(None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - StopIteration when it ended; else see `unwind`
        return
