"""Asks a chunk's control where no step asks it: while the chunk loads, saves or evaluates.

AS1  What waits for a disk or a network may take longer than a chunk's silence is borne, and is
     alive all the same.  A step that hangs is not: while one is carried out, nobody asks.
AS2  The thread ends with what it stands beside.  What the control raised in it is raised there.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

#: Seconds from one question to the next.
ASK_SECONDS = 5.0


@contextmanager
def asked_meanwhile(control: Callable[[], object]) -> Iterator[None]:
    """Ask `control` every few seconds while the block runs; its answers wait for the next step.

    Raises:
        BaseException: What `control` raised, once the block has ended well (AS2).
    """
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(ASK_SECONDS):
            control()

    # In a copy of the context: whatever the control looks up there is what it sees in a step.
    with ThreadPoolExecutor(1, "chunk-asking") as pool:
        asking = pool.submit(copy_context().run, ask)
        try:
            yield
        finally:
            is_over.set()
        asking.result()
