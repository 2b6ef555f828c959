"""Which attempt each child of a prefork pool runs, in memory shared with the main process.

The main process renews the claims of its children.  Celery tells it that a child has *accepted* a
message; only the child knows when it holds the claim and when it has handed over the outcome.

    slot n = pid, digest of the attempt that runs, digest of the attempt to stop
    behind the last slot: one byte, 1 once the worker was asked to stop

BO1  A child writes its own pid and running digest; the main process writes the stop digest, and
     then sends the signal.  So a signal that comes late names an attempt that no longer runs.
BO2  A torn read makes two digests differ, which only postpones what was meant by one round.
"""

import hashlib
import mmap
import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

_VARIABLE = "ORCHESTRATOR_BOARD"
#: Children of one pool; Celery numbers them from 0.
SLOTS = 1024
_SLOT = struct.Struct("<q16s16s")
_SLOT_BYTES = 64
_NOTHING = bytes(16)
_PREFIX = "orchestrator-board-"
_STOPPING = SLOTS * _SLOT_BYTES
_BOARD_BYTES = _STOPPING + 1

assert _SLOT.size <= _SLOT_BYTES


def digest_of(attempt: str) -> bytes:
    """Return what stands on the board for an attempt."""
    return hashlib.blake2b(attempt.encode(), digest_size=16).digest()


class Board:
    """The main process' side."""

    def __init__(self) -> None:
        _remove_orphans()
        handle, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-")
        try:
            os.ftruncate(handle, _BOARD_BYTES)
            self._memory = mmap.mmap(handle, _BOARD_BYTES)
        finally:
            os.close(handle)
        self._path = Path(name)
        os.environ[_VARIABLE] = name

    def running(self) -> dict[int, tuple[int, bytes]]:
        """Return slot and running digest by pid, of the children that run a step now."""
        found = {}
        for index in range(SLOTS):
            pid, running, _ = _SLOT.unpack_from(self._memory, index * _SLOT_BYTES)
            if pid and running != _NOTHING:
                found[pid] = (index, running)
        return found

    def order_stop(self, index: int, digest: bytes) -> None:
        """Note which attempt the child of a slot is to stop; the signal comes after it (BO1)."""
        start = index * _SLOT_BYTES + 24
        self._memory[start : start + 16] = digest

    def show_stopping(self) -> None:
        """Show that the worker was asked to stop; from a signal handler, too."""
        self._memory[_STOPPING] = 1

    def close(self) -> None:
        """Remove the file; children that are still there keep their view of it."""
        self._memory.close()
        self._path.unlink(missing_ok=True)
        if os.environ.get(_VARIABLE) == str(self._path):
            del os.environ[_VARIABLE]


class Slot:
    """A child's side."""

    def __init__(self, memory: mmap.mmap, index: int) -> None:
        self._memory = memory
        self._start = index * _SLOT_BYTES

    @classmethod
    def find(cls, index: int) -> "Slot | None":
        """Return the slot of child `index`, or None where there is no board or no such slot."""
        name = os.environ.get(_VARIABLE)
        if not name or not 0 <= index < SLOTS:
            return None
        try:
            handle = os.open(name, os.O_RDWR)
        except OSError:
            return None
        try:
            memory = mmap.mmap(handle, _BOARD_BYTES)
        finally:
            os.close(handle)
        return cls(memory, index)

    def enter(self, digest: bytes) -> None:
        """Show that the attempt runs here.  An order to stop an earlier one stays, for `take`."""
        self._memory[self._start : self._start + 24] = struct.pack("<q16s", os.getpid(), digest)

    def leave(self) -> None:
        """Show that no attempt runs here."""
        self._memory[self._start + 8 : self._start + 24] = _NOTHING

    @property
    def is_worker_stopping(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._memory[_STOPPING] == 1

    def take_order(self) -> bytes | None:
        """Return the digest of the attempt to stop and forget it; None where there is none."""
        place = slice(self._start + 24, self._start + 40)
        order = self._memory[place]
        self._memory[place] = _NOTHING
        return None if order == _NOTHING else order


def _remove_orphans() -> None:
    """Remove the boards of main processes that were killed and could not do it themselves."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except (ProcessLookupError, ValueError):
            with suppress(OSError):  # another worker, or another user's
                path.unlink()
        except PermissionError:
            continue
