"""Runs that go on from an event of a history (`core.resetting`), as their owners make them.

RS1  A reset is one commit: the run's end and the start of the next one of its id, as in `chains`.
RS2  The start names the run, the event and the chain's head there.  The new run's first commit has
     the copied events, what is given again, and the signals that came later, in their order; from
     then on it needs no other run's history.
RS3  What is asked of a history that has grown meanwhile is judged by the history as it is now.
RS4  Of a history that is not there any more no run goes on: the new one ends with that reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.core import events as e
from orchestrator.core.errors import ResetRefused
from orchestrator.core.names import reason_in
from orchestrator.core.resetting import Cut, Origin, changed, check, cut_at, start_of
from orchestrator.core.states import StepState
from orchestrator.core.values import Json, loads
from orchestrator.engine.attempts import Attempts
from orchestrator.engine.chains import reset_run
from orchestrator.engine.children import parent_in
from orchestrator.engine.deadlines import set_deadline
from orchestrator.engine.mail import Mail, chain_in
from orchestrator.engine.references import with_own_values
from orchestrator.engine.turn import Turn
from orchestrator.engine.visible import fields_of_copy
from orchestrator.store.ports import RunKey, StoredEvent, TimerKind


class Resets:
    """The end of a run that is reset, and the beginning of one that goes on from elsewhere."""

    def __init__(self, turn: Turn, mail: Mail, attempts: Attempts) -> None:
        self._turn = turn
        self._mail = mail
        self._attempts = attempts

    # --- the run that is reset -------------------------------------------------------------------

    def take(self, body: Mapping[str, Json]) -> e.RunReset | None:
        """Return the run's end, with the next run in the draft; None where it is not reset.

        The body: run, event, signals, despite_effects, request_id, reason, by.

        Raises:
            StoreUnavailable: No answer.
        """
        turn = self._turn
        request_id = str(body.get("request_id") or "")
        if request_id and request_id in (*turn.ledger.request_ids, turn.started.request_id):
            return None  # The same request again, which has opened this run.
        try:
            origin = self._origin(body, request_id)
        except ResetRefused as error:
            turn.reject("reset", str(error), request_id)
            return None
        reset_run(turn, origin)
        return e.RunReset(
            at_ms=turn.at_ms,
            event=origin.event,
            reason=origin.reason,
            by=origin.by,
            request_id=request_id,
        )

    def _origin(self, body: Mapping[str, Json], request_id: str) -> Origin:
        turn, key, event = self._turn, self._turn.key, body.get("event")
        if body.get("run") != key.run:
            raise ResetRefused(
                f"run {body.get('run')} was to be reset; run {key.run} goes on for it"
            )
        if not isinstance(event, int):
            raise ResetRefused(f"it names no event: {event!r}")
        if turn.ledger.compensating:
            raise ResetRefused("it undoes a saga; wait until that is through")
        stored = [*turn.tools.read_history(key), *turn.draft.events]
        # What this turn has recorded may be sealed already.
        known = [*_decoded(stored[: turn.draft.expected_seq]), *turn.draft.recorded]
        despite_effects = body.get("despite_effects") is True
        check(cut_at(known, event), is_fork=False, despite_effects=despite_effects)
        return Origin(
            id=key.workflow_id,
            run=key.run,
            event=event,
            head=stored[event - 1].head,
            signals=body.get("signals") is not False,
            request_id=request_id,
            reason=reason_in(body.get("reason")),
            by=reason_in(body.get("by")),
        )

    # --- the run that goes on --------------------------------------------------------------------

    def begin(self, body: Mapping[str, Json]) -> list[e.Event]:
        """Begin a run whose START has an origin; return the history that was copied.

        What is given again, and what came later, waits as inputs.  [] where nothing was copied: the
        run begins with its `RunStarted` among the inputs.

        Raises:
            StoreUnavailable: No answer.
        """
        data = body["origin"]
        assert isinstance(data, dict), "an origin is an object"
        origin, turn = Origin.from_json(data), self._turn
        source = turn.tools.read_history(RunKey(workflow_id=origin.id, run=origin.run))
        try:
            cut = changed(cut_at(_decoded(source), origin.event), origin.changed)
            if any(one.is_blank for one in source):
                raise ResetRefused("it was sealed, and no key opens it")
            if source[origin.event - 1].head != origin.head:
                raise ResetRefused(f"its event {origin.event} has another head")
        except ResetRefused as error:
            self._withdraw(body, f"it cannot go on from run {origin.run} of {origin.id}: {error}")
            return []
        if isinstance(cut.again, e.RunStarted):
            started = with_own_values(cut.again, turn.tools.blobs)
            self._mail.start({**body, **start_of(started)})
            self._give_later(cut, origin)
            return []
        self._copy(cut, origin, body)
        if cut.again is not None:
            again = with_own_values(cut.again, turn.tools.blobs)
            turn.inputs.append(replace(again, at_ms=turn.at_ms))
        self._give_later(cut, origin)
        return [*turn.draft.recorded]

    def _copy(self, cut: Cut, origin: Origin, body: Mapping[str, Json]) -> None:
        turn = self._turn
        for event in cut.kept:
            turn.draft.record(with_own_values(event, turn.tools.blobs))
        id, run = cut.made_by(origin)
        turn.draft.record(
            e.HistoryCopied(
                at_ms=turn.at_ms,
                id=id,
                run=run,
                event=cut.last,
                reason=origin.reason,
                by=origin.by,
                request_id=origin.request_id,
                stood_still_ms=max(0, turn.at_ms - cut.kept[-1].at_ms),
                parent=parent_in(body),
                **chain_in(body),
            )
        )
        turn.draft.fields |= fields_of_copy(turn.ledger)
        if turn.started.version:
            turn.draft.fields["version"] = turn.started.version
        if turn.ledger.blocked:
            turn.draft.blocked = True
        if "continued_from" in body:
            turn.draft.fields["start"] = ""
        set_deadline(turn, turn.started)

    def _give_later(self, cut: Cut, origin: Origin) -> None:
        if origin.signals:
            at_ms = self._turn.at_ms
            self._turn.inputs.extend(replace(one, at_ms=at_ms) for one in cut.later_signals())

    def _withdraw(self, body: Mapping[str, Json], reason: str) -> None:
        self._mail.start({**body, "withdrawn": True})
        self._turn.inputs.append(e.TerminateRequested(at_ms=self._turn.at_ms, reason=reason))

    def arm(self) -> None:
        """Put what the copied history left outstanding on its way, as far as it still is."""
        turn, draft = self._turn, self._turn.draft
        last = max((last for last, _ in turn.ledger.copied), default=0)
        for entry in turn.ledger.steps.values():
            if entry.scheduled.step > last:
                continue
            self._attempts.resume(entry)
            if entry.state is StepState.SCHEDULED and entry.is_paused:
                draft.hold(entry)
            if entry.is_cancel_requested:
                self._attempts.cancel(entry.scheduled.step)
        for number, due_at_ms in turn.ledger.timers.items():
            draft.set_timer(draft.timer(TimerKind.SLEEP, number), due_at_ms)


def _decoded(stored: Sequence[StoredEvent]) -> list[e.Event]:
    return [e.decode(loads(event.data)) for event in stored]  # type: ignore[arg-type]
