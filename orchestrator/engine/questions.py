"""Queries: read-only answers from a run in memory, which leave no trace in its history."""

from collections.abc import Callable, Mapping

from orchestrator.core.errors import ActivationFailed, ApplicationError, UsageError
from orchestrator.core.execution import Execution
from orchestrator.core.values import Json
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import Answer


class Questions:
    """Collects a run's queries until everything else that arrived with them is worked through.

    So they see all of it, and one that goes wrong, which may leave the execution unfit for more
    (`is_spoiled`), costs nothing but a replay.
    """

    def __init__(self, turn: Turn, execution: Callable[[], Execution | None]) -> None:
        self._turn = turn
        self._execution = execution
        self._waiting: list[Mapping[str, Json]] = []
        self.answers: list[Answer] = []
        self.is_spoiled = False

    def take(self, body: Mapping[str, Json]) -> None:
        """A query: query, args, reply_to, deadline_ms."""
        self._waiting.append(body)

    def answer_all(self) -> None:
        """Work out the answers; the owner hands them out."""
        for body in self._waiting:
            deadline_ms = body.get("deadline_ms")
            if isinstance(deadline_ms, int) and deadline_ms < self._turn.at_ms:
                continue  # Its reader has gone.
            args = body.get("args")
            answer = self._answer(str(body.get("query")), args if isinstance(args, list) else [])
            self.answers.append(Answer(reply_to=str(body.get("reply_to")), body=answer))
        self._waiting = []

    def _answer(self, name: str, args: list[Json]) -> dict[str, Json]:
        execution, key = self._execution(), self._turn.key
        if execution is None or self.is_spoiled:
            blocked = self._turn.ledger.blocked
            reason = f"blocked: {blocked.message}" if blocked else "not in a state to; ask again"
            if self._turn.ledger.started is None:
                reason = "it has not begun"
            return {"error": "RunBlocked", "message": f"{key.workflow_id} cannot answer; {reason}"}
        try:
            return {"ok": self._turn.tools.watch(str(key), lambda: execution.query(name, args))}
        except (UsageError, ApplicationError, ActivationFailed) as error:
            self.is_spoiled = not execution.is_usable or isinstance(error, ActivationFailed)
            return {"error": type(error).__name__, "message": str(error)}
