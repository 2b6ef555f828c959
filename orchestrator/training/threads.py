"""Holds the math libraries of this process to a number of threads.

How a sum is cut among threads changes its last bits, so the number is part of the environment's
class; see `orchestrator.training.environment`.  One thread is the number every machine has, and
small batches lose nothing by it.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from threadpoolctl import ThreadpoolController

#: Read by a library when it is loaded: for those that are not loaded yet.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Pinned:
    """The libraries held to a number of threads, until `restore`; also a context.

    The whole process is held, and what it starts meanwhile.
    """

    def __init__(self, threads: int) -> None:
        self._limits = ThreadpoolController().limit(limits=threads)
        self._variables = {name: os.environ.get(name) for name in VARIABLES}
        os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
        # torch keeps a number of its own beside that of its OpenMP.
        torch: Any = sys.modules.get("torch")
        self._torch_threads: int | None = None
        if torch is not None:
            self._torch_threads = torch.get_num_threads()
            torch.set_num_threads(threads)

    def restore(self) -> None:
        """Give every library the threads it had."""
        self._limits.restore_original_limits()
        for name, value in self._variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._torch_threads is not None:
            sys.modules["torch"].set_num_threads(self._torch_threads)

    def __enter__(self) -> "Pinned":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()


def pin_threads(threads: int = 1) -> Pinned:
    """Hold every math library to `threads` from now on; return what undoes it.

    Libraries that are loaded later are held as well.  Nested calls are undone in reverse order.
    """
    assert threads >= 1, threads
    return Pinned(threads)


class _Shared:
    """One pin for all who train in this process at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.pinned: Pinned | None = None


_shared = _Shared()


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold every math library to one thread, until the last of all who are inside has left.

    For threads that train side by side: the first to end must not loosen what others rely on.
    """
    with _shared.lock:
        _shared.holders += 1
        if _shared.pinned is None:
            _shared.pinned = pin_threads(1)
    try:
        yield
    finally:
        with _shared.lock:
            _shared.holders -= 1
            if _shared.holders == 0 and _shared.pinned is not None:
                _shared.pinned.restore()
                _shared.pinned = None
