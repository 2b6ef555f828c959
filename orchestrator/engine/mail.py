"""What starts, signals and stops make of a run: inputs, or notes that say why not."""

import platform
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.core import events as e
from orchestrator.core.deadlines import timeouts_in
from orchestrator.core.flags import FLAGS
from orchestrator.core.last_ends import last_ends_in
from orchestrator.core.names import reason_in, why_no_name
from orchestrator.core.own_signals import why_refused
from orchestrator.core.run_retry import attempt_in
from orchestrator.core.seen import is_taken
from orchestrator.core.values import Json
from orchestrator.core.versions import to_start
from orchestrator.engine.chains import carried_in
from orchestrator.engine.children import parent_in
from orchestrator.engine.deadlines import set_deadline
from orchestrator.engine.externals import Externals
from orchestrator.engine.turn import Turn
from orchestrator.engine.visible import fields_of_started

_SEED = re.compile("[0-9a-f]{1,32}")


class Malformed(ValueError):
    """A start that nobody's client wrote."""


class Mail:
    """Takes a run's messages from outside."""

    def __init__(self, turn: Turn, externals: Externals) -> None:
        self._turn = turn
        self._externals = externals

    def start(self, body: Mapping[str, Json]) -> None:
        """The run begins: workflow, args, kwargs, request_id."""
        if self._turn.ledger.started:
            self._turn.reject("start", "the run has already started")
            return
        name = str(body.get("workflow"))
        named = str(body["version"]) if "version" in body else None
        definition = to_start(self._turn.tools.registry, name, named)
        version = definition.version if definition else named or ""
        args, kwargs = body.get("args") or [], body.get("kwargs") or {}
        scheduled = body.get("scheduled")
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise Malformed("a start has a list of args and an object of kwargs")
        at_ms = self._turn.at_ms
        started = e.RunStarted(
            at_ms=at_ms,
            workflow=name,
            version=version,
            is_pinned=named is not None,
            args=args,
            kwargs=kwargs,
            seed=self._seed(body),
            flags=list(FLAGS),
            fingerprint=definition.fingerprint if definition else "",
            engine=self._turn.tools.engine_version,
            python=platform.python_version(),
            request_id=str(body.get("request_id") or ""),
            parent=parent_in(body),
            search_attributes=_object_in(body, "search_attributes"),
            memo=_object_in(body, "memo"),
            summary=str(body.get("summary") or ""),
            details=str(body.get("details") or ""),
            **chain_in(body),
            scheduled=scheduled if isinstance(scheduled, dict) else {},
            **timeouts_in(body, at_ms),
            **attempt_in(body),
            **last_ends_in(body),
            headers=_object_in(body, "headers"),
            is_withdrawn=body.get("withdrawn") is True,
        )
        self._turn.inputs.append(started)
        set_deadline(self._turn, started)
        self._turn.draft.fields.update(fields_of_started(started))
        if version:
            self._turn.draft.fields["version"] = version
        self._turn.inputs.extend(carried_in(body, at_ms))
        if "continued_from" in body:
            self._turn.draft.fields["start"] = ""

    def _seed(self, body: Mapping[str, Json]) -> str:
        """Return the seed of the run that this one goes on from, or a new one."""
        seed = body.get("seed")
        if isinstance(seed, str) and _SEED.fullmatch(seed):
            return seed
        return f"{self._turn.tools.rng.getrandbits(128):032x}"

    def signal(self, body: Mapping[str, Json]) -> None:
        """A signal: signal, signal_id, payload; or rejected, with what was wrong at the door."""
        name, signal_id = self._named("signal", body)
        if not name:
            return
        if is_taken(self._turn.ledger, body):
            return  # The same signal again: it has its event, here or earlier in the chain.
        payload = body.get("payload")
        reason = self._why_refused(name, payload, body.get("rejected"))
        self._externals.taken(body, rejected=reason)
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

    def update(self, body: Mapping[str, Json]) -> None:
        """An update: update, update_id, args."""
        args = body.get("args")
        name, update_id = self._named("update", body)
        if name and not is_taken(self._turn.ledger, body):  # Else it has its event.
            self._turn.inputs.append(
                e.UpdateReceived(
                    at_ms=self._turn.at_ms,
                    update=name,
                    update_id=update_id,
                    args=args if isinstance(args, list) else [],
                )
            )

    def _named(self, what: str, body: Mapping[str, Json]) -> tuple[str, str]:
        """Return a message's name and id; two empty ones where it is refused for want of them."""
        name, message_id = body.get(what), body.get(f"{what}_id")
        problem = why_no_name(name)
        if not problem and (problem := why_no_name(message_id)):
            problem = f"its {what}_id: {problem}"
        if problem:
            self._turn.reject(what, problem)
            return "", ""
        return str(name), str(message_id)

    def _why_refused(self, name: str, payload: Json, rejected: Json) -> str:
        if rejected:
            return str(rejected)
        own = why_refused(name, payload, self._turn.started.flags)
        if own is not None:
            return own
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
        reason, request_id = reason_in(body.get("reason")), reason_in(body.get("request_id"))
        if self._is_new("cancel", body, request_id, asked=self._turn.ledger.is_cancel_requested):
            at_ms = self._turn.at_ms
            event = e.CancelRequested(at_ms=at_ms, reason=reason, request_id=request_id)
            self._turn.inputs.append(event)

    def terminate(self, body: Mapping[str, Json]) -> None:
        """Somebody ends the run: reason, request_id."""
        reason, request_id = reason_in(body.get("reason")), reason_in(body.get("request_id"))
        if self._is_new(
            "terminate", body, request_id, asked=self._turn.ledger.is_terminate_requested
        ):
            at_ms = self._turn.at_ms
            event = e.TerminateRequested(at_ms=at_ms, reason=reason, request_id=request_id)
            self._turn.inputs.append(event)

    def _is_new(
        self, request: str, body: Mapping[str, Json], request_id: str, *, asked: bool
    ) -> bool:
        parent = parent_in(body)
        if parent and parent != self._turn.started.parent:
            return False  # Meant for a child of that name, which this run is not.
        if request_id and request_id in self._turn.ledger.request_ids:
            return False  # The same request again: it has its event.
        self._externals.taken(body)
        if asked:
            self._turn.reject(request, f"{request} was already asked for")
        return not asked


def chain_in(body: Mapping[str, Json]) -> dict[str, Any]:
    """Return what a start says of the chain that its run is part of; {} for a chain of one."""
    names = ("continued_from", "first_run", "seen", "watchers")
    return {name: body[name] for name in names if body.get(name)}


def _object_in(body: Mapping[str, Json], name: str) -> dict[str, Json]:
    value = body.get(name)
    return value if isinstance(value, dict) else {}
