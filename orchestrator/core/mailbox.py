"""Signals that arrived, and who waits for them.

M1  Per name first in, first out, for signals and for those who wait.
M2  A signal is never lost: what nobody asked for yet is kept, and what was handed to somebody who
    was cancelled before he saw it goes back to the front.
M3  A signal id is taken once.
M4  A signal is unread until somebody has it in his hands: it may lie with someone who waits, or
    with a handler, that has not run since.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from orchestrator.core.events import SignalReceived


class Mailbox:
    """The signals of one run."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._unread: dict[str, SignalReceived] = {}
        self._kept: dict[str, deque[SignalReceived]] = {}
        self._waiting: dict[str, deque[asyncio.Future[SignalReceived]]] = {}
        self._handlers: dict[str, Callable[[SignalReceived], None]] = {}
        self._dynamic: Callable[[SignalReceived], None] | None = None

    def receive(self, signal: SignalReceived) -> None:
        """Take a signal in: for who waits, else for a handler, else keep it."""
        if signal.signal_id in self._seen:
            return
        self._seen.add(signal.signal_id)
        self._unread[signal.signal_id] = signal
        self._hand_out(signal, to_front=False)

    def unread(self) -> list[SignalReceived]:
        """Return what nobody has had in his hands, of all names, in the order of arrival (M4)."""
        return list(self._unread.values())

    def read(self, signal: SignalReceived) -> None:
        """Take note that somebody has it in his hands (M4)."""
        self._unread.pop(signal.signal_id, None)

    def awaited(self) -> list[str]:
        """Return the names that somebody waits for, each once, sorted."""
        return sorted(
            name for name, line in self._waiting.items() if any(not one.done() for one in line)
        )

    def find(self, name: str) -> SignalReceived | None:
        """Return the oldest kept signal of that name and forget it, or None."""
        kept = self._kept.get(name)
        if not kept:
            return None
        self.read(kept[0])
        return kept.popleft()

    def wait(self, name: str, future: asyncio.Future[SignalReceived], *, first: bool) -> None:
        """Let `future` have the next signal of that name; before the others if `first`."""
        line = self._waiting.setdefault(name, deque())
        if first:
            line.appendleft(future)
        else:
            line.append(future)

    def give_back(self, signal: SignalReceived) -> None:
        """Hand a signal to the next one in line (M2)."""
        self._hand_out(signal, to_front=True)

    def has_handler(self, name: str | None) -> bool:
        """Return whether signals of that name have a handler; None asks for the dynamic one."""
        return self._dynamic is not None if name is None else name in self._handlers

    def handle(self, name: str, handler: Callable[[SignalReceived], None]) -> None:
        """Give `handler` the kept signals of that name, oldest first, and those to come."""
        self._handlers[name] = handler
        kept = self._kept.pop(name, ())
        for signal in kept:
            handler(signal)

    def handle_others(self, handler: Callable[[SignalReceived], None]) -> None:
        """Give `handler` all kept signals, oldest first, and those that nobody else takes."""
        self._dynamic = handler
        kept = {signal.signal_id for line in self._kept.values() for signal in line}
        self._kept.clear()
        for signal in self.unread():
            if signal.signal_id in kept:
                handler(signal)

    def _hand_out(self, signal: SignalReceived, *, to_front: bool) -> None:
        line = self._waiting.get(signal.signal, ())
        while line:
            future = line.popleft()
            if not future.done():
                future.set_result(signal)
                return
        handler = self._handlers.get(signal.signal, self._dynamic)
        if handler is not None:
            handler(signal)
            return
        kept = self._kept.setdefault(signal.signal, deque())
        if to_front:
            kept.appendleft(signal)
        else:
            kept.append(signal)
