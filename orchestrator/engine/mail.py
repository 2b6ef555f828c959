"""What starts, signals and stops make of a run: inputs, or notes that say why not."""

import platform
from collections.abc import Mapping

from orchestrator.core import events as e
from orchestrator.core.values import Json
from orchestrator.engine.turn import Turn

#: Numbered decisions of this engine; a run keeps those it was born with (S9).
FLAGS = (1,)


class Mail:
    """Takes a run's messages from outside."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def start(self, body: Mapping[str, Json]) -> None:
        """The run begins: workflow, args, kwargs, request_id."""
        if self._turn.ledger.started:
            self._turn.reject("start", "the run has already started")
            return
        name = str(body.get("workflow"))
        definition = self._turn.tools.registry.get(name)
        args, kwargs = body.get("args") or [], body.get("kwargs") or {}
        assert isinstance(args, list)
        assert isinstance(kwargs, dict)
        self._turn.inputs.append(
            e.RunStarted(
                at_ms=self._turn.at_ms,
                workflow=name,
                version=definition.version if definition else "",
                args=args,
                kwargs=kwargs,
                seed=f"{self._turn.tools.rng.getrandbits(128):032x}",
                flags=list(FLAGS),
                fingerprint=definition.fingerprint if definition else "",
                engine=self._turn.tools.engine_version,
                python=platform.python_version(),
                request_id=str(body.get("request_id") or ""),
            )
        )

    def signal(self, body: Mapping[str, Json]) -> None:
        """A signal: signal, signal_id, payload; or rejected, with what was wrong at the door."""
        name, signal_id = str(body.get("signal")), str(body.get("signal_id"))
        if signal_id in self._turn.ledger.signal_ids:
            return  # The same signal again: it has its event.
        payload = body.get("payload")
        reason = self._why_refused(name, payload, body.get("rejected"))
        if reason:
            self._turn.draft.record(
                e.SignalRejected(
                    at_ms=self._turn.at_ms, signal=name, signal_id=signal_id, reason=reason
                )
            )
            return
        self._turn.inputs.append(
            e.SignalReceived(
                at_ms=self._turn.at_ms, signal=name, signal_id=signal_id, payload=payload
            )
        )

    def _why_refused(self, name: str, payload: Json, rejected: Json) -> str:
        if rejected:
            return str(rejected)
        definition = self._turn.definition
        if definition is None or definition.signals is None:
            return ""
        if name not in definition.signals:
            known = ", ".join(sorted(definition.signals)) or "none"
            return f"{self._turn.started.workflow} takes no signal {name!r}; it takes: {known}"
        try:
            definition.codec.decode(definition.signals[name], payload)
        except ValueError as error:
            return f"the payload does not validate: {error}"
        return ""

    def cancel(self, body: Mapping[str, Json]) -> None:
        """Somebody asks the run to stop: reason, request_id."""
        ledger, request_id = self._turn.ledger, str(body.get("request_id") or "")
        if request_id and request_id in ledger.request_ids:
            return  # The same request again: it has its event.
        if ledger.is_cancel_requested:
            self._turn.reject("cancel", "cancellation was already asked for")
            return
        self._turn.inputs.append(
            e.CancelRequested(
                at_ms=self._turn.at_ms, reason=str(body.get("reason") or ""), request_id=request_id
            )
        )

    def terminate(self, body: Mapping[str, Json]) -> None:
        """Somebody ends the run: reason, request_id."""
        ledger, request_id = self._turn.ledger, str(body.get("request_id") or "")
        if request_id and request_id in ledger.request_ids:
            return  # The same request again: it has its event.
        if ledger.is_terminate_requested:
            self._turn.reject("terminate", "termination was already asked for")
            return
        self._turn.inputs.append(
            e.TerminateRequested(
                at_ms=self._turn.at_ms, reason=str(body.get("reason") or ""), request_id=request_id
            )
        )
