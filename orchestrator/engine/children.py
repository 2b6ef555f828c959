"""What children mean for the store: letters to them, and what comes back.

A child's run knows who ordered it by the first event of its history, and tells it of its end in
the very commit that ends it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.core import events as e
from orchestrator.core.failure import Failure
from orchestrator.core.values import Json
from orchestrator.engine.endings import handed_on
from orchestrator.engine.results import handed_over, taken_over
from orchestrator.engine.turn import Turn
from orchestrator.store.ports import Kind, Letter, RunKey

#: What a parent's end does to a child, by the child's policy.
_STOPS = {"terminate": Kind.TERMINATE, "request_cancel": Kind.CANCEL}

#: The status of a child that tells its parent which run it is.
STARTED = "started"


def parent_in(body: Mapping[str, Json]) -> dict[str, Json]:
    """Return which run ordered what `body` asks for: workflow, run, child; {} for none."""
    parent = body.get("parent")
    return parent if isinstance(parent, dict) else {}


class Children:
    """A run's children, and its own parent."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def schedule(self, ordered: e.ChildScheduled) -> None:
        """Send a start; `ordered` has the input itself, not a reference to it."""
        request = f"{self._turn.key}.child-{ordered.child}"
        body: dict[str, Json] = {
            "workflow": ordered.workflow,
            "args": ordered.args,
            "kwargs": ordered.kwargs,
            "request_id": request,
            "parent": self._as_parent(ordered.child),
        }
        body |= ordered.said
        if ordered.scheduled:
            body["scheduled"] = ordered.scheduled
            body |= handed_on(self._turn.ledger.last_ends, self._turn.tools.blobs)
        headers = self._turn.started.headers if ordered.headers is None else ordered.headers
        if headers:
            body["headers"] = headers
        if ordered.announced:
            body["announced"] = True
        self._turn.draft.letters.append(
            Letter(kind=Kind.START, workflow_id=ordered.id, request=request, body=body)
        )

    def cancel(self, asked: e.ChildCancelRequested) -> None:
        """Ask a child to stop, or end it."""
        entry = self._turn.ledger.children.get(asked.child)
        if entry is not None:
            kind = Kind.TERMINATE if asked.terminate else Kind.CANCEL
            asker = self._turn.as_asker(asked.external) if asked.external else {}
            self._stop(entry.scheduled, kind, f"{self._turn.key} asks for it", asker)

    def leave(self, ending: e.Event) -> None:
        """Do what the policies say of children that outlive this run; before it is appended."""
        for entry in self._turn.ledger.children.values():
            kind = _STOPS.get(entry.scheduled.parent_close_policy)
            if kind is not None:
                reason = f"{type(ending).__name__} of its parent {self._turn.key}"
                self._stop(entry.scheduled, kind, reason)

    def tell_parent(self, status: str, *, result: Json, failure: Failure | None) -> None:
        """Tell the run that ordered this one, if one did, how it ended."""
        parent = self._turn.started.parent
        if not parent:
            return
        body: dict[str, Json] = {
            "child": parent["child"],
            "for_run": parent["run"],
            "run": self._turn.key.run,
            "status": status,
        }
        if failure is None:
            body |= handed_over(result, self._turn.tools.blobs)
        else:
            body["failure"] = failure.as_json()
        workflow_id, run = str(parent["workflow"]), int(str(parent["run"]))
        self._turn.draft.letters.append(
            Letter(kind=Kind.CHILD, workflow_id=workflow_id, run=run, body=body)
        )

    def take_end(self, body: Mapping[str, Json]) -> None:
        """A child has begun, or ended, or never begins: child, run, status, result or failure."""
        number, run, failure = body.get("child"), body.get("run"), body.get("failure")
        if number not in self._turn.ledger.children:
            return  # The same end again, or a beginning after it: it has its event.
        assert isinstance(number, int)
        assert isinstance(run, int)
        if body.get("status") == STARTED:
            if not self._turn.ledger.children[number].run:  # Else it has its event.
                at_ms = self._turn.at_ms
                self._turn.inputs.append(e.ChildStarted(at_ms=at_ms, child=number, run=run))
        else:
            told = Failure.from_json(failure) if isinstance(failure, dict) else None
            self._turn.inputs.append(self._end(body, number, run, told))

    def _end(
        self, body: Mapping[str, Json], child: int, run: int, failure: Failure | None
    ) -> e.ChildCompleted | e.ChildFailed:
        turn = self._turn
        result: Json | Failure = failure
        if failure is None:
            ended = RunKey(workflow_id=turn.ledger.children[child].scheduled.id, run=run)
            result = taken_over(body, ended, turn.tools.blobs, turn.tools.read_history)
        if isinstance(result, Failure):
            kind = str(body.get("status"))
            return e.ChildFailed(at_ms=turn.at_ms, child=child, run=run, kind=kind, failure=result)
        return e.ChildCompleted(at_ms=turn.at_ms, child=child, run=run, result=result)

    def _stop(
        self,
        ordered: e.ChildScheduled,
        kind: Kind,
        reason: str,
        asker: Mapping[str, Json] = MappingProxyType({}),
    ) -> None:
        # A stranger that has the id meanwhile is not stopped: it knows that it has another parent.
        body: dict[str, Json] = {
            "reason": reason,
            "request_id": f"{self._turn.key}.child-{ordered.child}.{kind.value}",
            "parent": self._as_parent(ordered.child),
        }
        if asker:
            body["asker"] = dict(asker)
        self._turn.draft.letters.append(Letter(kind=kind, workflow_id=ordered.id, body=body))

    def _as_parent(self, child: int) -> dict[str, Json]:
        key = self._turn.key
        return {"workflow": key.workflow_id, "run": key.run, "child": child}
