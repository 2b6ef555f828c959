"""The processes of a storm, and what is done to them.

K1  What is dead is started again, what stands still is continued: a storm leaves all running.
K2  A process that ends although nobody killed it is a finding.
K3  A worker is hit in the middle of a step, if one of them comes to one within a moment.
"""

import heapq
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from tests.acceptance.child import Child
from tests.acceptance.stack import Stack
from tests.chaos.disturbance import GRACE_S, LEASES_S, START_S, Disturbances
from tests.chaos.faults import Action, Fault, Victim
from tests.chaos.processes import age_s, children_of, send
from tests.chaos.takeover import Takeovers

#: A fault that finds nobody to hit comes again after so long.
_AGAIN_S = 0.1
#: K3
_WAIT_FOR_STEP_S = 3.0
#: Celery itself gives up a worker whose child dies while it starts.
_CHILD_AGE_S_MIN = 3.0
_LOOK_S = 0.05

Tell = Callable[[str], None]


@dataclass(slots=True)
class Post:
    """A place in the crew: who fills it now, and whether it stands still."""

    victim: Victim
    name: str
    child: Child
    is_stopped: bool = False
    is_empty: bool = False


@dataclass(slots=True)
class Tally:
    """What was done, by victim and action, and what happened without us."""

    done: Counter[tuple[Victim, Action]] = field(default_factory=Counter)
    ended_alone: list[str] = field(default_factory=list)


class Fleet:
    """Workers, orchestrators and the server.  One thread uses it."""

    def __init__(self, stack: Stack, tell: Tell) -> None:
        self.tally = Tally()
        self._disturbances = Disturbances()
        self.takeovers = Takeovers(stack, self._disturbances)
        self._stack = stack
        self._tell = tell
        self._posts: list[Post] = []
        self._began = 0.0
        self.is_server_up = True
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pause = threading.Event()
        #: Children of workers that stand still, with the start time that tells them from others.
        self._stopped_children: set[tuple[int, str]] = set()

    def man(self, victim: Victim, count: int) -> None:
        """Start so many of a kind."""
        for number in range(1, count + 1):
            child = self._launch(victim)
            self._posts.append(Post(victim=victim, name=f"{victim.value} {number}", child=child))

    def _launch(self, victim: Victim) -> Child:
        if victim is Victim.WORKER:
            return self._stack.worker("-c", "2")
        return self._stack.orchestrator()

    def wait_until_ready(self) -> None:
        """Wait until all of them are at work."""
        for post in self._posts:
            post.child.wait_for_log(" ready." if post.victim is Victim.WORKER else "owns ")

    # --- the storm -------------------------------------------------------------------------------

    def weather(self, faults: list[Fault], beat: Callable[[], None]) -> None:
        """Carry out the faults and all that follows from them; `beat` is called in between."""
        self._began = time.monotonic()
        for fault in faults:
            self._at(self._began + fault.at_s, lambda fault=fault: self._carry_out(fault))  # type: ignore[misc]
        while self._queue:
            while self._queue and self._queue[0][0] <= time.monotonic():
                heapq.heappop(self._queue)[2]()
            self.look()
            beat()
            self._pause.wait(_LOOK_S)

    def look(self) -> None:
        """Note who ended by themselves, and fill their places (K2)."""
        for post in self._posts:
            if not post.is_empty and not post.child.is_running:
                self.tally.ended_alone.append(f"{post.name}: see {post.child.log_path}")
                self._tell(f"{post.name} (pid {post.child.pid}) ended by itself")
                post.child = self._launch(post.victim)
                post.is_stopped = False

    def _at(self, instant: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (instant, next(self._order), act))

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, act)

    def _carry_out(self, fault: Fault) -> None:
        hit = {
            Victim.SERVER: self._hit_server,
            Victim.CHILD: self._hit_child,
            Victim.WORKER: self._hit_post,
            Victim.ORCHESTRATOR: self._hit_post,
        }[fault.victim]
        if hit(fault):
            self.tally.done[fault.victim, fault.action] += 1
        else:
            self._in(_AGAIN_S, lambda: self._carry_out(fault))

    # --- workers and orchestrators ---------------------------------------------------------------

    def _hit_post(self, fault: Fault) -> bool:
        """Hit one of a kind; what stands still may be killed, and is not stopped twice."""
        there = [
            post
            for post in self._posts
            if post.victim is fault.victim
            and not post.is_empty
            and not (post.is_stopped and fault.action is Action.STOP)
        ]
        if fault.victim is Victim.WORKER:
            there = self._busy(there, fault)
        if not there:
            return False
        post = there[fault.which % len(there)]
        self._expect_takeover(post, fault)
        if fault.action is Action.KILL:
            self._kill(post, fault.lasting_s)
        else:
            self._stop(post, fault.lasting_s)
        return True

    def _busy(self, there: list[Post], fault: Fault) -> list[Post]:
        """Return the workers that are in the middle of a step; all, if it has been waited for."""
        is_late = time.monotonic() > self._began + fault.at_s + _WAIT_FOR_STEP_S
        if is_late or not self.is_server_up:
            return there
        try:
            return [post for post in there if self.takeovers.claims_of(post.child)]
        except RedisError:
            return there

    def _kill(self, post: Post, lasting_s: float) -> None:
        still = ", which stood still," if post.is_stopped else ""
        post.child.kill()
        post.is_empty, post.is_stopped = True, False
        self._tell(f"{post.name}{still} killed (pid {post.child.pid}); next in {lasting_s} s")
        self._in(lasting_s, lambda: self._fill(post))

    def _stop(self, post: Post, lasting_s: float) -> None:
        child = post.child
        child.pause()
        post.is_stopped = True
        self._tell(f"{post.name} stopped (pid {child.pid}) for {lasting_s} s")
        self._in(lasting_s, lambda: self._continue(post, child))

    def _expect_takeover(self, post: Post, fault: Fault) -> None:
        # Nobody can be asked while the server is away; and then its return is what counts.
        if fault.victim is Victim.ORCHESTRATOR:
            self._disturbances.begin(post.name, LEASES_S)
            if self._others_at_work(post):
                self._disturbances.end(post.name)
            if self.is_server_up:
                self.takeovers.expect_partitions(post.name, post.child, fault)
        elif fault.action is Action.KILL and self.is_server_up:
            self.takeovers.expect_attempts(post.child)

    def _others_at_work(self, post: Post) -> bool:
        return any(
            other.victim is post.victim and not other.is_empty and not other.is_stopped
            for other in self._posts
            if other is not post
        )

    def _is_back(self, post: Post) -> None:
        """Where there was no orchestrator at all, this one is for the partitions of all."""
        if post.victim is Victim.ORCHESTRATOR:
            for each in self._posts:
                self._disturbances.end(each.name, START_S)

    def _fill(self, post: Post) -> None:
        post.child, post.is_empty = self._launch(post.victim), False
        self._is_back(post)
        self._tell(f"{post.name} started (pid {post.child.pid})")

    def _continue(self, post: Post, child: Child) -> None:
        if post.child is child and post.is_stopped:  # else it was killed meanwhile
            child.resume()
            post.is_stopped = False
            self._is_back(post)
            self._tell(f"{post.name} continued (pid {child.pid})")

    # --- children of workers ---------------------------------------------------------------------

    def _hit_child(self, fault: Fault) -> bool:
        found = [
            (post, pid, born)
            for post in self._posts
            if post.victim is Victim.WORKER and not post.is_empty and not post.is_stopped
            for pid, born in children_of(post.child.pid)
            if (pid, born) not in self._stopped_children and age_s(born) >= _CHILD_AGE_S_MIN
        ]
        if not found:
            return False
        post, pid, born = found[fault.which % len(found)]
        self._expect_takeover(post, fault)
        is_kill = fault.action is Action.KILL
        if not send(signal.SIGKILL if is_kill else signal.SIGSTOP, pid, born):
            return False
        if is_kill:
            self._tell(f"child {pid} of {post.name} killed")
        else:
            self._stopped_children.add((pid, born))
            self._tell(f"child {pid} of {post.name} stopped for {fault.lasting_s} s")
            self._in(fault.lasting_s, lambda: self._continue_child(pid, born))
        return True

    def _continue_child(self, pid: int, born: str) -> None:
        self._stopped_children.discard((pid, born))
        if send(signal.SIGCONT, pid, born):
            self._tell(f"child {pid} continued")

    # --- the server ------------------------------------------------------------------------------

    def _hit_server(self, fault: Fault) -> bool:
        if not self.is_server_up:
            return False
        self.is_server_up = False
        self._disturbances.begin("server")
        pid = self._stack.server.pid
        if fault.action is Action.KILL:
            self._stack.server.kill()
            self._tell(f"server killed (pid {pid}); started again in {fault.lasting_s} s")
            self._in(fault.lasting_s, self._start_server)
        else:
            os.kill(pid, signal.SIGSTOP)
            self._tell(f"server stopped (pid {pid}) for {fault.lasting_s} s")
            self._in(fault.lasting_s, lambda: self._continue_server(pid))
        return True

    def _start_server(self) -> None:
        self._stack.server.start()
        self.is_server_up = True
        self._disturbances.end("server", GRACE_S)
        self._tell(f"server started (pid {self._stack.server.pid}) on the same data")

    def _continue_server(self, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)
        self.is_server_up = True
        self._disturbances.end("server", GRACE_S)
        self._tell(f"server continued (pid {pid})")
