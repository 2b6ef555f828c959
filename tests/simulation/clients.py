"""Clients and people: they start, signal, cancel, ask and decide, and some die meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.client.session import RESEND_PAUSE_MS, SENDS_MAX
from orchestrator.core.errors import StoreUnavailable
from orchestrator.core.values import Json
from orchestrator.store.ports import Kind, PostedAnswer, StartAnswer
from tests.simulation import histories, programs
from tests.simulation.scheduler import Actor, Scheduler
from tests.simulation.session import Session
from tests.simulation.watch import Acknowledged, Watch

_QUERY_MS = 10_000
_ASK_MS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A query's answer: of which run, and what it said."""

    workflow_id: str
    run: int
    body: Mapping[str, Any]


@dataclass(slots=True)
class Desk:
    """What all clients share.

    Attributes:
        sent: How many messages of a kind were sent to a run, answered or not.
        answers: Answers to queries.
    """

    scheduler: Scheduler
    watch: Watch
    sent: dict[str, int] = field(default_factory=dict)
    answers: list[Answered] = field(default_factory=list)
    requests: int = 0

    def new_id(self) -> str:
        """Return the id of a new request."""
        self.requests += 1
        return f"r{self.requests}"


class Client(Actor):
    """One process of a client."""

    def __init__(
        self, name: str, session_of: Callable[[Actor], Session], desk: Desk, rng: Random
    ) -> None:
        super().__init__(name)
        self.session: Any = session_of(self)
        self._desk = desk
        self._rng = rng

    def soon(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Do something later."""
        self._desk.scheduler.after(delay_ms, self, action)

    def start(
        self, workflow_id: str, program: list[Any], said: Mapping[str, Json] | None = None
    ) -> None:
        """Start a run of `workflow_id`; `said` is what its START says beside the input."""
        request_id = self._desk.new_id()
        body: dict[str, Json] = {"workflow": programs.WORKFLOW, "args": [program], "kwargs": {}}
        body["request_id"] = request_id
        body |= said or {}

        def answered(answer: Any) -> None:
            if answer.answer is not StartAnswer.EXISTS:
                self._acknowledged("start", workflow_id, answer.run, request_id, body)

        self._send(
            lambda: self.session.start(workflow_id, request_id=request_id, body=body), answered
        )

    def signal(self, workflow_id: str, name: str, payload: Json, signal_id: str = "") -> str:
        """Send a signal; return its id."""
        signal_id = signal_id or self._desk.new_id()
        body: dict[str, Json] = {"signal": name, "signal_id": signal_id, "payload": payload}
        self._post("signal", Kind.SIGNAL, workflow_id, body, signal_id)
        return signal_id

    def request(self, kind: Kind, workflow_id: str) -> None:
        """Ask a run to stop: cancel or terminate."""
        request_id = self._desk.new_id()
        body: dict[str, Json] = {"reason": "enough", "request_id": request_id}
        self._post(kind.value, kind, workflow_id, body, request_id)

    def query(self, workflow_id: str) -> None:
        """Ask a run for its trace, and wait for the answer for a while."""
        reply_to = self._desk.new_id()
        until_ms = self._desk.scheduler.now_ms + _QUERY_MS
        body: dict[str, Json] = {
            "query": "trace",
            "args": [],
            "reply_to": reply_to,
            "deadline_ms": until_ms,
        }

        def look(run: int) -> None:
            if self._desk.scheduler.now_ms > until_ms:
                return
            try:
                answer = self.session.wait_for_answer(workflow_id, reply_to, wait_ms=0)
            except StoreUnavailable:
                answer = None
            if answer is None:
                self.soon(_ASK_MS, lambda: look(run))
            else:
                self._desk.answers.append(Answered(workflow_id=workflow_id, run=run, body=answer))

        def answered(posted: Any) -> None:
            if posted.answer is PostedAnswer.POSTED:
                look(posted.run)

        self._send(lambda: self.session.post(workflow_id, Kind.QUERY, body), answered)

    def decide(self, workflow_id: str, step: int, decision: str) -> None:
        """Decide about a parked step; not repeated after a lost answer."""
        name = self._desk.new_id()
        body: dict[str, Json] = {"step": step, "decision": decision, "reason": "so", "by": name}
        self._post("decision", Kind.DECISION, workflow_id, body, name, sends_max=1)

    def _post(
        self,
        kind: str,
        kind_of_entry: Kind,
        workflow_id: str,
        body: dict[str, Json],
        name: str,
        sends_max: int = SENDS_MAX,
    ) -> None:
        def answered(posted: Any) -> None:
            if posted.answer is PostedAnswer.POSTED:
                self._acknowledged(kind, workflow_id, posted.run, name, body)

        self._send(lambda: self.session.post(workflow_id, kind_of_entry, body), answered, sends_max)

    def _acknowledged(
        self, kind: str, workflow_id: str, run: int, name: str, body: Mapping[str, Any]
    ) -> None:
        if self.session.is_stale and self._desk.watch.has_lost_tail:
            return  # The answer is as old as the server that gave it.
        self._desk.watch.acknowledge(
            Acknowledged(kind=kind, workflow_id=workflow_id, run=run, name=name, body=body)
        )

    def _send(
        self,
        call: Callable[[], Any],
        answered: Callable[[Any], None],
        sends_max: int = SENDS_MAX,
        pause_ms: int = RESEND_PAUSE_MS,
    ) -> None:
        """Send a request, again after each lost answer, as `client.session` does."""
        try:
            answer = call()
        except StoreUnavailable:
            if sends_max > 1:
                self.soon(pause_ms, lambda: self._send(call, answered, sends_max - 1, pause_ms * 2))
            return
        answered(answer)


class Person(Client):
    """Somebody who looks after parked steps.

    Args:
        ids: The workflows there are.
        is_calm: Whether the storm is over: then he decides every time, and in the end for good.
    """

    def __init__(
        self,
        session_of: Callable[[Actor], Session],
        desk: Desk,
        rng: Random,
        ids: list[str],
        is_calm: Callable[[], bool],
    ) -> None:
        super().__init__("person", session_of, desk, rng)
        self._ids = ids
        self._is_calm = is_calm
        self._looks = 0

    def look(self) -> None:
        """Look for parked steps, decide about some, and come back later."""
        self._looks += self._is_calm()
        self.soon(self._rng.randint(2_000, 6_000), self.look)
        for workflow_id in self._ids:
            try:
                parked = self._parked(workflow_id)
            except StoreUnavailable:
                return
            for step in parked:
                if self._is_calm() or self._rng.random() < 0.4:
                    self._decide(workflow_id, step)

    def _parked(self, workflow_id: str) -> list[int]:
        row = self.session.find_row(workflow_id)
        if row is None or row["status"] not in ("parked", "compensation_failed"):
            return []
        key = histories.key_of(workflow_id, int(row["run"]))
        return histories.parked(histories.decoded(self.session.read_history(key)))

    def _decide(self, workflow_id: str, step: int) -> None:
        decision = "retry"
        if self._looks > 3:
            decision = "done"
        elif self._rng.random() < 0.2:
            decision = self._rng.choice(("skip", "done", "nonsense"))
        self.decide(workflow_id, step, decision)
        if self._rng.random() < 0.1:
            self.decide(workflow_id, step + 1, "retry")


def plan(clients: list[Client], rng: Random, ids: list[str], storm_ms: int, grow: Any) -> None:
    """Let clients do things to the workflows `ids` for as long as the storm lasts.

    `grow` returns a new program, and what its start says beside it.
    """

    def at(client: Client, action: Callable[[], object], latest_ms: int = storm_ms) -> None:
        client.soon(rng.randint(0, latest_ms), lambda: (action(), None)[1])

    def signals(client: Client, id: str) -> None:
        for _ in range(rng.randint(0, 4)):
            name = rng.choice(("go", "go", "count", "nope"))
            payload: Json = "no number" if rng.random() < 0.1 else rng.randint(1, 3)
            signal_id = f"{id}-{name}-{rng.randint(1, 4)}"
            chosen = rng.choice(("", signal_id))
            at(client, lambda n=name, p=payload, c=chosen: client.signal(id, n, p, c))  # type: ignore[misc]

    for id in ids:
        first = rng.choice(clients)
        at(first, lambda c=first, i=id: c.start(i, *grow()), 2_000)  # type: ignore[misc]
        for client in rng.sample(clients, rng.randint(0, len(clients))):
            signals(client, id)
        for _ in range(rng.choice((0, 1, 3))):
            other = rng.choice(clients)
            at(other, lambda c=other, i=id: c.start(i, *grow()))  # type: ignore[misc]
        for chance, kind in ((0.2, Kind.CANCEL), (0.1, Kind.TERMINATE)):
            if rng.random() < chance:
                other = rng.choice(clients)
                at(other, lambda c=other, i=id, k=kind: c.request(k, i))  # type: ignore[misc]
        if rng.random() < 0.4:
            other = rng.choice(clients)
            at(other, lambda c=other, i=id: c.query(i))  # type: ignore[misc]
