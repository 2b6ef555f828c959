"""Who acts when: one heap of virtual instants, in one thread.

S1  Time moves only here, and never backwards.
S2  An actor that is in the middle of something (a store call during which it was stopped) does
    nothing else: what is due for it waits until it goes on.
S3  What falls on one instant happens in the order in which it was asked for.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.store.clocks import ManualClock
from tests.simulation.broken import Broken

#: Actors that may be stopped inside one another's pauses: bounds the recursion.
DEPTH_MAX = 4
#: Actions of one seed: ten times what the busiest of some ten thousand seeds needs.
ACTIONS_MAX = 20_000


class Killed(BaseException):
    """The process that is running is gone, as after SIGKILL: nothing of it runs any more."""


class Actor:
    """A process: it acts when something is due for it, until it is gone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_gone = False
        #: In the middle of something; only the pause it is in, or its end, lets it go on (S2).
        self.is_busy = False
        #: To be killed as soon as it is noticed: at its next store call, or its next turn.
        self.is_doomed = False
        #: Asked to end.
        self.is_leaving = False
        #: Stopped (SIGSTOP) until then.
        self.frozen_until_ms = 0
        #: Cut off from the store until then.
        self.cut_until_ms = 0
        #: The server it is connected to; see `session.Session`.
        self.epoch = 0

    def died(self) -> None:
        """Take note of the end: memory is gone, the store is as it was left."""
        self.is_gone = True


Action = Callable[[], None]


@dataclass(order=True, slots=True)
class _Due:
    at_ms: int
    order: int
    actor: Actor = field(compare=False)
    action: Action = field(compare=False)


class Scheduler:
    """See the module."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.began_at_ms = self.clock.now_ms
        self.depth = 0
        self.actions = 0
        self._heap: list[_Due] = []
        self._order = 0

    @property
    def now_ms(self) -> int:
        """The instant."""
        return self.clock.now_ms

    def after(self, delay_ms: int, actor: Actor, action: Action) -> None:
        """Let `actor` do `action` in `delay_ms`, unless it is gone by then."""
        self._order += 1
        at_ms = self.clock.now_ms + delay_ms
        heapq.heappush(self._heap, _Due(at_ms, self._order, actor, action))

    def run_until(self, end_ms: int) -> None:
        """Let everybody act until `end_ms`; those who are busy (S2) afterwards.

        Raises:
            Broken: More was done than there can be to do: somebody goes round in circles.
        """
        heap, clock = self._heap, self.clock
        waiting: list[_Due] = []
        self.depth += 1
        try:
            while heap and heap[0].at_ms <= end_ms:
                due = heapq.heappop(heap)
                actor = due.actor
                if actor.is_gone:
                    continue
                if actor.is_busy:
                    waiting.append(due)
                elif actor.frozen_until_ms > clock.now_ms and actor.frozen_until_ms > due.at_ms:
                    due.at_ms = actor.frozen_until_ms
                    heapq.heappush(heap, due)
                else:
                    clock.now_ms = max(clock.now_ms, due.at_ms)
                    self._act(actor, due.action)
            clock.now_ms = max(clock.now_ms, end_ms)
        finally:
            self.depth -= 1
            for due in waiting:
                heapq.heappush(heap, due)

    def _act(self, actor: Actor, action: Action) -> None:
        self.actions += 1
        if self.actions > ACTIONS_MAX:
            found = f"{ACTIONS_MAX} actions, the last by {actor.name}"
            raise Broken("P5", "the work of one seed", "comes to an end", found)
        actor.is_busy = True
        try:
            if actor.is_doomed:
                raise Killed
            action()
        except Killed:
            actor.died()
        finally:
            actor.is_busy = False
